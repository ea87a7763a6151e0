import json
import sys

import jax
import numpy as np
import pytest
from helpers import ROOT

from metastyle_jax import meta
from metastyle_jax.core import errors
from metastyle_jax.models import gram, vgg
from metastyle_jax.training import objective

sys.path.insert(0, str(ROOT))

from benchmarks import (  # noqa: E402
    __main__ as command,
)
from benchmarks import (  # noqa: E402
    flops,
    harness,
    inputs,
    machine,
    ours,
    pipeline,
    report,
    targets,
    tasks,
    worker,
)

NETWORK = tasks.Network(8, 1, 4)
RATE = 1e-5  # at which the second-order part is more than half of these networks' meta-gradient


def tiny(work, variants=('ours',), **fields):
    return tasks.Task(work, 32, 2, variants, network=NETWORK, **{'rate': RATE, **fields})


@pytest.fixture(scope='module')
def weights():
    return ours.initial_weights(NETWORK)


@pytest.fixture(scope='module')
def torch_side():
    torch = pytest.importorskip('torch')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # idle threads that spin slow a crowded machine down
    from benchmarks import peer_tasks

    yield peer_tasks
    torch.set_num_threads(threads)


def answer(side, task, variant, weights):
    runner = side.build(task, variant, *weights)
    runner.call()
    runner.wait()
    return runner.answer()


# --- operations ---


def test_transformer_and_vgg_need_what_the_paper_sizes_say():
    once = flops.forward(tasks.Task('exact', 256, 4, ('ours',)))
    assert (once.first + once.others) / 1e9 == pytest.approx(20.158, rel=1e-3)
    assert once.vgg / 1e9 == pytest.approx(36.465, rel=1e-3)


def equations(jaxpr):
    """All equations, those of inner functions too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in equation.params.values():
            if hasattr(inner, 'jaxpr') and not callable(inner):
                yield from equations(inner.jaxpr)


@pytest.mark.parametrize('blocks', [2, 4])
def test_operations_of_vgg_are_those_that_jax_traces(weights, blocks):
    params = ours.from_names(weights[1])
    function = vgg.features if blocks == 4 else vgg.content_features
    jaxpr = jax.make_jaxpr(function)(params, np.zeros((1, 32, 48, 3), np.float32))
    found = 0
    for equation in equations(jaxpr.jaxpr):
        if equation.primitive.name == 'metastyle_convolve':
            kernel = equation.invars[1].aval.shape
            outputs = equation.outvars[0].aval.shape
            found += 2 * np.prod(kernel[:3]) * np.prod(outputs)
    assert flops.vgg(32, 48, NETWORK, blocks=blocks)[0] == found


def test_operations_of_a_gradient_are_those_that_torch_counts(weights, torch_side):
    from torch.utils import flop_counter

    with flop_counter.FlopCounterMode(display=False) as counter:
        answer(torch_side, tiny('adapt'), 'eager', weights)
    found = sum(n for op, n in counter.get_flop_counts()['Global'].items() if 'conv' in str(op))
    once = flops.forward(tiny('adapt'))
    content, _ = flops.vgg(32, 32, NETWORK, blocks=2)
    style = once.vgg  # the Gram matrices of the style are made in the same breath
    each = 2 * once.first + 3 * once.others + 2 * once.vgg + content
    assert found == 2 * each + style


@pytest.mark.parametrize(('params', 'slack'), [('all', 1.06), ('norm', 1.3)])
def test_exact_step_needs_hardly_less_than_double_backward_takes(
    weights, torch_side, params, slack
):
    from torch.utils import flop_counter

    task = tiny('exact', params=params)
    with flop_counter.FlopCounterMode(display=False) as counter:
        answer(torch_side, task, 'eager', weights)
    found = counter.get_total_flops()
    assert flops.needed(task) <= found <= slack * flops.needed(task)


def test_first_order_and_norms_need_less():
    needed = [
        flops.needed(tiny(work, params=params))
        for work, params in (('exact', 'all'), ('exact', 'norm'), ('first', 'all'))
    ]
    assert needed == sorted(needed, reverse=True)
    assert flops.needed(tiny('exact', styles=3)) == 3 * needed[0]


# --- agreement ---


@pytest.mark.parametrize(
    'task',
    [
        tiny('stylize'),
        tiny('adapt'),
        tiny('exact', ('rolled',), steps=2),
        tiny('exact', ('reverse',), params='norm'),
        tiny('first', ('reverse',), styles=2),
    ],
    ids=lambda task: task.name,
)
def test_peer_agrees_with_ours(weights, torch_side, task, tmp_path):
    expected, found = tmp_path / 'ours.npz', tmp_path / 'peer.npz'
    np.savez(expected, **answer(ours, task, task.variants[0], weights))
    for variant in ('eager', 'channels_last', 'func'):
        np.savez(found, **answer(torch_side, task, variant, weights))
        tolerance = 1e-4 if task.work == 'stylize' else 1e-3
        assert harness.disagreement(found, expected) <= tolerance, variant


def test_first_order_is_not_exact(weights, torch_side):
    exact = answer(torch_side, tiny('exact'), 'eager', weights)
    first = answer(torch_side, tiny('first'), 'eager', weights)
    apart = max(np.max(np.abs(exact[name] - first[name])) for name in exact)
    assert apart > 0.5 * max(np.max(np.abs(g)) for g in exact.values())


@pytest.mark.parametrize('params', ['all', 'norm'])
@pytest.mark.usefixtures('x64', 'torch_side')
def test_peer_computes_the_same_meta_gradient_in_float64(weights, params, disagreement):
    import torch

    from benchmarks import peer, peer_tasks

    theta, loss_network = (
        {name: np.asarray(a, np.float64) for name, a in part.items()} for part in weights
    )
    task = tiny('exact', steps=2, params=params)
    inner, outer, style = (images / 255.0 for images in inputs.meta_batch(task))

    network = ours.from_names(loss_network)
    config = ours.meta_config(task)
    evaluate = objective.loss(network, config)
    grams = gram.of_image(network, style[0])
    every = objective.make_tasks(network, np.concatenate([inner[0], outer]), grams)
    found = jax.jit(
        lambda theta: meta.meta_gradient(
            meta.Meta(theta),
            jax.tree.map(lambda leaf: leaf[:-1], every),
            jax.tree.map(lambda leaf: leaf[-1], every),
            inner_loss=lambda params, task: evaluate(params, task).total,
            **objective.inner_options(config, 0),
        )
    )(ours.from_names(theta)).gradient.theta

    side = peer_tasks.MetaStep(task, 'eager', theta, loss_network)
    side.images = lambda pixels: torch.from_numpy(pixels) / 255.0
    side._contents = peer_tasks.channels_first(np.concatenate([inner, outer[:, None]], 1)) * 255
    side._styles = peer_tasks.channels_first(style) * 255
    side.call()
    moments = {name: side.optimizer.state[p]['exp_avg'] for name, p in side.params.items()}
    expected = {}
    for name, mu in moments.items():
        mu = 10 * mu.numpy()
        expected[name] = mu.transpose(2, 3, 1, 0) if mu.ndim == 4 else mu
    assert all(g.dtype == np.float64 for g in expected.values())
    disagreement(found, ours.from_names(expected), 1e-9)
    assert config.loss.style_weight == peer.STYLE_WEIGHT


# --- processes ---


def test_real_workers_fill_json_and_markdown(tmp_path):
    # For stylization the two are one program, which is all that the harness needs.
    table = [tiny('stylize', ('ours', 'reverse'))]
    facts = machine.describe(tmp_path, tmp_path / 'weights.npz', NETWORK)
    options = harness.Options(tmp_path, repeats=2, matrix=16)
    files = {NETWORK: tmp_path / 'weights.npz'}
    keep = lambda results: command.write(results, tmp_path)
    results = harness.run(table, options, facts, files, keep=keep)
    assert json.loads((tmp_path / 'results.json').read_text('utf-8')) == results
    rows = results['tasks'][0]['variants']
    for row in rows.values():
        assert 'reason' not in row
        assert len(row['rounds']) == 2
        assert row['time']['q1'] <= row['time']['median'] <= row['time']['q3']
        assert row['memory']['resident'] > 0
    assert rows['reverse']['disagreement'] == 0
    assert '| stylize 32², batch 2 | reverse |' in (tmp_path / 'results.md').read_text('utf-8')
    assert not harness.disagreements(results)


@pytest.fixture
def fake_workers(monkeypatch, tmp_path):
    """Makes every worker a shell script."""

    def install(script):
        file = tmp_path / 'worker.sh'
        file.write_text(f'#!/bin/sh\n{script}\n')
        file.chmod(0o700)
        monkeypatch.setattr(sys, 'executable', str(file))

    return install


def measure(task, tmp_path):
    return harness.measure(task, harness.Options(tmp_path, repeats=2), tmp_path / 'weights.npz')


def test_worker_that_dies_gives_a_reason(fake_workers, tmp_path):
    fake_workers('kill -9 $$')
    found = measure(tiny('adapt', ('ours', 'reverse')), tmp_path)
    for row in found['variants'].values():
        assert row['reason'] == 'the worker died with code -9, probably because memory ran out'


def test_worker_that_fails_while_running_gives_a_reason(fake_workers, tmp_path):
    fake_workers("""echo '{"seconds": 1}'; read line; echo '{"error": "OOM: too large"}'""")
    found = measure(tiny('adapt'), tmp_path)
    assert found['variants']['ours']['reason'] == 'OOM: too large'


def test_worker_that_hangs_gives_a_reason(fake_workers, tmp_path):
    fake_workers('read line')
    options = harness.Options(tmp_path, repeats=2, limit=0.1)
    found = harness.measure(tiny('adapt'), options, tmp_path / 'weights.npz')
    assert found['variants']['ours']['reason'] == 'no answer within 0.1 s'


def test_disagreement_is_an_error_that_names_task_variant_and_number(
    fake_workers, monkeypatch, tmp_path
):
    fake_workers("""echo '{"seconds": 1}'; read line; echo '{"rate": 1}'; read line
        echo '{"seconds": 1}'""")
    monkeypatch.setattr(harness, 'disagreement', lambda *_: 0.25)
    monkeypatch.setattr(machine, 'has_torch', lambda: True)
    options = harness.Options(tmp_path, repeats=1)
    found = harness.measure(tiny('adapt', ('ours', 'eager')), options, tmp_path / 'weights.npz')
    (sentence,) = harness.disagreements({'tasks': [found]})
    assert sentence == (
        'gradient of adaptation step 32², batch 2, eager: '
        'differs by 0.25, but at most 5e-03 is allowed'
    )
    assert found['variants']['ours']['time']['median'] == 1


def test_without_torch_peers_name_the_extra(fake_workers, monkeypatch, tmp_path):
    fake_workers('exit 3')
    monkeypatch.setattr(machine, 'has_torch', lambda: False)
    found = measure(tiny('adapt', ('ours', 'eager')), tmp_path)
    assert found['variants']['eager']['reason'] == "PyTorch is missing: pip install '.[bench]'"


def test_job_survives_its_command_line():
    job = worker.Job('measure', 'w.npz', network=NETWORK, task=tiny('exact', ('ours', 'func')))
    assert worker.from_json(job.to_json()) == job


def test_tables_cover_every_work_and_start_with_ours():
    for table in (tasks.quick(), tasks.full(gpu=False), tasks.full(gpu=True)):
        assert {task.work for task in table} == set(tasks.WORKS)
        assert all(task.variants[0] in ('ours', 'rolled') for task in table)
        assert len({task.name for task in table}) == len(table)
    assert {task.size for task in tasks.full(gpu=False, size=64) if task.work == 'exact'} == {
        64,
        128,
    }
    chosen = tasks.select(tasks.quick(), works=('adapt',), variants=('rolled',))
    assert [task.variants for task in chosen] == [('ours',)]


def test_images_are_the_same_each_time_and_differ_by_seed():
    assert (inputs.images(2, 32, seed=1) == inputs.images(2, 32, seed=1)).all()
    assert (inputs.images(2, 32, seed=1) != inputs.images(2, 32, seed=2)).any()


def test_pipeline_feeds_steps(monkeypatch, weights):
    class Step:
        def __init__(self, *_):
            self.seen = []

        def call(self, batch):
            assert batch.inner.shape == (1, 1, 2, 32, 32, 3)

        def metrics(self):
            pass

    monkeypatch.setattr(ours, 'MetaStep', Step)
    found = pipeline.measure(tiny('pipeline'), *weights, workers=(0,), pairs=2)
    assert set(found['alone']) == {'0'}
    assert found['alone']['0']['images'] == pytest.approx(5 * found['alone']['0']['batches'])
    assert len(found['fed']) == len(found['cached']) == 2


# --- report ---


def results(backend='cpu', **rows):
    def entry(task, **variants):
        return {'name': task.name, **tasks.as_dict(task), 'variants': variants}

    def row(seconds, memory=2**20):
        found = {'median': seconds, 'q1': seconds, 'q3': seconds}
        where = {'working': memory, 'temporary': None, 'device': None}
        return {
            'time': found, 'rounds': [seconds], 'ours_over_this': {**found, 'median': 1 / seconds},
            'fraction': 0.25, 'compile': 1.0, 'memory': where,
        }  # fmt: skip

    step = {'ours': row(1.0), 'rolled': row(1.0)}
    fed = {'fed': [2.0, 2.0], 'cached': [1.0, 1.0], 'alone': {}, 'workers': 2}
    big = tasks.Task('exact', 64, 1, ('ours', 'rolled'), steps=8)
    return {
        'machine': {
            'backend': backend, 'device': 'H', 'cpu': 'C', 'cores': 2, 'python': '3', 'jax': '1',
            'jaxlib': '1', 'torch': None,
        },
        'date': 'today', 'precision': 'highest', 'repeats': 1,
        'tasks': [
            entry(tasks.Task('stylize', 256, 1, ()), ours=row(1e-3), eager=row(2.0)),
            entry(tasks.Task('adapt', 256, 4, ()), ours=row(1.0), eager={'reason': 'no memory'}),
            entry(tasks.Task('exact', 64, 4, ()), **step, eager=row(1.0)),
            entry(big, ours=row(1.0), rolled=row(1.0, 2**21)),
            entry(tasks.Task('pipeline', 64, 4, ('ours',)), ours={'pipeline': fed}),
        ],
    }  # fmt: skip


def verdicts(found):
    return {target.name: target.verdict() for target in targets.targets(found)}


def test_targets_are_reached_missed_or_not_measured():
    found = verdicts(results())
    assert found['stylizing 256² over eager'] == 'reached'
    assert found['stylizing 512² over eager'] == 'not measured'
    assert found['a step of adaptation over eager'] == 'not measured'
    assert found['exact meta-step, T = 1, over eager'] == 'missed by 25%'
    assert found['memory of T = 8 over T = 1, rolled'] == 'missed by 33%'
    assert found['share of matrix rate, exact'] == 'missed by 50%'
    assert found['a step with its pipeline over cached'] == 'missed by 90%'


def test_a_gpu_has_targets_of_its_own():
    found = verdicts(results('gpu'))
    assert found['milliseconds of stylizing 256²'] == 'reached'
    assert found['seconds of 200 steps of adaptation'] == 'missed by 6567%'
    assert 'images/s of 256², batch 32, bfloat16' not in verdicts(results())


def test_report_shows_numbers_reasons_and_targets():
    text = report.render(results())
    assert '1 ms [1–1]' in text
    assert '- adaptation step 256², batch 4, eager: no memory' in text
    assert '| exact meta-step, T = 1, over eager | ≤ 0.8 | 1 | missed by 25% |' in text


@pytest.mark.parametrize(
    ('value', 'text'), [(0.0123456, '0.0123'), (1234.5, '1230'), (12.34, '12.3'), (None, '')]
)
def test_numbers_have_three_digits(value, text):
    assert report.number(value) == text


@pytest.mark.parametrize('word', ['--works=paint', '--precision=low', '--size=8', '--repeats=-1'])
def test_senseless_flags_are_refused(word, tmp_path):
    from absl import flags

    values = flags.FlagValues()
    command.define_flags(values)
    values(['benchmarks', word])
    with pytest.raises(errors.UserError, match=word):
        command.check(values)
