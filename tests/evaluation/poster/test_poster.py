"""The measurement of the poster: times, quality, tables, plot and files."""

import functools
import json

import adaptation_helpers
import jax
import numpy as np
import pytest
from PIL import Image

from metastyle_jax.baselines import feature_matching, gatys, systems
from metastyle_jax.core.errors import UserError
from metastyle_jax.evaluation.poster import (
    poster,
    poster_tables,
    published,
    quality,
    timing,
    trade_off_plot,
)
from metastyle_jax.evaluation.poster.config import SYSTEMS, PosterConfig
from metastyle_jax.models import perceptual_loss


def test_the_systems_are_those_of_the_baselines_in_the_order_of_the_poster():
    assert SYSTEMS == systems.NAMES == (*published.ROWS,)


def test_the_published_ratios():
    assert published.ratio('wct', 256) == pytest.approx(146.5, abs=0.1)
    assert published.ratio('metastyle', 512) == 1
    assert published.ratio('wct', 128) is None


@pytest.mark.parametrize(
    ('changes', 'word'),
    [
        ({'systems': ()}, 'systems'),
        ({'systems': ('adaIN',)}, 'adaIN'),
        ({'sizes': ('16',)}, 'sizes=16'),
        ({'sizes': ('large',)}, 'sizes=large'),
        ({'sizes': ()}, 'sizes'),
        ({'repeats': 0}, 'repeats=0'),
        ({'precision': 'low'}, 'precision'),
    ],
)
def test_settings_that_cannot_be_used_are_refused(changes, word):
    with pytest.raises(UserError, match=word):
        PosterConfig(**changes).validate()


@pytest.fixture(scope='module')
def times():
    """Times of two small systems at 32²."""
    get = functools.partial(systems.get, width=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing.systems, 'get', get)
        patch.setattr(timing, '_LONG_ENOUGH', 1e-9)
        return timing.measure(32, PosterConfig(systems=('adain', 'style-swap'), repeats=3))


def test_each_system_has_a_time_of_each_round_and_the_memory_of_its_program(times):
    assert list(times) == ['adain', 'style-swap']
    for entry in times.values():
        assert len(entry['style']) == len(entry['picture']) == 3
        assert min(entry['style'] + entry['picture']) > 0
        assert 32 * 32 * 3 * 4 * 2 < entry['memory'] < 2**24  # a content, a picture and more


def test_gatys_is_timed_above_256_pixels_only_if_asked(monkeypatch):
    prepared = []
    task = timing._Task(None, None, {}, 1)
    monkeypatch.setattr(timing, '_prepare', lambda name, *rest: prepared.append(name) or task)
    config = PosterConfig(systems=('gatys', 'adain'))
    assert list(timing.measure(512, config)) == ['adain']
    assert list(timing.measure(256, config)) == ['gatys', 'adain']
    with_gatys = PosterConfig(systems=('gatys',), large_gatys=True)
    assert list(timing.measure(512, with_gatys)) == ['gatys']


def test_a_system_without_enough_memory_is_left_out_with_its_reason(monkeypatch):
    def prepare(name, size, config):
        raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: too large\nmore')

    monkeypatch.setattr(timing, '_prepare', prepare)
    found = timing.measure(512, PosterConfig(systems=('adain',)))
    assert found == {'adain': {'reason': 'RESOURCE_EXHAUSTED: too large'}}


def test_a_system_that_lacks_memory_when_it_runs_does_not_end_the_others(monkeypatch):
    def large():
        raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: too large\nmore')

    tasks = {
        'adain': timing._Task(lambda: 0, large, {}, 1),
        'wct': timing._Task(lambda: 0, lambda: 0, {}, 1),
    }
    monkeypatch.setattr(timing, '_prepare', lambda name, *_: tasks[name])
    found = timing.measure(32, PosterConfig(systems=('adain', 'wct'), repeats=2))
    assert found['adain'] == {'reason': 'RESOURCE_EXHAUSTED: too large'}
    assert len(found['wct']['picture']) == len(found['wct']['style']) == 2


def test_a_folder_that_cannot_be_made_is_told_before_the_measurements(tmp_path, monkeypatch):
    monkeypatch.setattr(poster.timing, 'measure', lambda *_, **__: pytest.fail('it measures'))
    (tmp_path / 'file').touch()
    config = PosterConfig(systems=('gatys',), quality=False)
    with pytest.raises(UserError, match='workdir=.*file/out cannot be made'):
        poster.run(tmp_path / 'file' / 'out', config=config)


def test_the_lowered_iteration_of_gatys_is_the_one_that_runs():
    params = adaptation_helpers.small_vgg()
    content = np.full((16, 16, 3), 0.5, np.float32)
    grams = gatys.gram.of_image(params, content)
    targets = jax.eval_shape(perceptual_loss.compute_targets, params, content[None], grams)
    lowered = gatys.lower_iteration(content, params, targets, perceptual_loss.DEFAULT_WEIGHTS)
    image, _, loss = lowered.out_info
    assert (image.shape, loss.shape) == (content.shape, ())


@pytest.fixture(scope='module')
def images():
    rng = np.random.default_rng(0)
    contents = rng.uniform(size=(2, 32, 32, 3)).astype(np.float32)
    paintings = {f'{i}.png': rng.uniform(size=(24, 40, 3)).astype(np.float32) for i in range(2)}
    return quality.TestImages(contents, ('a', 'b'), paintings)


def painter_of(paint, warmed):
    return quality.Painter(lambda *images: warmed.append(images), lambda image: image, paint, 'x')


def test_the_photographs_themselves_keep_their_style_loss_and_are_most_similar(images):
    warmed = []
    painter = painter_of(lambda style, contents: contents, warmed)
    vgg_params = adaptation_helpers.small_vgg()
    found = quality.measure([('copy', painter)], images, vgg_params)['copy']
    assert [entry['name'] for entry in found['styles']] == list(images.paintings)
    for entry in found['styles']:
        assert entry['share'] == pytest.approx(1, abs=1e-5)
        assert entry['content'] == pytest.approx(0, abs=1e-5)
        assert entry['total'] == pytest.approx(entry['content'] + entry['style'], rel=1e-5)
        assert entry['lpips'] == pytest.approx(0, abs=1e-5)
        assert entry['ssim'] == pytest.approx(1, abs=1e-5)
    assert len(warmed) == 1  # both paintings have one size, so one compilation serves both


def test_losses_are_those_of_the_perceptual_loss(images):
    painter = painter_of(lambda style, contents: 1 - contents, [])
    vgg_params = adaptation_helpers.small_vgg()
    (entry, _) = quality.measure([('x', painter)], images, vgg_params)['x']['styles']
    grams = gatys.gram.of_image(vgg_params, images.paintings['0.png'])
    targets = perceptual_loss.compute_targets(vgg_params, images.contents, grams)
    expected = perceptual_loss.of_images(vgg_params, 1 - images.contents, targets)
    assert entry['style'] == pytest.approx(float(expected.style), rel=1e-4)
    assert entry['content'] == pytest.approx(float(expected.content), rel=1e-4)


def write_pictures(folder, count, seed):
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(count):
        pixels = rng.integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f'{seed}-{i}.png')
    return f'folder:{folder}'


def test_images_are_read_at_the_sizes_of_the_settings(tmp_path):
    config = PosterConfig(
        content=write_pictures(tmp_path / 'photos', 3, 0),
        style=write_pictures(tmp_path / 'paintings', 2, 1),
        contents=3, styles=2, size=32, style_size=32,
    )  # fmt: skip
    found = quality.read_images(config)
    assert found.contents.shape == (3, 32, 32, 3)
    assert 0 <= found.contents.min() < found.contents.max() <= 1
    assert len({*found.names}) == 3
    assert [painting.shape for painting in found.paintings.values()] == [(29, 35, 3)] * 2
    with pytest.raises(UserError, match='styles=3'):
        quality.read_images(PosterConfig(content=config.content, style=config.style, styles=3))


def entry_of(style, picture, total=8.0):
    return {
        'styles': [
            {
                'name': 'a', 'content': total / 4, 'style': 3 * total / 4, 'total': total,
                'share': 0.25, 'lpips': 0.1, 'ssim': 0.9, 'style_seconds': style,
                'picture_seconds': picture,
            }
        ],
        'note': 'vgg16',
    }  # fmt: skip


@pytest.fixture
def results():
    return {
        'machine': {'device': 'a device', 'cores': 2, 'jax': '1'},
        'date': '2026-01-01',
        'settings': dict(vars(PosterConfig())),
        'counts': {'adain': 7_010_947, 'wct': 1000, 'metastyle': 1_679_235},
        'footnotes': {'wct': 'a footnote', 'adain': ''},
        'times': {
            '256': {
                'wct': {'memory': 2**21, 'style': [0.2] * 3, 'picture': [0.1, 0.4, 0.7]},
                'adain': {'memory': None, 'style': [0.1], 'picture': [0.5]},
                'metastyle': {'memory': 2**20, 'style': [7.0], 'picture': [0.1, 0.2, 0.3]},
            },
            '512': {'wct': {'reason': 'too large'}, 'adain': {'memory': 1, 'picture': [1.0]}},
        },
        'quality': {
            'adain': entry_of(0.5, 0.25, 9.0),
            'metastyle': entry_of(7.0, 0.1),
            'wct': {'reason': 'no weights'},
        },
    }  # fmt: skip


def test_the_tables_have_times_ratios_and_the_numbers_of_the_poster(results):
    text = poster_tables.render(results)
    row = next(line for line in text.splitlines() if line.startswith('| wct | 1,000 | 34.23 M'))
    assert '| 0.400 (0.250–0.550) | 2.00 | 0.6887 | 147 | 2 |' in row
    assert '| too large |' in text
    assert 'a footnote' in text
    assert '| adain | 9.00 | 2.25 | 6.75 | 25.0 % | 0.100 | 0.900 | 0.500 | 0.250 | vgg16 |' in text
    assert 'no weights' in text
    widths = {line.count('|') for line in text.splitlines() if line.startswith('|')}
    assert widths == {11}


def test_the_order_of_the_poster_is_compared(results):
    times = results['times']['256']
    assert poster_tables.order_text(times, 256) == (
        'The order differs from the poster: adain is faster than wct on the poster, slower here.'
    )
    times['adain']['picture'] = [0.3]
    assert 'same order' in poster_tables.order_text(times, 256)
    # 0.0044 and 0.0047 s on the poster are times of one and the same network.
    times['johnson'] = {'picture': [0.21]}
    assert 'same order' in poster_tables.order_text(times, 256)
    assert poster_tables.order_text(times, 64) == ''


def test_the_work_for_a_style_is_shared_by_all_photographs():
    found = poster_tables.medians(entry_of(7.0, 0.1))
    assert trade_off_plot.amortized(found, 10) == pytest.approx(8.0)


def test_the_plot_shows_what_was_measured(results):
    assert trade_off_plot.plot(results).startswith(b'\x89PNG')


def test_a_run_writes_its_files_and_names_systems_without_weights(tmp_path, monkeypatch, results):
    monkeypatch.setattr(feature_matching, 'is_installed', lambda: False)
    monkeypatch.setattr(poster.timing, 'measure', lambda *_, **__: results['times']['256'])
    monkeypatch.setattr(poster.vgg, 'load', adaptation_helpers.small_vgg)
    load = quality.load_painter

    def load_painter(name, config, **options):
        if name == 'wct':
            return load(name, config, weights=str(tmp_path / 'missing.safetensors'))
        assert options['unseen'] == ('0-0.png',)
        return painter_of(lambda style, contents: contents, [])

    monkeypatch.setattr(poster.quality, 'load_painter', load_painter)
    config = PosterConfig(
        content=write_pictures(tmp_path / 'photos', 1, 0), contents=1,
        style=write_pictures(tmp_path / 'paintings', 1, 1), styles=1,
        size=32, style_size=32, systems=('wct', 'adain'), sizes=('256',),
    )  # fmt: skip
    found = poster.run(tmp_path / 'out', config=config)
    written = json.loads((tmp_path / 'out/results.json').read_text())
    assert written == json.loads(json.dumps(found))
    assert 'missing.safetensors' in found['quality']['wct']['reason']
    assert found['quality']['adain']['styles'][0]['ssim'] == pytest.approx(1, abs=1e-5)
    assert found['counts'] == {'wct': 34_239_311, 'adain': 7_010_947}
    assert (tmp_path / 'out/results.md').read_text() == poster_tables.render(found)
    assert (tmp_path / 'out/trade_off.png').read_bytes().startswith(b'\x89PNG')


def test_johnson_trains_at_the_size_at_which_its_pictures_are_judged(monkeypatch):
    seen = {}

    def load(name, weights, **options):
        seen.update(options)
        return system_files_load(name, weights, **options)

    system_files_load = quality.system_files.load
    monkeypatch.setattr(quality.system_files, 'load', load)
    quality.load_painter('johnson', PosterConfig(size=48, style_size=64, scratch_steps=3))
    assert (seen['size'], seen['style_size'], seen['steps']) == (48, 64, 3)
