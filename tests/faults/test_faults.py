"""What happens to a run: killed, its files damaged, the disk full, pictures gone, the clock wrong.

Afterwards θ is that of an undisturbed run, bit for bit, or the error is clear and nothing is lost.
A few of each are tried; `FAULTS=full` tries 30 kills and every file of a checkpoint.
"""

import functools
import json
import logging
import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import threading
import time

import compiling
import fault_runs
import helpers
import jax
import long_run
import pytest
import training_helpers

from metastyle_jax.data import file_sources
from metastyle_jax.storage import checkpoints, theta_files
from metastyle_jax.training import training_state

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs processes that are forked')
FULL = os.environ.get('FAULTS') == 'full'
KILLS = 30 if FULL else 2
STEPS = 12
RANDOM = random.Random(1)
PLAIN = () if FULL else ('--config.inner.steps=0',)  # compiles sooner
TRAIN = (*PLAIN, f'--config.steps={STEPS}')


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    server = fault_runs.Server(tmp_path_factory.mktemp('server'))
    yield server
    server.close()


@pytest.fixture(scope='module')
def undisturbed(server, tmp_path_factory):
    """The folder of a run that nothing disturbed, and the seconds that it took."""
    folder = tmp_path_factory.mktemp('undisturbed') / 'run'
    code, log = server.train(folder, *TRAIN)
    assert code == 0, log
    begun = time.monotonic()
    again = folder.with_name('again')
    assert server.train(again, *TRAIN)[0] == 0  # compiled by now
    assert fault_runs.fingerprint(again, STEPS) == fault_runs.fingerprint(folder, STEPS)
    return folder, time.monotonic() - begun


def assert_undisturbed(folder, undisturbed):
    """θ is the same to the last bit, and each step is logged once."""
    reference = undisturbed[0]
    assert fault_runs.fingerprint(folder, STEPS) == fault_runs.fingerprint(reference, STEPS)
    assert not fault_runs.half_written(folder)
    lines = [logged(run) for run in (folder, reference)]
    assert lines[0] == lines[1]


def logged(folder):
    """Step and loss of each line of the log."""
    lines = map(json.loads, (folder / 'metrics.jsonl').read_text().splitlines())
    return [(line['step'], line['outer']) for line in lines]


def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(
    server, undisturbed, tmp_path, record_property
):
    rng = random.Random(0)
    folder, kills, while_writing, finished = tmp_path / 'run0', 0, 0, 0
    while kills < KILLS:
        before = max(fault_runs.steps(folder), default=0)
        process = server.start(folder, *TRAIN)
        if kills % 2:  # while a checkpoint is written
            saves = rng.randint(1, 3)

            def writes_one(folder=folder, wanted=before + saves):
                newest = max(fault_runs.steps(folder), default=0)
                return newest >= wanted - 1 and fault_runs.half_written(folder)

            fault_runs.wait_for(writes_one, process, pause=0.0002)
        else:
            process.join(rng.uniform(0.05, 1) * undisturbed[1])
        process.kill()
        code, log = fault_runs.finish(process, folder)
        if code == -9:
            kills += 1
            while_writing += bool(fault_runs.half_written(folder))
            assert max(fault_runs.steps(folder), default=0) >= before, 'a checkpoint was lost'
            if fault_runs.steps(folder):
                theta_files.load_theta(folder)  # what there is can be used at once
        else:
            assert code == 0, log
            assert_undisturbed(folder, undisturbed)
            finished += 1
            folder = tmp_path / f'run{finished}'
    code, log = server.train(folder, *TRAIN)
    assert code == 0, log
    assert_undisturbed(folder, undisturbed)
    print(f'{kills} kills, {while_writing} while a checkpoint was written; {finished + 1} runs')
    record_property('kills', (kills, while_writing, finished + 1))
    assert while_writing >= kills // 2


def damages(folder):
    """Each file of a checkpoint, and the ways in which it is damaged."""
    files = sorted(file for file in folder.rglob('*') if file.is_file() and file.stat().st_size)
    for file in files if FULL else files[::5]:
        for damage in (pathlib.Path.unlink, cut, *([flip] * (8 if FULL else 1))):
            yield file.relative_to(folder), damage


def cut(file):
    os.truncate(file, file.stat().st_size // 2)


def flip(file):
    data = bytearray(file.read_bytes())
    data[RANDOM.randrange(len(data))] ^= 1 << RANDOM.randrange(8)
    file.write_bytes(data)


def scatter(file):
    """Flips a bit in every 64th byte: a single one may lie where nothing is read."""
    data = bytearray(file.read_bytes())
    for place in range(0, len(data), 64):
        data[place] ^= 1 << RANDOM.randrange(8)
    file.write_bytes(data)


def test_no_damage_to_a_checkpoint_passes_for_the_whole(undisturbed, tmp_path, caplog):
    """Whatever one file suffers, what is read is what was saved, at this step or the one before."""
    original = undisturbed[0] / 'checkpoints'
    states = {}
    last, before = sorted(fault_runs.steps(undisturbed[0]))[-1:-3:-1]
    template = None
    found = {'whole': 0, 'before': 0}
    for number, (file, damage) in enumerate(damages(original / str(last))):
        folder = tmp_path / str(number)
        for step in (last, before):
            shutil.copytree(original / str(step), folder / 'checkpoints' / str(step))
        if template is None:
            template, states = whole(folder / 'checkpoints', last, before)
        damage(folder / 'checkpoints' / str(last) / file)
        caplog.clear()
        with (
            caplog.at_level(logging.WARNING),
            checkpoints.Manager(folder / 'checkpoints') as manager,
        ):
            restored = manager.restore(template)
        helpers.assert_identical(restored.state, states[restored.step].state)
        assert restored.data_state == states[restored.step].data_state, (file, damage)
        if restored.step == last:
            found['whole'] += 1
        else:
            found['before'] += 1
            assert f'{last} is damaged' in caplog.text, (file, damage)
        shutil.rmtree(folder)
    print(found)
    assert found['before'] >= 3, 'what is read must be among what is damaged'


def whole(folder, *chosen):
    """The structure of a state, and what is restored from each of some checkpoints."""
    config = training_helpers.file_config('quickstart.py:tiny', model__width=2)
    state = jax.eval_shape(lambda: training_state.create_state(config, jax.random.key(0)))
    states = {}
    for step in chosen:
        lone = folder.with_name(f'lone{step}')
        shutil.copytree(folder / str(step), lone / str(step))
        with checkpoints.Manager(lone) as manager:
            states[step] = manager.restore(state)
    return state, states


@pytest.mark.parametrize('damage', [cut, pathlib.Path.unlink, scatter])
def test_a_run_with_a_damaged_checkpoint_goes_on_from_the_one_before(
    server, undisturbed, tmp_path, damage
):
    folder = shutil.copytree(undisturbed[0], tmp_path / 'run')
    damage(max((folder / 'checkpoints' / str(STEPS) / 'state').rglob('*'), key=size))
    code, log = server.train(folder, *TRAIN)
    assert code == 0, log
    assert f'{STEPS} is damaged' in log
    assert f'resuming after step {STEPS - 1}' in log
    assert_undisturbed(folder, undisturbed)


def size(path):
    """Bytes of a file that Orbax reads, 0 for others."""
    return path.stat().st_size if path.is_file() and 'process' not in str(path) else 0


def test_a_full_disk_is_told_and_with_more_space_the_run_goes_on(server, undisturbed, tmp_path):
    needed = sum(file.stat().st_blocks * 512 for file in undisturbed[0].rglob('*'))
    with fault_runs.small_disk(tmp_path / 'disk', needed // 1024) as mounted:
        if not mounted:
            pytest.skip('may not mount a file system')
        folder = tmp_path / 'disk' / 'run'
        filler = tmp_path / 'disk' / 'filler'
        filler.write_bytes(bytes(needed // 2))
        code, log = server.train(folder, *TRAIN)
        assert code == 2, log
        assert 'Traceback' not in log
        assert 'ree some space' in log.splitlines()[-1]
        filler.unlink()
        if fault_runs.steps(folder):
            theta_files.load_theta(folder)
        subprocess.run(['mount', '-o', f'remount,size={4 * needed}', filler.parent], check=True)
        code, log = server.train(folder, *TRAIN)
        assert code == 0, log
        assert_undisturbed(folder, undisturbed)


def limit_files(folder):
    """A hook: after the second checkpoint no file can hold the tensors of another."""

    def watch():
        while len(fault_runs.steps(folder)) < 2:
            time.sleep(0.001)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        largest = max(map(size, (folder / 'checkpoints' / '1').rglob('*')))
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, hard))

    threading.Thread(target=watch, daemon=True).start()


def test_when_no_file_can_grow_the_run_stops_and_can_go_on(server, undisturbed, tmp_path):
    folder = tmp_path / 'run'
    code, log = server.train(folder, *TRAIN, hook=limit_files)
    if code == 0:
        pytest.skip('the run was done before the limit came')
    assert code == 2, log
    assert 'Traceback' not in log
    assert log.splitlines()[-1].startswith('metastyle-train: ')
    kept = fault_runs.steps(folder)
    assert kept
    code, log = server.train(folder, *TRAIN)
    assert f'resuming after step {kept[-1]}' in log
    assert code == 0, log
    assert_undisturbed(folder, undisturbed)


def test_pictures_that_vanish_stop_the_run_which_goes_on_when_they_are_back(
    server, tmp_path, undisturbed
):
    for number, (name, path) in enumerate(file_sources.sample_files('content').items()):
        target = tmp_path / 'photos' / f'{number}{path.suffix}'
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
        del name
    more = (
        *PLAIN, '--config.steps=100', f'--config.data.content=folder:{tmp_path}/photos',
        '--config.data.content_exclude=()', '--config.checkpoint.every=1000',
    )  # fmt: skip
    folder = tmp_path / 'run'
    process = server.start(folder, *more)
    fault_runs.wait_for(lambda: (folder / 'metrics.jsonl').exists(), process)
    (tmp_path / 'photos').rename(tmp_path / 'gone')
    code, log = fault_runs.finish(process, folder)
    assert code == 2, log
    assert 'damaged' in log.splitlines()[-1], log
    assert 'Traceback' not in log
    (stopped,) = fault_runs.steps(folder)  # all that was done is kept
    assert [step for step, _ in logged(folder)][-1] <= stopped
    (tmp_path / 'gone').rename(tmp_path / 'photos')
    more = (*more, f'--config.steps={stopped + 3}')
    assert server.train(folder, *more)[0] == 0
    assert server.train(tmp_path / 'reference', *more)[0] == 0
    last = stopped + 3
    assert fault_runs.fingerprint(folder, last) == fault_runs.fingerprint(
        tmp_path / 'reference', last
    )


def test_a_clock_that_jumps_back_changes_nothing(server, undisturbed, tmp_path):
    """A save may wait until the clock has caught up, no longer."""
    if not server.has_clock:
        pytest.skip('needs a C compiler on Linux')
    folder = tmp_path / 'run'
    half = (*TRAIN, f'--config.steps={STEPS // 2}')
    hook = functools.partial(fault_runs.turn_back_clock, seconds=10)
    code, log = server.train(folder, *half, hook=hook)
    assert code == 0, log
    assert float((folder / 'turned').read_text()) < -9
    lines = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    assert all(line['images_per_second'] > 0 for line in lines)
    code, log = server.train(folder, *TRAIN)
    assert code == 0, log
    assert f'resuming after step {STEPS // 2}' in log
    assert_undisturbed(folder, undisturbed)


@pytest.mark.parametrize(
    'hook',
    [
        fault_runs.shake_clock,
        functools.partial(fault_runs.turn_back_clock, seconds=fault_runs.DAY, limit=5),
    ],
    ids=['while_written', 'between'],
)
def test_a_clock_set_far_back_loses_no_checkpoint(server, undisturbed, tmp_path, hook):
    """Tensorstore may wait for the clock to catch up: the run must end then, and say so."""
    if not server.has_clock:
        pytest.skip('needs a C compiler on Linux')
    folder, codes = tmp_path / 'run', []
    for _ in range(20 if FULL else 1):
        before = fault_runs.steps(folder)
        begun = time.monotonic()
        code, log = server.train(folder, *TRAIN, hook=hook)
        assert time.monotonic() - begun < 60
        codes.append(code)
        if code:
            assert code == 2, log
            assert 'was not written within 5 s' in log.splitlines()[-1]
            assert fault_runs.steps(folder)[-3:] >= before[-3:]
        else:
            assert_undisturbed(folder, undisturbed)
            folder = tmp_path / f'run{len(codes)}'
    print(codes)
    code, log = server.train(folder, *TRAIN)
    assert code == 0, log
    assert_undisturbed(folder, undisturbed)


def test_a_second_run_in_a_folder_is_refused_and_the_first_goes_on(server, undisturbed, tmp_path):
    folder, other = tmp_path / 'run', tmp_path / 'other'
    other.symlink_to(folder)  # by whatever name
    first = server.start(folder, *TRAIN)
    fault_runs.wait_for(lambda: fault_runs.steps(folder), first)
    code, log = server.train(other, *TRAIN)
    assert code == 2, log
    assert f'process {first.pid}, uses' in log
    code, log = fault_runs.finish(first, folder)
    assert code == 0, log
    assert_undisturbed(folder, undisturbed)


def test_without_its_tensorboard_folder_a_run_goes_on(server, undisturbed, tmp_path):
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / 'tensorboard').write_text('a file, where a folder is wanted')
    code, log = server.train(folder, *TRAIN)
    assert code == 0, log
    assert 'TensorBoard is off' in log
    assert_undisturbed(folder, undisturbed)


def test_nothing_is_compiled_after_the_first_steps_and_checkpoints_keep_to_their_space(server):
    command = [sys.executable, long_run.__file__, f'--steps={2000 if FULL else 60}', *PLAIN]
    own = {'JAX_COMPILATION_CACHE_DIR': str(server.cache), 'XLA_FLAGS': compiling.FLAGS}
    env = os.environ | own
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(result.stdout)
    assert found['compilations_after'] == 0
    most, last = found['checkpoints_kib']
    assert most < 2 * last  # while one is written and none is removed yet
    print(found)
