import json
import os

import helpers
import pytest
from etils import epath
from orbax import checkpoint as ocp

from metastyle_jax.storage import checkpoints, run_folder, tensor_files
from metastyle_jax.training.logs import metric_log


def test_a_second_run_in_one_folder_is_refused_until_the_first_ends(tmp_path):
    folder = tmp_path / 'run'
    with (
        run_folder.lock(folder),
        pytest.raises(
            tensor_files.CheckpointError,
            match=f'another run, process {os.getpid()}, uses',
        ),
        run_folder.lock(folder),
    ):
        pass
    with run_folder.lock(folder):
        pass


def test_a_killed_run_leaves_no_lock(tmp_path):
    helpers.run_python(
        """
        import os, signal, sys
        from metastyle_jax.storage import run_folder
        with run_folder.lock(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path,
    )
    assert (tmp_path / '.lock').read_text()
    with run_folder.lock(tmp_path):
        pass


def test_locking_does_nothing_where_it_cannot(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, 'fcntl', None)
    with run_folder.lock(tmp_path), run_folder.lock(tmp_path):
        pass
    (tmp_path / 'file').write_text('')
    with (
        pytest.raises(tensor_files.CheckpointError, match='workdir=.*file: it cannot be used'),
        run_folder.lock(tmp_path / 'file'),
    ):
        pass


CONFIG = {'inner': {'steps': 3, 'rate': 1e-3}, 'log': {'every': 10}, 'sizes': (1, 2), 'name': None}


def test_resuming_needs_the_same_configuration_but_for_what_may_differ(tmp_path):
    run_folder.write_config(tmp_path / 'run', CONFIG)
    run_folder.write_config(tmp_path / 'run', CONFIG)
    logged = CONFIG | {'log': {'every': 20}}
    with pytest.raises(tensor_files.CheckpointError, match='log.every: 10 -> 20'):
        run_folder.write_config(tmp_path / 'run', logged, may_differ={'lo', 'log.ever'})
    for may_differ in ({'log'}, {'log.every'}):
        run_folder.write_config(tmp_path / 'run', logged, may_differ=may_differ)
    assert json.loads((tmp_path / 'run' / 'config.json').read_text())['log'] == {'every': 20}
    changed = CONFIG | {'inner': {'steps': 5}, 'new': 1}
    message = (
        r'inner.rate: 0.001 -> absent; inner.steps: 3 -> 5; new: absent -> 1\): choose another'
    )
    with pytest.raises(tensor_files.CheckpointError, match=message):
        run_folder.write_config(tmp_path / 'run', changed, may_differ={'log'})
    assert os.listdir(tmp_path / 'run') == ['config.json']


@pytest.mark.parametrize('content', ['', '{', '[1]', '[' * 100_000], ids=len)
def test_a_broken_configuration_is_named(tmp_path, content):
    (tmp_path / 'config.json').write_text(content)
    with pytest.raises(tensor_files.CheckpointError, match='config.json .* another folder'):
        run_folder.write_config(tmp_path, CONFIG)


def test_a_configuration_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(tensor_files.CheckpointError, match='file'):
        run_folder.write_config(tmp_path / 'file' / 'run', CONFIG)


def test_the_configuration_is_read_back(tmp_path):
    assert run_folder.read_config(tmp_path) is None
    run_folder.write_config(tmp_path, CONFIG)
    assert run_folder.read_config(tmp_path) == json.loads(json.dumps(CONFIG))


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A bucket `gs://bucket`, whose objects are files of a folder."""
    monkeypatch.setattr(run_folder, '_BUCKETS', {'gs': 'json'})  # a package that is there
    local = lambda path: str(path).replace('gs://bucket', str(tmp_path))
    redirected = {
        name: lambda original, path, *args, **kwargs: original(local(path), *args, **kwargs)
        for name in ('open', 'exists', 'isdir', 'mkdir', 'remove')
    }
    with epath.testing.mock_epath(**redirected):
        yield tmp_path


def test_the_scheme_of_a_bucket_passes_through(monkeypatch):
    monkeypatch.setattr(run_folder, '_BUCKETS', {'gs': 'json'})
    path = run_folder.to_path('gs://bucket/run')
    assert str(path / 'checkpoints') == 'gs://bucket/run/checkpoints'
    assert str(run_folder.absolute(run_folder.to_path(path))) == 'gs://bucket/run'
    assert run_folder.is_bucket(path)
    assert not run_folder.is_bucket(run_folder.to_path('runs/coco'))
    opened = []
    monkeypatch.setattr(ocp, 'CheckpointManager', lambda folder, **_: opened.append(str(folder)))
    monkeypatch.setattr(type(path), 'mkdir', lambda *_, **__: None)
    checkpoints.Manager(path / 'checkpoints')
    assert opened == ['gs://bucket/run/checkpoints']


@pytest.mark.parametrize(
    ('path', 'message'), [('ftp://host/run', 'ftp'), ('gs://bucket/run', r'metastyle_jax\[gs\]')]
)
def test_places_that_cannot_be_reached_are_refused(monkeypatch, path, message):
    monkeypatch.setattr(run_folder, '_BUCKETS', {'gs': 'nowhere_to_be_found'})
    with pytest.raises(tensor_files.CheckpointError, match=message):
        run_folder.to_path(path)


def test_configuration_and_log_of_a_run_in_a_bucket(bucket, caplog):
    folder = run_folder.to_path('gs://bucket/run')
    (bucket / 'run').mkdir()
    with run_folder.lock(folder):
        run_folder.write_config(folder, CONFIG)
    assert 'cannot be locked' in caplog.text
    run_folder.write_config(folder, CONFIG)
    assert run_folder.read_config(folder)['name'] is None
    for start in (0, 1):  # begun, then resumed after the first step
        log = metric_log.MetricLog(folder, total=2, start=start, images=1)
        for step in (1, 2):
            log.add(step, {'outer': float(step)})
            log.flush(step)
        log.close()
    lines = (bucket / 'run' / 'metrics.jsonl').read_text().splitlines()
    assert [json.loads(line)['step'] for line in lines] == [1, 1, 2]
    assert not (bucket / 'run' / 'tensorboard').exists()
