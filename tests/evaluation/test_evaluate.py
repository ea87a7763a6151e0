"""Adaptation curves, the files that tell of them, and the baselines."""

import dataclasses
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy
from PIL import Image

from metastyle_jax.adaptation import adam_schedule, adaptation_start, adaptation_step
from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.baselines import feature_matching, gatys, johnson
from metastyle_jax.core import errors, files, loss_weights
from metastyle_jax.data import batching, sources
from metastyle_jax.evaluation import adaptation_curve, command, evaluate, report
from metastyle_jax.evaluation.config import RANDOM, EvaluationConfig
from metastyle_jax.models import gram, perceptual_loss, transformer, vgg
from metastyle_jax.storage import tensor_files, theta_files

ADAPT = AdaptConfig(steps=3, rate=1e-2, batch=2, size=32, style_size=32)
CONFIG = EvaluationConfig(adapt=ADAPT, random_steps=2, gatys=2, quality=False)


def changed(**settings):
    """`CONFIG` with other settings, of the evaluation or of its adaptations."""
    adapt = {name: value for name, value in settings.items() if hasattr(ADAPT, name)}
    own = {name: value for name, value in settings.items() if name not in adapt}
    return dataclasses.replace(CONFIG, adapt=dataclasses.replace(ADAPT, **adapt), **own)


@pytest.fixture(scope='module')
def network():
    return vgg.random(jax.random.key(1), width=4)


def theta(seed):
    params = transformer.init(jax.random.key(seed), width=4, blocks=1)
    return theta_files.Theta(params, tensor_files.fingerprint(params), {})


def grams(network):
    style = np.random.default_rng(3).uniform(size=(1, 32, 32, 3)).astype(np.float32)
    return gram.of_image(network, style[0])


def bytes_of(seed, count=2):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


def pictures(folder, count, seed):
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(count):
        pixels = rng.integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f'{i}.png')
    return sources.open_source(f'folder:{folder}', kind='content')


@pytest.fixture(scope='module')
def evaluated(tmp_path_factory, network):
    folder = tmp_path_factory.mktemp('evaluation')
    found = evaluate.evaluate(
        {'ours': theta(0), RANDOM: theta(1)},
        pictures(folder / 'photos', 5, 0),
        pictures(folder / 'paintings', 3, 1),
        held_out=2,
        styles=2,
        config=dataclasses.replace(CONFIG, matching=True),
        folder=folder,
        vgg_params=network,
    )
    return folder, found


def test_milestones_are_dense_at_first_and_end_with_the_last_step():
    assert adaptation_curve.milestones(200) == [0, 1, 2, 5, 10, 20, 50, 100, 200]
    assert adaptation_curve.milestones(30) == [0, 1, 2, 5, 10, 20, 30]
    assert adaptation_curve.milestones(1) == [0, 1]


def test_losses_on_the_way_are_those_of_plain_steps(network):
    start, targets = theta(0).params, grams(network)
    batches, squares = bytes_of(4, 6).reshape(3, 2, 32, 32, 3), bytes_of(5)
    kept = jax.tree.map(np.array, start)
    curve, outputs = adaptation_curve.adaptation_curve(
        theta(0), targets, network, iter(batches), squares, config=ADAPT, keep=(0, 3)
    )
    jax.tree.map(np.testing.assert_array_equal, kept, start)  # θ stays the caller's
    assert curve.steps == [0, 1, 2, 3]
    assert curve.seconds[0] == 0
    assert curve.seconds == sorted(curve.seconds)
    weights = adaptation_step.StepScalars(
        1e-2, loss_weights.CONTENT_WEIGHT, loss_weights.STYLE_WEIGHT
    )
    state, fixed, plan = adaptation_step.start(start, 'all')
    for batch in batches:
        state, _ = adaptation_step.adapt_step(
            state, fixed, network, jnp.asarray(batch), targets, weights, plan=plan
        )
    contents = batching.as_float(squares)
    expected = perceptual_loss.of_network(
        outputs.params, network, contents,
        perceptual_loss.compute_targets(network, contents, targets),
    )  # fmt: skip
    for name in ('total', 'content', 'style'):
        assert getattr(curve, name)[-1] == pytest.approx(float(getattr(expected, name)), rel=1e-4)
    for name, leaf in state.fast.items():
        found = tensor_files.flatten(outputs.params)[name]
        np.testing.assert_allclose(found, leaf, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        outputs.by_step[0], transformer.apply(start, contents), rtol=1e-4, atol=1e-5
    )


def test_steps_in_one_program_are_those_taken_one_by_one(network):
    config = dataclasses.replace(ADAPT, steps=5)
    pool = adaptation_curve.ContentPool(jnp.asarray(bytes_of(4, 7)), jax.random.key(2))
    keep = (4, 9)  # none of them a milestone
    rolled, singly = (
        adaptation_curve.adaptation_curve(
            theta(0),
            grams(network),
            network,
            pool,
            bytes_of(5),
            config=config,
            keep=keep,
            rolled=rolled,
        )
        for rolled in (True, False)
    )
    assert rolled[0].steps == singly[0].steps == [0, 1, 2, 4, 5]
    assert list(rolled[1].by_step) == list(singly[1].by_step) == [4]
    np.testing.assert_allclose(rolled[0].total, singly[0].total, rtol=1e-3)
    assert len(set(rolled[0].total)) == 5
    with pytest.raises(ValueError, match='need a pool'):
        adaptation_curve.adaptation_curve(
            theta(0), grams(network), network, iter([]), bytes_of(5), config=config, rolled=True
        )


def test_pool_is_of_the_contents_and_each_step_draws_anew(tmp_path):
    photos = pictures(tmp_path / 'photos', 3, 0)
    pool = adaptation_curve.read_pool(photos, count=4, size=16, seed=0)
    assert pool.crops.shape == (4, 16, 16, 3)
    assert pool.crops.dtype == np.uint8
    draw = lambda step, pool: np.asarray(adaptation_curve._draw(pool, jnp.asarray(step), batch=2))  # noqa: E731
    numbered = pool._replace(crops=jnp.arange(100, dtype=jnp.uint8)[:, None])
    drawn = [draw(step, numbered) for step in range(50)]
    assert all(batch.shape == (2, 1) for batch in drawn)
    assert len(np.unique(drawn)) > 40
    np.testing.assert_array_equal(draw(7, numbered), drawn[7])


def test_only_norms_move_if_only_they_are_adapted(network):
    config = dataclasses.replace(ADAPT, steps=1, params='norm')
    start = theta(0)
    _, outputs = adaptation_curve.adaptation_curve(
        start, grams(network), network, iter([bytes_of(4)]), bytes_of(5), config=config
    )
    before, after = tensor_files.flatten(start.params), tensor_files.flatten(outputs.params)
    moved = {name for name in before if (before[name] != after[name]).any()}
    assert moved
    assert all('norm' in name for name in moved)


def test_results_hold_a_curve_of_each_initialization_and_style(evaluated):
    folder, found = evaluated
    assert json.loads((folder / 'results.json').read_text('utf-8')) == found
    assert len(found['styles']) == 2
    for entry in found['styles']:
        assert entry['curves']['ours']['steps'] == [0, 1, 2, 3]
        assert entry['curves'][RANDOM]['steps'] == [0, 1, 2]
        assert set(entry['gatys']) == {'content', 'noise', 'adapted'}


def goes_on(folder, network, starts=None, styles=3, **changes):
    """The evaluation of the fixture, with more styles or other settings."""
    config = changed(**{'matching': True, **changes})
    return evaluate.evaluate(
        starts or {'ours': theta(0), RANDOM: theta(1)},
        sources.open_source(f'folder:{folder}/photos', kind='content'),
        sources.open_source(f'folder:{folder}/paintings', kind='style'),
        held_out=2,
        styles=styles,
        config=config,
        folder=folder,
        vgg_params=network,
    )


@pytest.fixture
def again(evaluated, tmp_path):
    """A copy of the folder of the fixture."""
    shutil.copytree(evaluated[0], tmp_path / 'again')
    return tmp_path / 'again'


def test_the_same_evaluation_goes_on_behind_the_styles_it_has(evaluated, again, network):
    _, before = evaluated
    after = goes_on(again, network, pool=0)
    assert after['styles'][:2] == before['styles']
    assert len(after['styles']) == 3
    assert json.loads((again / 'results.json').read_text('utf-8')) == after
    assert '3 styles' in (again / 'results.md').read_text('utf-8')
    with (
        Image.open(evaluated[0] / 'sheet_ours.png') as two,
        Image.open(again / 'sheet_ours.png') as three,
    ):
        assert two.width == three.width
        pitch = (three.height - two.height) - 2
        np.testing.assert_array_equal(
            np.asarray(two)[: 2 * pitch], np.asarray(three)[: 2 * pitch]
        )  # pictures that were there before are kept
    stamps = [path.stat().st_mtime_ns for path in sorted(again.iterdir())]
    assert goes_on(again, network) == after  # nothing is left to do
    assert stamps == [path.stat().st_mtime_ns for path in sorted(again.iterdir())]


def test_a_stop_between_files_loses_the_last_style_alone(evaluated, again, network, monkeypatch):
    def stop(path, *_):
        if path.name == 'results.json':
            raise KeyboardInterrupt
        return whole(path, *_)

    whole = files.write_whole
    monkeypatch.setattr(files, 'write_whole', stop)
    with pytest.raises(KeyboardInterrupt):
        goes_on(again, network)
    monkeypatch.undo()
    found = goes_on(again, network)
    assert [entry['name'] for entry in found['styles'][:2]] == [
        entry['name'] for entry in evaluated[1]['styles']
    ]
    assert len(found['styles']) == 3


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'seed': 1}, 'its settings.seed is 0, and now 1'),
        ({'starts': {'ours': theta(2), RANDOM: theta(1)}}, 'its thetas.ours is'),
        ({'starts': {RANDOM: theta(1)}}, 'its rates.ours is 0.01, and now None'),
        (
            {
                'starts': {
                    'ours': theta(0)._replace(rates={'out/bias': np.float32(1)}),
                    RANDOM: theta(1),
                }
            },
            'its with.ours is',
        ),
    ],
)
def test_results_of_another_evaluation_are_refused_and_kept(again, network, change, message):
    before = {path.name: path.read_bytes() for path in again.iterdir() if path.is_file()}
    with pytest.raises(errors.UserError, match=message + '.*choose another folder'):
        goes_on(again, network, **change)
    assert before == {path.name: path.read_bytes() for path in again.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        ('results.json', b'{'),
        ('results.json', b'[]'),
        ('results.json', b'[' * 100_000),
        ('cells.safetensors', safetensors.numpy.save({'other': np.zeros(1)})),
        ('results.json', b'{"styles": 3}'),
        ('results.json', b'{"styles": [{}]}'),
        ('results.json', b'{"styles": [{"name": "a"}]}'),
        ('cells.safetensors', b'x'),
        ('cells.safetensors', None),
    ],
)
def test_damaged_results_are_refused(again, network, name, content):
    (again / name).unlink() if content is None else (again / name).write_bytes(content)
    with pytest.raises(errors.UserError, match='holds damaged results'):
        goes_on(again, network)


def test_of_the_random_initialization_all_is_adapted(tmp_path, network):
    config = changed(steps=2, params='norm', gatys=0)
    found = evaluate.evaluate(
        {'ours': theta(0), RANDOM: theta(1)},
        pictures(tmp_path / 'photos', 3, 0),
        pictures(tmp_path / 'paintings', 1, 1),
        held_out=1, styles=1, config=config, folder=tmp_path, vgg_params=network,
    )  # fmt: skip
    (entry,) = found['styles']
    # Norms alone do not come as far at Johnson's rate.
    both = {'ours': theta(1), RANDOM: theta(1)}
    config = changed(steps=2, params='norm', gatys=0, rate=1e-3, schedule='constant')
    alone = evaluate.evaluate(
        both, sources.open_source(f'folder:{tmp_path}/photos', kind='content'),
        sources.open_source(f'folder:{tmp_path}/paintings', kind='style'),
        held_out=1, styles=1, config=config, folder=tmp_path / 'photos', vgg_params=network,
    )['styles'][0]['curves']  # fmt: skip
    assert alone[RANDOM]['total'][0] == alone['ours']['total'][0]
    assert alone[RANDOM]['total'][1:] != alone['ours']['total'][1:]
    assert alone[RANDOM]['total'] == entry['curves'][RANDOM]['total']


def test_an_inner_loop_that_a_theta_lacks_is_refused(tmp_path, network):
    with pytest.raises(errors.UserError, match=r"the θ 'ours' has no learned rates"):
        evaluate.evaluate(
            {'ours': theta(0), RANDOM: theta(1)},
            pictures(tmp_path / 'photos', 3, 0),
            pictures(tmp_path / 'paintings', 1, 1),
            held_out=1, styles=1, config=changed(inner_steps=2),
            folder=tmp_path, vgg_params=network,
        )  # fmt: skip


def test_table_has_medians_of_all_steps(evaluated):
    folder, found = evaluated
    text = (folder / 'results.md').read_text('utf-8')
    middle = np.median([entry['curves']['ours']['total'][-1] for entry in found['styles']])
    assert re.search(rf'^\| 3 \| {middle:.0f} \(.*\) \|  \|$', text, re.M)
    assert '| adapted |' in text
    assert re.search(r'^\| ours, 3 \| [\d.]+ \| [\d.]+ \| [\d.]+ \| [\d.]+ \|$', text, re.M)


def test_plot_and_sheet_are_pictures(evaluated):
    folder, _ = evaluated
    for name in ('curves.png', 'sheet_ours.png', 'sheet_random.png'):
        with Image.open(folder / name) as picture:
            assert np.asarray(picture.convert('RGB')).std() > 5


def test_sheets_show_the_last_step_of_each_initialization(evaluated):
    folder, _ = evaluated
    cells = safetensors.numpy.load_file(folder / 'cells.safetensors')
    steps = {tuple(key.split('/')[::2]) for key in cells if not key.startswith('style')}
    assert steps == {('ours', '0'), ('ours', '3'), ('random', '0'), ('random', '2')}


def test_set_aside_contents_are_not_adapted_on(tmp_path):
    photos = pictures(tmp_path / 'photos', 5, 0)
    rest, squares = evaluate.open_held_out(photos, count=2, size=16, seed=0)
    assert len(rest) == 3
    assert squares.shape == (2, 16, 16, 3)
    aside = {photos.name(i) for i in range(5)} - {rest.name(i) for i in range(3)}
    assert len(aside) == 2
    with pytest.raises(errors.UserError, match='held_out=5 of 5'):
        evaluate.open_held_out(photos, count=5, size=16, seed=0)


def test_held_out_images_and_the_others_make_up_a_source(tmp_path):
    photos = pictures(tmp_path / 'photos', 40, 0)
    inside, outside = (sources.held_out(photos, inside=flag) for flag in (True, False))
    names = [{part.name(i) for i in range(len(part))} for part in (inside, outside)]
    assert len(names[0]) + len(names[1]) == 40
    assert not names[0] & names[1]
    assert all(map(sources.is_held_out, names[0]))
    assert sources.is_held_out('deep/in/folders/' + min(names[0]))


# --- baselines ---


def test_gatys_lowers_the_loss_from_any_start(network):
    content = batching.as_float(bytes_of(6, 1)[0])
    for start in (None, 1 - content):
        found = gatys.optimize(content, grams(network), network, start=start, iterations=5)
        assert found.losses.shape == found.seconds.shape == (6,)
        assert found.losses[-1] < 0.9 * found.losses[0]
        assert 0 <= found.image.min() <= found.image.max() <= 1
    assert (np.diff(found.losses) <= 0).all()


def test_gatys_stays_where_there_is_nothing_to_do(network):
    content = batching.as_float(bytes_of(6, 1)[0])
    own = gram.of_image(network, content)
    found = gatys.optimize(content, own, network, iterations=2)
    assert found.losses[0] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(found.image, content, atol=1e-5)


@pytest.mark.parametrize(
    ('change', 'message'),
    [({'start': np.zeros((8, 8, 3))}, 'both must be one image'), ({'iterations': 0}, '=0')],
)
def test_gatys_refuses_what_it_cannot_begin_with(network, change, message):
    content = np.zeros((16, 16, 3), np.float32)
    with pytest.raises(errors.UserError, match=message):
        gatys.optimize(content, grams(network), network, **change)


def test_johnson_starts_from_random_weights_of_the_standard_size():
    params = johnson.initial(3).params
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 1_679_235
    other = johnson.initial(4)
    assert other.fingerprint != johnson.initial(3).fingerprint
    with pytest.raises(errors.UserError, match='leave params out'):
        johnson.train('painting.jpg', params='norm')


def test_feature_matching_keeps_the_content_and_takes_the_style():
    engine = feature_matching.load()
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    content = np.broadcast_to(ramp[None, :, None], (1, 64, 64, 3))  # dark to bright
    painting = np.zeros((40, 50, 3), np.float32)
    painting[..., 0] = 1
    (red,) = feature_matching.stylize(engine, content, painting, size=32)
    assert red.shape == (32, 32, 3)
    assert 0 <= red.min() <= red.max() <= 1
    assert red[..., 0].mean() > red[..., 1:].mean() + 0.1
    (own,) = feature_matching.stylize(engine, content, content[0] / np.float32(255), size=32)
    assert own[:, -8:].mean() > own[:, :8].mean() + 0.1


def test_missing_matching_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(feature_matching.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(errors.UserError, match=r"pip install 'metastyle_jax\[evaluate\]'"):
        feature_matching.load()


# --- the command ---


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ([], '--workdir must be given'),
        (['--workdir=x', '--theta=a=b,a=c'], 'no θ at b'),
        (['--workdir=x', '--theta=random=b'], "the name 'random' is taken"),
        (['--workdir=x', '--steps=0'], '--steps=0'),
        (['--workdir=x', '--params=some'], "'some'"),
        (['--workdir=x', '--styles=-1'], '--styles=-1'),
        (['--workdir=x', '--pool=-1'], '--pool=-1'),
        (['--workdir=x', '--steps=3', '--inner_steps=4'], '--inner_steps=4 is more than'),
        (['--workdir=gs://bucket/run'], 'not a bucket'),
        (['--workdir=x', '--seed=-1'], '--seed=-1'),
        (['--workdir=x', '--theta=runs/lr=1e-3'], "'lr=1e-3' is no name: write NAME=PATH"),
        (['--workdir=x', '--theta=a=runs/lr=1e-3'], 'no θ at runs/lr=1e-3'),
    ],
)
def test_senseless_flags_are_refused(words, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', ['evaluate', *words])
    assert command.run() == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_missing_plotting_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(report.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(errors.UserError, match=r"pip install 'metastyle_jax\[evaluate\]'"):
        report.require_matplotlib()


# --- a θ with a learned inner loop ---


def test_adaptation_begins_with_the_learned_inner_loop_and_goes_on_with_adam(network):
    plain = theta(0)
    names = [name for name in tensor_files.flatten(plain.params) if 'norm' in name]
    rates = {name: np.float32(0.01 * (i + 1)) for i, name in enumerate(names)}
    inner = {'steps': 1, 'optimizer': 'sgd', 'log_loss': True}
    learned = adaptation_start.learned_inner_loop(
        plain._replace(rates=rates, settings={'inner': inner})
    )
    state, fixed, plan = adaptation_step.start(plain.params, 'all', learned, schedule='constant')
    weights = adaptation_step.StepScalars(
        1e-2, loss_weights.CONTENT_WEIGHT, loss_weights.STYLE_WEIGHT
    )
    targets, contents = grams(network), jnp.asarray(bytes_of(4))

    def gradient(fast, log):
        def total(fast):
            params = tensor_files.unflatten(fast)
            pixels = batching.as_float(contents)
            found = perceptual_loss.of_network(
                params, network, pixels, perceptual_loss.compute_targets(network, pixels, targets)
            ).total
            return jnp.log(found) if log else found

        return jax.jit(jax.grad(total))(fast)

    begin = {name: jnp.asarray(leaf) for name, leaf in tensor_files.flatten(plain.params).items()}
    moved = gradient(begin, log=True)
    first = {name: leaf - rates.get(name, 0.0) * moved[name] for name, leaf in begin.items()}
    adam = adam_schedule.adam(1e-2, 'constant')
    _, opt_state = adam.update(gradient(begin, log=False), adam.init(begin))
    updates, _ = adam.update(gradient(first, log=False), opt_state)
    second = optax.apply_updates(first, updates)
    for expected in (first, second):
        state, _ = adaptation_step.adapt_step(
            state, fixed, network, contents, targets, weights, plan=plan
        )
        for name, leaf in expected.items():
            if float(jnp.abs(moved[name]).max()) < 1e-5:
                continue  # an instance norm undoes it, and Adam turns rounding into steps
            np.testing.assert_allclose(state.fast[name], leaf, rtol=1e-3, atol=1e-4, err_msg=name)


def test_inner_steps_of_theta_can_be_left_out():
    plain = theta(0)
    assert adaptation_start.learned_inner_loop(plain) is None
    rates = {'out/bias': np.float32(0.1)}
    with_rates = plain._replace(rates=rates, settings={'inner': {'steps': 3, 'unknown': 1}})
    assert adaptation_start.learned_inner_loop(with_rates).loop == adaptation_step.LearnedLoop(
        steps=3
    )
    assert adaptation_start.learned_inner_loop(with_rates, steps=0) is None
    assert adaptation_start.learned_inner_loop(with_rates, steps=7).loop.steps == 7


def test_momentum_builds_up_and_the_rate_warms_and_falls():
    found = [float(adam_schedule.momentum(jnp.asarray(step))) for step in (0, 2, 26, 1000)]
    assert found == pytest.approx([0.25, 0.5, 0.9, 0.9])
    found = [float(adam_schedule.warm_and_fall(jnp.asarray(step))) for step in (0, 2, 50)]
    assert found == pytest.approx([1 / 3, 1 / 1.04, 0.5])
    gradient = {'x': jnp.ones(())}
    optimizer = adam_schedule.adam(0.1, 'falling')
    state, moved = optimizer.init(gradient), []
    for _ in range(3):  # of a constant gradient Adam makes steps of its rate
        update, state = optimizer.update(gradient, state)
        moved.append(float(update['x']))
    expected = [-0.1 * float(adam_schedule.warm_and_fall(jnp.asarray(step))) for step in range(3)]
    assert moved == pytest.approx(expected, rel=0.2)
    with pytest.raises(errors.UserError, match="'rising'"):
        adam_schedule.adam(0.1, 'rising')


@pytest.mark.parametrize(('params', 'factor'), [('all', 10), ('norm', 60)])
def test_norms_take_longer_steps(network, params, factor):
    state, fixed, plan = adaptation_step.start(theta(0).params, params)
    begun = jax.tree.map(np.array, state.fast)
    weights = adaptation_step.StepScalars(
        1e-3, loss_weights.CONTENT_WEIGHT, loss_weights.STYLE_WEIGHT
    )
    contents = jnp.asarray(bytes_of(4))
    state, _ = adaptation_step.adapt_step(
        state, fixed, network, contents, grams(network), weights, plan=plan
    )
    for name, longest in {'out/kernel': 1, 'up2/norm/scale': factor}.items():
        if name in begun:
            moved = float(np.abs(begun[name] - state.fast[name]).max())
            assert moved == pytest.approx(longest * 1e-3 / 3, rel=0.01), name
