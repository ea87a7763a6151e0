"""The list of measurements on an accelerator; processes and networks here are tiny or replaced."""

import itertools
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from absl import flags
from helpers import ROOT

from metastyle_jax.core import errors

sys.path.insert(0, str(ROOT))

from benchmarks import machine, ours, process, tasks  # noqa: E402
from benchmarks.accelerator import (  # noqa: E402
    __main__ as command,
)
from benchmarks.accelerator import (  # noqa: E402
    goals,
    items,
    report,
    running,
    store,
    training,
)
from benchmarks.accelerator.work import errors as work_errors  # noqa: E402
from benchmarks.accelerator.work import jax_side, programs, timing  # noqa: E402

NETWORK = tasks.Network(4, 1, 2)
EFFORT = timing.Effort(rounds=1, least=0.0)
FACTS = {'device': 'card', 'small': False, 'jax': '1', 'jaxlib': '1', 'torch': '2', 'weights': 'V'}


def item(name='a', side='jax', part=1, work='rate', **settings):
    return items.Item(part, 'rate', name, 'ours', 'tf32', side, work, settings)


def line(key, result, outcome='done'):
    group, name, variant, precision = key
    made = items.Item(1, group, name, variant, precision, 'jax', 'task', {})
    return store.line_of(made, FACTS, outcome, 1.0, **result)


# --- the list ---


@pytest.mark.parametrize('sizes', [items.FULL, items.SMALL])
def test_each_item_is_there_once_and_can_be_measured(sizes):
    table = items.table(sizes)
    assert len({each.key for each in table}) == len(table)
    assert {each.work for each in table if each.side == 'jax'} == set(jax_side._WORKS)
    assert {each.side for each in table} == {'jax', 'torch'}
    json.dumps([each._asdict() for each in table])


def test_the_small_list_has_the_items_of_the_full_one():
    small, full = items.table(items.SMALL), items.table()
    assert [each[4:7] for each in small] == [each[4:7] for each in full]


def test_the_list_begins_with_the_table_beside_pytorch_and_trains_before_the_rest(tmp_path):
    values = parsed('--content=folder:a', '--style=folder:b', f'--out={tmp_path}')
    table = command.table(values)
    assert [each.part for each in table] == sorted(each.part for each in table)
    first = {(each.group, each.variant) for each in table if each.part == 1}
    assert {(g, v) for g in ('stylize', 'adapt', 'exact') for v in ('ours', 'eager')} <= first
    assert {each.part for each in table if each.side == 'command'} == set(items.TRAINING)
    words = [word for each in table for word in each.settings.get('command', [])]
    assert {'--config.data.content=folder:a', '--style=folder:b'} <= set(words)


def test_training_runs_name_configurations_that_exist(tmp_path):
    for small in (False, True):
        data = training.Data('sample:', 'sample:', 'theta.safetensors')
        for run in training.runs(data, tmp_path, small=small):
            for word in run.settings['command']:
                if word.startswith('--config='):
                    file, _, argument = word.removeprefix('--config=').partition(':')
                    scope = {}
                    exec((ROOT / file).read_text('utf-8'), scope)
                    scope['get_config'](argument)


# --- results on disk ---


def test_results_are_read_as_they_were_appended(tmp_path):
    file = tmp_path / 'results.jsonl'
    lines = [store.line_of(item(name), FACTS, 'done', 1.0, result={}) for name in 'ab']
    assert store.read(file) == []
    for each in lines:
        store.append(file, each)
    assert store.read(file) == lines


def test_a_line_that_a_stop_cut_off_is_ignored_and_replaced(tmp_path):
    file = tmp_path / 'results.jsonl'
    found = store.line_of(item('µ'), FACTS, 'done', 1.0, result={})
    store.append(file, found)
    file.write_bytes(file.read_bytes() + json.dumps(found).encode()[:40])
    assert store.read(file) == [found]
    store.append(file, found)
    assert store.read(file) == [found, found]
    file.write_bytes(b'{"key": "a')
    store.append(file, found)
    assert store.read(file) == [found]


@pytest.mark.parametrize('wrong', ['[]', '{}', '{"key": 1}', 'text', ''])
def test_a_line_that_is_no_result_is_named(tmp_path, wrong):
    file = tmp_path / 'results.jsonl'
    store.append(file, store.line_of(item(), FACTS, 'done', 1.0, result={}))
    file.write_text(file.read_text() + wrong + '\n')
    with pytest.raises(errors.UserError, match='line 2: .* remove this line'):
        store.read(file)


def test_another_device_or_version_is_another_measurement():
    keys = [store.key_of(item(), FACTS | other) for other in ({}, {'device': 'b'}, {'jax': '2'})]
    assert len(set(keys)) == 3
    assert store.key_of(item(), FACTS | {'torch': '3'}) == keys[0]
    assert store.key_of(item(), FACTS | {'small': True}) not in keys


# --- going through the list ---


class FakeProcess:
    """Answers like a worker; items named 'fails' fail."""

    started = []
    full = 0  # number of answers that memory is full

    def __init__(self, command, *_):
        self.side = command[3]
        self.started.append(self.side)

    def answer(self, limit=None):
        return {'device': 'card', 'weights': 'V'}

    def ask(self, *, limit, work, settings, precision):
        if settings.get('full') and FakeProcess.full:
            FakeProcess.full -= 1
            raise process.WorkerError('RESOURCE_EXHAUSTED: Out of memory')
        if settings.get('fails'):
            raise process.WorkerError('ValueError: senseless')
        return {'seconds': {'median': 1.0, 'q1': 1.0, 'q3': 1.0}}

    def close(self):
        pass


@pytest.fixture
def go(monkeypatch, tmp_path):
    """Runs a list with replaced workers; each look at the clock takes a second."""
    monkeypatch.setattr(process, 'Process', FakeProcess)
    monkeypatch.setattr(machine, 'has_torch', lambda: True)
    monkeypatch.setattr(machine, 'versions', lambda: {'jax': '1', 'jaxlib': '1', 'torch': '2'})
    FakeProcess.started, said = [], []

    def run(*table, seconds=1000.0, **options):
        chosen = running.Options(tmp_path, seconds=seconds, **options)
        ticks = itertools.count()
        left = running.run(list(table), chosen, say=said.append, clock=lambda: float(next(ticks)))
        lines = store.read(chosen.file)
        return left, [(each['item']['name'], each['outcome']) for each in lines], lines

    run.said = said
    return run


def test_a_second_call_continues_where_the_time_was_over(go):
    table = [item(name) for name in 'abc']
    left, found, _ = go(*table, seconds=4)  # the clock is looked at three times for each item
    assert (left, found) == (2, [('a', 'done')])
    assert go.said[-1] == '2 items are left; the same command continues'
    assert go(*table)[1] == [(name, 'done') for name in 'abc']
    assert len(go(*table)[2]) == 3


def test_a_failure_is_recorded_and_the_list_goes_on(go):
    table = [item('a', fails=True), item('b')]
    _, found, lines = go(*table)
    assert found == [('a', 'failed'), ('b', 'done')]
    assert lines[0]['message'] == 'ValueError: senseless'
    assert FakeProcess.started == ['jax', 'jax'], 'what failed may have broken its process'
    assert len(go(*table)[2]) == 2
    assert go(*table, again=True)[1][2:] == [('a', 'failed')]


def test_full_memory_is_tried_again_without_the_other_process(go):
    FakeProcess.full = 1
    _, found, _ = go(item('a', side='torch'), item('b', full=True))
    assert found == [('a', 'done'), ('b', 'done')]
    FakeProcess.full = 2
    _, found, lines = go(item('c', side='torch'), item('d', full=True))
    assert found[2:] == [('c', 'done'), ('d', 'failed')]
    assert 'Out of memory' in lines[-1]['message']


def test_without_torch_its_items_name_the_extra(go, monkeypatch):
    monkeypatch.setattr(machine, 'has_torch', lambda: False)
    _, found, lines = go(item('a', side='torch'), item('b'))
    assert found == [('a', 'failed'), ('b', 'done')]
    assert lines[0]['message'] == machine.MISSING


@pytest.mark.parametrize(
    ('script', 'seconds', 'outcome'),
    [
        ('exit 0', 1e9, 'done'),
        ('echo the reason; exit 3', 1e9, 'failed'),
        ('exec sleep 600', 2.1, 'stopped'),
    ],
)
def test_a_training_run_ends_fails_or_is_continued(go, script, seconds, outcome):
    run = item('a run', side='command', command=['/bin/sh', '-c', script])
    _, found, lines = go(run, seconds=seconds, small=True)
    assert found == [('a run', outcome)]
    assert (outcome != 'failed') or lines[0]['message'] == 'exit code 3: the reason'
    assert len(go(run, seconds=seconds, small=True)[2]) == (2 if outcome == 'stopped' else 1)


def test_too_little_time_starts_no_training_run(go):
    assert go(item('a run', side='command', command=['false']), seconds=30)[:2] == (1, [])


# --- what is measured ---


@pytest.fixture(scope='module')
def weights():
    return ours.initial_weights(NETWORK)


def task(work, variant='rolled', **fields):
    made = tasks.Task(work, 16, 1, (), network=NETWORK, **fields)
    return {'task': tasks.as_dict(made), 'variant': variant}


def measured(work, settings, weights, precision='tf32'):
    return jax_side.measure(work, settings, precision, weights, EFFORT)


def test_times_rates_and_memory_are_measured(weights):
    settings = {'kernel': 3, 'inputs': 2, 'outputs': 3, 'side': 8, 'batch': 1}
    for found in (
        measured('rate', {'size': 8}, weights),
        measured('convolution', settings | {'layout': 'NCHW'}, weights),
        measured('convolution', settings | {'layout': 'NHWC'}, weights, 'bfloat16'),
        measured('task', task('stylize', dtype='bfloat16'), weights, 'bfloat16'),
        measured('program', task('stylize') | {'options': {}}, weights),
    ):
        assert 0 < found['seconds']['q1'] <= found['seconds']['median']
        assert found['latency'] > 0
        assert found['compile'] >= 0
    assert found['memory'] > 0
    assert found['needed'] > 0


def test_bfloat16_rounds_more_than_float32(weights):
    found = {p: measured('accuracy', task('stylize'), weights, p) for p in ('tf32', 'bfloat16')}
    assert 0 < found['tf32']['relative'] < 1e-5 < found['bfloat16']['relative'] < 0.1
    gradient = measured('accuracy', task('adapt'), weights, 'bfloat16')
    assert 1e-3 < gradient['relative'] < 1.5
    assert 'error' not in gradient, "a worker's word for a failure"


def test_errors_are_relative_to_the_reference():
    exact = {'a': np.array([3.0, 4.0]), 'zero': np.zeros(2)}
    found = work_errors.compare({'a': np.array([3.0, 4.5]), 'zero': np.ones(2)}, exact)
    assert found == {'relative': pytest.approx(0.1), 'largest': pytest.approx(0.125)}


@pytest.fixture(scope='module')
def torch_side():
    torch = pytest.importorskip('torch')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # idle threads that spin slow a crowded machine down
    from benchmarks.accelerator.work import torch_side

    yield torch_side
    torch.set_num_threads(threads)


@pytest.fixture(scope='module')
def exact(torch_side, weights):
    """The exact meta-gradient by eager PyTorch."""
    runner = torch_side._build(task('exact', 'eager'), 'eager', 'highest', weights)
    runner.call()
    return runner.answer()


def test_a_step_by_named_sharding_has_the_gradient_of_the_peer(exact, weights):
    made = tasks.from_dict(task('exact')['task'])
    runner = ours.MetaStep(made, *(ours.from_names(part) for part in weights), variant='rolled')
    runner._run = jax_side._by_named_sharding(made, 'rolled', donate=True)
    before = runner._state
    runner.call()
    runner.wait()
    assert jax.tree.leaves(before.params)[0].is_deleted()
    assert work_errors.compare(runner.answer(), exact)['relative'] < 1e-3


def test_the_pure_function_has_the_gradient_of_the_peer(exact, weights):
    made = tasks.from_dict(task('exact')['task'])
    program = programs.build(made, *weights, 'highest', 'rolled')
    found = ours.by_name(jax.jit(program.function)(*program.arguments))
    assert work_errors.compare(found, exact)['relative'] < 1e-3


@pytest.mark.parametrize('work', ['stylize', 'adapt', 'exact'])
def test_torch_has_errors_too(torch_side, weights, work):
    settings = task(work, 'eager')
    found = {
        p: torch_side.measure('accuracy', settings, p, weights, EFFORT)['relative']
        for p in ('highest', 'bfloat16')
    }
    assert 0 < found['highest'] < 1e-3
    assert found['highest'] < found['bfloat16']
    assert torch_side.measure('task', settings, 'tf32', weights, EFFORT)['latency'] > 0


def test_a_recorded_run_loads_its_images_once(torch_side, weights):
    runner = torch_side._build(task('exact', 'eager', steps=2), 'eager', 'tf32', weights)
    loaded, load = [], runner.images
    runner.images = lambda pixels: loaded.append(pixels) or load(pixels)
    torch_side.hold_images(runner)
    runner.call()
    first = len(loaded)
    runner.call()
    assert first == len(loaded) > 0


def test_graphs_need_a_gpu(torch_side, weights, monkeypatch):
    monkeypatch.setattr(torch_side.torch.cuda, 'is_available', lambda: False)
    with pytest.raises(RuntimeError, match='need an NVIDIA GPU'):
        torch_side.measure('task', task('adapt', 'graphs'), 'tf32', weights, EFFORT)


# --- report ---


def results():
    """Results in which the exact meta-step takes 0.03 s and eager PyTorch 0.1 s."""

    def timed(seconds, **more):
        found = {'median': seconds, 'q1': seconds, 'q3': seconds}
        return {'result': {'seconds': found, 'latency': seconds, 'compile': 2.0, **more}}

    wrong = {'result': {'relative': 0.01, 'largest': 0.02}}
    names = {steps: f'exact all, S=4, T={steps}, N=4, 256²' for steps in items.STEPS}
    return [
        line(('rate', 'matrix product', 'ours', 'tf32'), timed(1.0, rate=1e14)),
        line(
            ('exact', names[1], 'ours', 'tf32'), timed(0.03, memory=2**30, needed=1.5e12)
        ),
        line(('exact', names[1], 'eager', 'tf32'), timed(0.1)),
        line(('exact', names[8], 'ours', 'tf32'), timed(0.2, memory=2**31)),
        line(('stylize', 'stylize 256², batch 1', 'ours', 'tf32'), timed(2e-3)),
        line(('stylize', 'stylize 256², batch 32', 'ours', 'bfloat16'), timed(8e-3)),
        line(('options', 'stylize', 'default', 'tf32'), timed(1.0)),
        line(('options', 'stylize', 'autotuning off', 'tf32'), timed(2.0)),
        line(('convolutions', 'first', 'NHWC', 'tf32'), timed(1.0, needed=1e13)),
        line(('convolutions', 'first', 'NCHW', 'tf32'), timed(2.0, needed=1e13)),
        line(('accuracy', names[1], 'ours', 'tf32'), wrong),
        line(('adapt', 'a', 'graphs', 'tf32'), {'message': 'no GPU'}, 'failed'),
    ]  # fmt: skip


def test_goals_are_reached_missed_or_not_measured():
    found = {
        tuple(each['item'][field] for field in ('group', 'name', 'variant', 'precision')): each[
            'result'
        ]
        for each in results()
        if each['outcome'] == 'done'
    }
    verdicts = {goal.name: goal.verdict() for goal in goals.goals(found, items.FULL)}
    assert verdicts['exact meta-step, T = 1, over eager'] == 'reached'
    assert verdicts['exact meta-step, T = 1, over compiled'] == 'not measured'
    assert verdicts["hours of 100,000 of the paper's steps"] == 'reached'
    assert verdicts['memory of T = 8 over T = 1'] == 'missed by 54%'
    assert verdicts['share of matrix rate, exact, T = 1'] == 'reached'
    assert verdicts['milliseconds of stylizing 256²'] == 'missed by 100%'
    assert verdicts['pictures/s of 256², batch 32'] == 'reached'


def test_the_report_shows_device_versions_ratios_errors_and_failures():
    text = report.render(results())
    for part in (
        '## card', 'jax 1, jaxlib 1, torch 2', '100 TFLOP/s', '| 0.3 |', '| 1020 MiB |',
        '| autotuning off | 2 s [2–2] | 0.5 |', '| first | tf32 | 1000 ms | 2000 ms | 0.5 |',
        '| 0.01 | 0.02 |', '- adapt | a | graphs | tf32: no GPU',
        '| exact meta-step, T = 1, over eager | ≤ 0.6 | 0.3 | reached |',
    ):  # fmt: skip
        assert part in text, part


def test_the_last_result_of_an_item_counts():
    twice = [*results(), line(('adapt', 'a', 'graphs', 'tf32'), {'message': 'other'}, 'failed')]
    assert 'other' in report.render(twice)
    assert 'no GPU' not in report.render(twice)


# --- the command ---


def parsed(*words):
    values = flags.FlagValues()
    command.define_flags(values)
    values(['benchmarks.accelerator', *words])
    return values


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--seconds=0'], '--seconds=0'),
        (['--limit=-1'], '--limit=-1'),
        (['--parts=7'], "--parts='7'"),
        (['--parts=2'], 'part 2 trains'),
        (['--content=folder:a'], '--style is missing'),
    ],
)
def test_senseless_flags_are_refused(words, message):
    with pytest.raises(errors.UserError, match=message):
        command.check(parsed(*words))


def test_a_name_that_no_item_has_is_refused():
    with pytest.raises(errors.UserError, match='--only=paint'):
        command.table(parsed('--only=paint'))


def test_a_report_of_nothing_is_refused(tmp_path):
    with pytest.raises(errors.UserError, match='there are no results'):
        command.main(parsed('--report', f'--out={tmp_path}'))


def test_the_script_names_an_interpreter_without_the_package():
    found = subprocess.run(
        ['bash', ROOT / 'benchmarks' / 'gpu.sh'],
        env=os.environ | {'PYTHON': '/bin/false'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 2
    assert 'set PYTHON' in found.stderr
