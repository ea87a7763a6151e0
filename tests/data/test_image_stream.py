"""Streams of images: order, crops, and images that take the place of damaged ones."""

import errno
import os

import helpers
import numpy as np
import pytest
from batch_helpers import SETTINGS, assert_same, take

from metastyle_jax.data import batching, image_source, image_stream, sources
from metastyle_jax.data.images import image_files


def test_every_epoch_has_every_image_once_in_an_order_of_its_own(contents, styles):
    settings = SETTINGS | {'inner_steps': 1, 'contents_per_style': 1, 'styles_per_step': 1}
    order = [
        int(b.inner_index.item())
        for b in take(batching.meta_batches(contents, styles, **settings), 27)
    ]
    epochs = [order[:9], order[9:18], order[18:]]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_crops_and_flips_vary(contents, styles):
    batches = take(batching.meta_batches(contents, styles, **SETTINGS), 8)
    inner = np.concatenate([b.inner.reshape(-1, 16, 16, 3) for b in batches]).astype(int)
    flipped = inner[:, 8, 0, 0] > inner[:, 8, -1, 0]
    assert 0.3 < flipped.mean() < 0.7
    assert len({tuple(x[8, [0, -1], 0]) for x in inner}) > 10, 'left and right'
    assert len({x[0, 8, 1] for x in inner}) > 2, 'up and down'
    # A crop of 8/9 of the height keeps about 8/9 of the range of green.
    assert abs(np.ptp(inner[..., 1], axis=(1, 2)).mean() / 255 - 8 / 9) < 0.05


def test_styles_are_cropped_or_squashed(contents, styles):
    cropped = take(batching.meta_batches(contents, styles, **SETTINGS), 4)
    squashed = take(batching.meta_batches(contents, styles, style_fit='squash', **SETTINGS), 4)
    wide = [np.ptp(x[..., 0].astype(int)) for b in squashed for x in b.style]
    narrow = [np.ptp(x[..., 0].astype(int)) for b in cropped for x in b.style]
    assert min(wide) > 240 > 170 > max(narrow)
    assert len({int(x[0, 0, 0]) for b in cropped for x in b.style}) > 2
    assert all(np.ptp(x[..., 1].astype(int)) > 240 for b in cropped for x in b.style)


def damage(path):
    """Keeps the header and loses the pixels."""
    path.write_bytes(path.read_bytes()[:60])


def damaged_source(tmp_path, count, damaged):
    folder = helpers.write_images(tmp_path / 'damaged', count)
    source = sources.open_source(f'folder:{folder}', kind='content')
    for i in damaged:
        damage(folder / f'{i:02d}.png')
    return source


def test_damaged_pixels_give_way_to_the_next_image_and_are_logged_once(tmp_path, warned):
    source = damaged_source(tmp_path, 30, [7])
    with pytest.raises(image_files.ImageError):
        source.decode(7)
    plain = [
        image_stream.PartReader(source, np.arange(30), image_stream.DamageTally(), 16)[i][1]
        for i in (6, 7, 8)
    ]
    assert plain == [6, 8, 8]
    warned.clear()
    take(batching.content_batches(source, batch=60, size=16, seed=0), 2)
    assert len(warned) == 1
    assert '07.png' in warned[0]


def test_a_vanished_file_gives_way_too(tmp_path, warned):
    source = damaged_source(tmp_path, 12, [])
    os.remove(source[11])
    reader = image_stream.PartReader(source, np.arange(12), image_stream.DamageTally(), 16)
    assert reader[11][1] == 0
    assert '11.png' in warned[0]


def test_the_replacement_stays_in_its_part_of_the_split(tmp_path, styles, warned):
    train, val = batching.split(40, val_fraction=0.25, seed=3)
    last = [int(i) for i in val if i + 1 in train][0]
    source = damaged_source(tmp_path, 40, [last])
    batches = take(batching.meta_batches(source, styles, **SETTINGS), 6)
    outer = set(np.concatenate([b.outer_index.ravel() for b in batches]))
    assert warned
    assert outer <= set(val) - {last}


def test_damage_changes_nothing_for_workers(tmp_path, styles):
    source = damaged_source(tmp_path, 40, [5, 21])
    expected = take(batching.meta_batches(source, styles, **SETTINGS), 4)
    assert_same(take(batching.meta_batches(source, styles, workers=2, **SETTINGS), 4), expected)


@pytest.mark.parametrize('workers', [0, 1])
def test_more_than_a_tenth_of_damaged_pixels_is_an_error(tmp_path, workers):
    source = damaged_source(tmp_path, 20, range(0, 20, 4))
    batches = batching.content_batches(source, batch=20, size=16, seed=0, workers=workers)
    with pytest.raises(
        image_source.DataError, match=r'images tried are damaged: .*\.png.*Repair'
    ) as caught:
        next(batches)
    assert not getattr(caught.value, '__notes__', ())
    assert caught.value.__cause__ is None


def test_a_few_damaged_images_among_the_first_are_no_error(tmp_path, warned):
    source = damaged_source(tmp_path, 40, range(4))
    reader = image_stream.PartReader(source, np.arange(40), image_stream.DamageTally(), 16)
    assert reader[0][1] == 4
    assert len(warned) == 4


def test_a_part_without_any_good_image_is_an_error(tmp_path, styles, warned):
    train, val = batching.split(20, val_fraction=0.01, seed=3)
    source = damaged_source(tmp_path, 20, val)
    with pytest.raises(image_source.DataError, match='all of the 1 images'):
        next(batching.meta_batches(source, styles, **SETTINGS | {'val_fraction': 0.01}))


@pytest.mark.parametrize(
    'error',
    [MemoryError(), OSError(errno.EMFILE, 'Too many open files'), OSError(errno.ESTALE, '')],
)
def test_a_temporary_error_of_the_machine_is_no_damage(tmp_path, monkeypatch, warned, error):
    reader = image_stream.PartReader(
        damaged_source(tmp_path, 12, []), np.arange(12), image_stream.DamageTally(), 16
    )

    def fail(*args, **options):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(image_files.Image, 'open', fail)
        with pytest.raises(image_source.DataError, match='may be intact'):
            _ = reader[3]
    assert reader[3][1] == 3
    assert not warned
