"""Training as a user runs it: resume bit for bit, stops, refusals."""

import itertools
import json
import os
import pathlib
import runpy
import select
import signal
import subprocess
import sys
import time

import compiling
import helpers
import jax
import numpy as np
import pytest
from ml_collections import config_dict

from metastyle_jax.core import command_line, errors
from metastyle_jax.core.devices import sharding
from metastyle_jax.data import batching, sources
from metastyle_jax.models import norm_predictor, transformer, vgg
from metastyle_jax.storage import checkpoints, run_folder, theta_files
from metastyle_jax.training import configuration, loop, metric_log, outer_step, train

# ml_collections loads configuration files by a deprecated method of importlib.
pytestmark = pytest.mark.filterwarnings('ignore:the load_module:DeprecationWarning')

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 4
TINY = [f'--config={ROOT}/configs/quickstart.py:tiny', '--config.checkpoint.every=1']


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    """Compiled programs that the runs of this file share."""
    return tmp_path_factory.mktemp('xla')


def start(folder, cache, *changes):
    own = {'JAX_COMPILATION_CACHE_DIR': str(cache), 'XLA_FLAGS': compiling.FLAGS}
    environment = os.environ | own
    return subprocess.Popen(
        [sys.executable, '-m', 'metastyle_jax.train', *TINY, f'--workdir={folder}', *changes],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, log = process.communicate(timeout=300)
    return process.returncode, log


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory, cache):
    """The folder of a run that nothing stopped, and what it logged."""
    folder = tmp_path_factory.mktemp('run')
    code, log = finish(start(folder, cache, f'--config.steps={STEPS}'))
    assert code == 0, log
    return folder, log


def theta_of(folder, steps=STEPS):
    """θ after so many steps, as bytes."""
    theta = theta_files.load_theta(folder / 'checkpoints' / str(steps))
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(theta.params)]


def test_a_run_leaves_checkpoints_logs_and_its_configuration(undisturbed):
    folder, log = undisturbed
    assert f'trained {STEPS} steps' in log
    lines = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines] == [2, 4]
    for name in (
        'outer', 'content', 'style', 'inner_1', 'gradient_norm', 'first_order_norm',
        'second_order_norm', 'images_per_second',
    ):  # fmt: skip
        assert all(np.isfinite(line[name]) for line in lines), name
    # Compiled once, in the first step (and the picture of the last one).
    assert lines[0]['compile_seconds'] > 0
    assert all(line['second_order_norm'] > 0 for line in lines)
    assert json.loads((folder / 'config.json').read_text())['inner']['steps'] == 1
    assert list((folder / 'tensorboard').iterdir())
    steps = {int(path.name) for path in (folder / 'checkpoints').iterdir() if path.name.isdigit()}
    assert {3, 4} <= steps  # the last two, and the best


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_resumes_bit_for_bit(tmp_path, cache, undisturbed, number):
    process = start(tmp_path, cache, '--config.steps=400')
    for line in process.stderr:
        if 'first step' in line:
            break
    process.send_signal(number)
    code, log = finish(process)
    assert code == 128 + number, log
    assert 'the same command resumes' in log
    assert 'Traceback' not in log
    with checkpoints.Manager(tmp_path / 'checkpoints') as manager:
        stopped_at = manager.latest_step()
    assert stopped_at is not None
    steps, reference = STEPS, undisturbed[0]
    if stopped_at >= STEPS:  # the signal came late
        steps, reference = stopped_at + 1, tmp_path / 'reference'
        assert finish(start(reference, cache, f'--config.steps={steps}'))[0] == 0
    code, log = finish(start(tmp_path, cache, f'--config.steps={steps}'))
    assert code == 0, log
    assert f'resuming after step {stopped_at}' in log
    assert theta_of(tmp_path, steps) == theta_of(reference, steps)


def test_a_killed_run_resumes_bit_for_bit(tmp_path, cache, undisturbed):
    process = start(tmp_path, cache, f'--config.steps={STEPS}')
    deadline = time.monotonic() + 300
    while not (tmp_path / 'checkpoints' / '1').exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        select.select([process.stderr], [], [], 0.01)
    process.kill()
    finish(process)
    code, log = finish(start(tmp_path, cache, f'--config.steps={STEPS}'))
    assert code == 0, log
    assert 'resuming after step' in log
    assert theta_of(tmp_path) == theta_of(undisturbed[0])


def test_another_configuration_in_the_same_folder_is_refused(cache, undisturbed):
    folder, _ = undisturbed
    before = (folder / 'config.json').read_bytes()
    code, log = finish(start(folder, cache, '--config.inner.rate=0.5'))
    assert code == 2
    assert 'inner.rate' in log
    assert '0.5' in log
    assert '--workdir' in log
    assert 'Traceback' not in log
    assert (folder / 'config.json').read_bytes() == before


def test_a_run_that_diverges_stops_and_its_advice_can_be_followed(tmp_path, cache):
    code, log = finish(start(tmp_path, cache, '--config.outer.rate=1e30'))
    assert code == 2, log
    assert 'step 1: ' in log
    assert 'styles [' in log
    assert 'contents [' in log
    assert 'No checkpoint is kept yet' in log
    assert 'Traceback' not in log
    code, log = finish(start(tmp_path, cache, '--config.steps=1'))
    assert code == 0, log


# The loop by itself, around a step that does as it is told. ---------------------------------------


class Batches:
    """Batches whose state is their number."""

    def __init__(self):
        self.count = 0

    def __next__(self):
        self.count += 1
        style = np.zeros((1, 16, 16, 3), np.uint8)
        return batching.MetaBatch(None, None, style, *[np.zeros(1, np.int32)] * 3)

    def get_state(self):
        return {'step': self.count}


class Names:
    def name(self, index):
        return f'image {index}'


def run_loop(
    folder, monkeypatch, *, steps, every, found, stop=None, keep_grams=0.0, see=lambda batch: None
):
    """Runs `Loop` with `found(step)` for outer losses; `see` gets its batches."""
    config = runpy.run_path(str(ROOT / 'configs' / 'quickstart.py'))['get_config']('tiny')
    config.update({'steps': steps, 'log': {'every': 2, 'pictures': 0}})
    config.checkpoint.update(every=every, keep=10)
    config.data.keep_grams = keep_grams
    network = vgg.random(jax.random.key(1), width=2)

    def step(state, vgg_params, batch):
        see(batch.parts)  # of one device
        number = int(state.step) + 1
        values = dict.fromkeys(outer_step.Metrics._fields, np.float32(found(number)))
        return state._replace(step=np.int32(number)), outer_step.Metrics(**values)

    monkeypatch.setattr(sharding, 'spread', lambda *args, **options: step)
    stop = command_line.Stop() if stop is None else stop
    with checkpoints.Manager(folder / 'checkpoints', keep=10) as manager:
        state = outer_step.TrainState(np.int32(0), {'w': np.zeros(2)}, None, (), np.zeros(2))
        mean, restored = loop.RunningMean(), manager.restore(state)
        if restored:
            state, mean = restored.state, loop.RunningMean(**restored.data_state['outer_loss'])
        steps = loop.Loop(config, folder, network, manager, Batches(), (Names(), Names()), mean)
        return steps.run(state, stop)


def saved(folder):
    with checkpoints.Manager(folder / 'checkpoints', keep=10) as manager:
        steps = [int(x.name) for x in (folder / 'checkpoints').iterdir() if x.name.isdigit()]
        return sorted(steps), manager.best_step()


def test_a_checkpoint_is_kept_only_if_the_step_after_it_is_finite(tmp_path, monkeypatch):
    with pytest.raises(errors.UserError, match=r'step 5: .*nan.*image 0.*step 2 is kept'):
        run_loop(tmp_path, monkeypatch, steps=9, every=2, found=lambda step: [1, np.nan][step == 5])
    assert saved(tmp_path)[0] == [2]  # not 4, whose next step failed


def test_the_last_step_is_saved_and_the_best_is_of_whole_windows(tmp_path, monkeypatch):
    losses = [5, 5, 2, 2, 3, 3, 0]
    code = run_loop(tmp_path, monkeypatch, steps=7, every=2, found=lambda step: losses[step - 1])
    assert code == 0
    assert saved(tmp_path) == ([2, 4, 6, 7], 4)


def test_a_stopped_run_ranks_its_checkpoints_as_one_that_was_not(tmp_path, monkeypatch):
    losses = [9, 9, 1, 1, 1, 1, 5, 5, 2, 2, 2, 2]
    for folder, ends in (('whole', [12]), ('stopped', [3, 7, 12])):
        for end in ends:
            run_loop(
                tmp_path / folder, monkeypatch, steps=end, every=4, found=lambda n: losses[n - 1]
            )
    assert saved(tmp_path / 'whole') == ([4, 8, 12], 12)
    assert saved(tmp_path / 'stopped') == ([3, 4, 7, 8, 12], 12)
    for step in ('4', '8', '12'):
        files = [tmp_path / x / 'checkpoints' / step for x in ('whole', 'stopped')]
        ranks = [(file / 'metrics' / 'metrics').read_text() for file in files]
        assert ranks[0] == ranks[1]


def test_a_run_that_has_more_steps_than_asked_for_is_done(tmp_path, monkeypatch):
    for steps in (4, 3):
        assert run_loop(tmp_path, monkeypatch, steps=steps, every=2, found=lambda step: 1.0) == 0
    assert saved(tmp_path)[0] == [2, 4]


def test_steps_outlive_a_log_that_cannot_be_written(tmp_path, monkeypatch):
    def fail(self, step):
        raise errors.UserError('no log')

    monkeypatch.setattr(metric_log.Logger, 'flush', fail)
    with pytest.raises(errors.UserError, match='no log'):
        run_loop(tmp_path, monkeypatch, steps=9, every=10, found=lambda step: 1.0)
    assert saved(tmp_path)[0] == [2]


def test_grams_are_kept_if_the_configuration_says_so(tmp_path, monkeypatch):
    seen = []
    options = {'steps': 3, 'every': 10, 'found': lambda step: 1.0, 'see': seen.append}
    run_loop(tmp_path / 'without', monkeypatch, **options)
    assert all(isinstance(batch, batching.MetaBatch) for batch in seen)
    seen.clear()
    run_loop(tmp_path / 'with', monkeypatch, **options, keep_grams=1.0)
    first, *others = (batch.grams for batch in seen)
    assert [gram.shape[:2] for gram in first] == [(1, 1)] * 4
    for grams in others:
        np.testing.assert_array_equal(grams[3], first[3])


@pytest.mark.parametrize('moment', ['flush', 'add', 'paused'])
def test_a_signal_at_any_moment_saves_the_last_step(tmp_path, monkeypatch, moment):
    stop, original, calls = command_line.Stop(), getattr(metric_log.Logger, moment), []

    def interrupted(self, *args, **options):
        calls.append(args)
        if len(calls) == 1:
            stop.signal = signal.SIGTERM
        return original(self, *args, **options)

    monkeypatch.setattr(metric_log.Logger, moment, interrupted)
    code = run_loop(tmp_path, monkeypatch, steps=50, every=10, found=lambda step: 1.0, stop=stop)
    assert code == 128 + signal.SIGTERM
    assert saved(tmp_path)[0] == [2 if moment == 'flush' else 1]


def test_a_run_starts_from_the_theta_that_it_is_given(tmp_path, monkeypatch):
    train = helpers.command_module('train')
    params = transformer.init(jax.random.key(7), width=8, blocks=1)
    path = tmp_path / 'theta.safetensors'
    theta_files.save_theta(path, params, settings={})
    config = runpy.run_path(f'{ROOT}/configs/pretrained.py')['get_config']('tiny')
    assert train.starting_point(config, tmp_path) is None
    config.model.init = str(path)
    found = train.starting_point(config, tmp_path)
    state = outer_step.create(config, jax.random.key(0), theta=found.params)
    helpers.assert_identical(state.params, params)
    config.model.width = 4
    with pytest.raises(errors.UserError, match='has width 8 and 1 residual'):
        train.starting_point(config, tmp_path)
    config.model.update(init='/nowhere', width=8)
    with pytest.raises(errors.UserError, match='/nowhere'):
        train.starting_point(config, tmp_path)
    # Of a run that has begun, its own sizes count: this θ's predictor has one of another width.
    predictor = norm_predictor.create(jax.random.key(1), params, 4, hidden=3)
    state = outer_step.create(config, jax.random.key(0))._replace(
        predictor=norm_predictor.start(predictor)
    )
    with checkpoints.Manager(tmp_path / 'checkpoints') as manager:
        manager.save(3, state, data_state={})
    found = train.starting_point(config, tmp_path)
    assert norm_predictor.hidden(found.predictor) == 3
    (tmp_path / 'checkpoints' / '3' / 'state' / '_METADATA').unlink()
    assert train.starting_point(config, tmp_path) is None  # what is damaged is put aside later


def test_what_a_run_is_resumed_with_may_differ_where_that_changes_no_number(tmp_path):
    config = runpy.run_path(f'{ROOT}/configs/pretrained.py')['get_config']('tiny')
    config.outer.schedule = 'inverse'
    train.open_checkpoints(config, tmp_path).close()
    with checkpoints.Manager(tmp_path / 'checkpoints') as manager:
        manager.save(1, {'params': np.zeros(2)}, data_state={})

    def opened(**changes):
        changed = config.copy_and_resolve_references()
        changed.update(**changes)
        train.open_checkpoints(changed, tmp_path).close()

    opened(steps=99, data={'workers': 1})
    with pytest.raises(errors.UserError, match='data.keep_grams: 0.0 -> 1.0'):
        opened(data={'keep_grams': 1.0})
    config.data.keep_grams = 1.0
    config.outer.schedule = 'cosine'
    run_folder.write_config(tmp_path, config.to_dict(), may_differ=('data', 'outer', 'steps'))
    opened(data={'keep_grams': 0.5})
    with pytest.raises(errors.UserError, match=r'\(steps: \d+ -> 98\)'):  # the cosine's end
        opened(steps=98)


@pytest.mark.parametrize(('word', 'code'), [('', 0), ('x', 2)])
def test_numbers_of_processes_in_the_environment_are_checked(monkeypatch, capsys, word, code):
    monkeypatch.setenv('METASTYLE_PROCESSES', word)
    monkeypatch.setattr(sys, 'argv', ['train', '--help'])
    assert train.run() == code
    told = capsys.readouterr()
    assert 'Traceback' not in told.err
    assert ('METASTYLE_PROCESSES=x in the environment' in told.err) == bool(code)


# Refusals before any work, in this process. -------------------------------------------------------


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (['--config.inner.stepps=2'], "no entry 'stepps'; is 'steps' meant"),
        (
            ['--config.inner.steps=0', '--config.inner.learn_rates=True'],
            'config.inner.steps=0 leaves none',
        ),
        (['--config.inner.steps=many'], 'steps=many: a whole number is needed'),
        (['--config.steps=0'], 'config.steps=0: it must be at least 1'),
        (['--config.inner.steps=-1'], 'config.inner.steps=-1'),
        (['--config.outer.contents=0'], 'config.outer.contents=0'),
        (['--config.data.size=8'], 'config.data.size=8: it must be at least 16'),
        (['--config.inner.rate=-1.0'], 'config.inner.rate=-1.0'),
        (['--config.outer.rate=0.0'], 'config.outer.rate=0.0: it must be above zero'),
        (['--config.outer.rate=nan'], 'config.outer.rate=nan'),
        (['--config.inner.params=some'], "'some'"),
        (['--config.inner.mode=forward'], 'forward'),
        (['--config.inner.optimizer=lion'], 'lion'),
        (['--config.outer.optimizer=lion'], 'lion'),
        (['--config.inner.order=reptile', '--config.inner.learn_rates=True'], 'learns no rates'),
        (['--config.model.init=/nowhere'], 'no θ at /nowhere'),
        (
            ['--config.outer.styles=3', '--config.outer.devices=0'],
            '3 styles a step cannot be shared out over 8 devices',
        ),
        (['--config.outer.devices=9'], 'outer.devices=9: there are 8'),
        (['--config.data.style_fit=stretch'], 'stretch'),
        (['--config.data.keep_grams=-1.0'], 'config.data.keep_grams=-1.0'),
        (['--config.data.keep_grams=1.0'], "set config.data.style_fit='squash'"),
        (['--config.data.content=photos'], "'photos'"),
        (['--config.data.content=folder:/nowhere'], '/nowhere'),
        (['--config.data.style_exclude=("Guernica",)'], 'Guernica'),
        (['--vgg=/nowhere.npz'], '/nowhere.npz'),
        (['--colour=red'], 'colour'),
        (['extra'], 'extra'),
    ],
)
def test_bad_settings_are_refused_before_any_work(tmp_path, monkeypatch, capsys, changes, message):
    train = helpers.command_module('train')
    folder = tmp_path / 'run'
    monkeypatch.setattr(sys, 'argv', ['train', TINY[0], f'--workdir={folder}', *changes])
    assert train.run() == 2
    error = capsys.readouterr().err
    assert message in error
    assert 'Traceback' not in error
    assert not (folder / 'config.json').exists()
    assert not (folder / 'checkpoints').exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--workdir=/tmp/x'], '--config must be given'),
        ([TINY[0]], '--workdir must be given'),
        (['--config=/nowhere.py', '--workdir=/tmp/x'], '/nowhere.py'),
        ([f'--config={ROOT}/configs/coco.py:huge', '--workdir=/tmp/x'], 'huge'),
    ],
)
def test_missing_flags_and_files_are_named(monkeypatch, capsys, arguments, message):
    train = helpers.command_module('train')
    monkeypatch.setattr(sys, 'argv', ['train', *arguments])
    assert train.run() == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('def get_config(:', 'syntax'),
        ('import nowhere', 'nowhere'),
        ('def get_config(arg=""): return {}', 'ConfigDict'),
        (
            'from ml_collections import config_dict\n'
            'def get_config(arg=""): return config_dict.create(steps=1)',
            'no entry seed',
        ),
    ],
)
def test_bad_configuration_files_are_named(tmp_path, monkeypatch, capsys, text, message):
    train = helpers.command_module('train')
    file = tmp_path / 'mine.py'
    file.write_text(text)
    arguments = [f'--config={file}', f'--workdir={tmp_path}/run']
    monkeypatch.setattr(sys, 'argv', ['train', *arguments])
    assert train.run() == 2
    error = capsys.readouterr().err
    assert message in error
    assert 'Traceback' not in error


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('steps', '10', 'config.steps=10: it must be at least 1'),
        ('steps', 10.5, 'it must be a whole number'),
        ('steps', True, 'at least 1'),
        ('seed', (), 'at least 0'),
        ('model.blocks', 10**9, 'at most 1000'),
        pytest.param('outer.rate', 10**400, 'config.outer.rate=1000', id='over all floats'),
        ('data.content', 5, 'it must be a text'),
        ('outer.schedule', 5, 'it must be a text'),
        ('data.content_exclude', 'word', 'it must be a tuple of texts'),
        ('data.val_fraction', None, 'it must be a number'),
        ('data.hold_out', 1, 'it must be True or False'),
        ('inner.remat', 'yes', 'it must be True, False or None'),
        ('inner', 5, 'no entry inner.steps'),
    ],
)
def test_values_of_other_types_in_a_configuration_file_are_named(name, value, message):
    config = runpy.run_path(str(ROOT / 'configs' / 'coco.py'))['get_config']('tiny').to_dict()
    *section, last = name.split('.')
    (config[section[0]] if section else config)[last] = value
    with pytest.raises(errors.UserError, match=message):
        configuration.check(config_dict.ConfigDict(config))


@pytest.mark.parametrize(
    ('name', 'argument'),
    [
        *itertools.product(['coco', 'folder', 'quickstart', 'pretrained'], ['', 'tiny']),
        *itertools.product(['pretrained'], ['plain', 'meta', 'norms', 'predict', 'large']),
    ],
)
def test_every_configuration_passes_its_checks(name, argument):
    config = runpy.run_path(str(ROOT / 'configs' / f'{name}.py'))['get_config'](argument)
    configuration.check(config)


def test_every_entry_of_a_configuration_is_checked():
    config = runpy.run_path(str(ROOT / 'configs' / 'coco.py'))['get_config']().to_dict()
    sections = {name: part for name, part in config.items() if isinstance(part, dict)}
    names = {f'{name}.{entry}' for name, part in sections.items() for entry in part}
    assert names | (config.keys() - sections) == set(configuration.ENTRIES)


def test_training_leaves_out_what_is_held_out_for_evaluation(tmp_path):
    config = runpy.run_path(str(ROOT / 'configs' / 'coco.py'))['get_config']('tiny')
    helpers.write_images(tmp_path / 'photos', 40)
    config.data.update(content=f'folder:{tmp_path / "photos"}', hold_out=True)
    everything = sources.open_source(config.data.content, kind='content')
    contents, styles = train.open_sources(config)
    names = {contents.name(i) for i in range(len(contents))}
    held_out = sources.held_out(everything)
    assert len(contents) + len(held_out) == 40
    assert not names & {held_out.name(i) for i in range(len(held_out))}
    assert not any(sources.is_held_out(styles.name(i)) for i in range(len(styles)))
