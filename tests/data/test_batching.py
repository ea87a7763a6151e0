"""Batches that depend on the seed and the step alone."""

import contextlib

import helpers
import jax.numpy as jnp
import numpy as np
import pytest
from batch_helpers import SETTINGS, assert_same, take
from PIL import Image

from metastyle_jax.data import batching, image_source, sources


@pytest.mark.parametrize(('count', 'fraction'), [(2, 0.01), (2, 0.99), (10, 0.25), (1000, 0.1)])
def test_split_is_a_partition_without_empty_parts(count, fraction):
    train, val = batching.split(count, val_fraction=fraction, seed=0)
    assert sorted([*train, *val]) == list(range(count))
    assert len(val) == min(max(round(count * fraction), 1), count - 1)


def test_split_depends_on_the_seed_alone():
    one, same, other = (batching.split(50, val_fraction=0.5, seed=seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize('count', [0, 1])
def test_split_of_fewer_than_two_is_an_error(count):
    with pytest.raises(image_source.DataError, match=f'{count} content'):
        batching.split(count, val_fraction=0.5, seed=0)


def test_a_batch_has_arrays_of_bytes_and_indices_of_the_documented_shapes(contents, styles):
    (batch,) = take(batching.meta_batches(contents, styles, **SETTINGS), 1)
    assert [x.shape for x in batch] == [
        (2, 2, 3, 16, 16, 3),
        (2, 3, 16, 16, 3),
        (2, 20, 20, 3),
        (2, 2, 3),
        (2, 3),
        (2,),
    ]
    assert [x.dtype for x in batch] == [np.uint8] * 3 + [np.int32] * 3
    assert all(type(x) is np.ndarray for x in batch)


def test_inner_and_outer_contents_are_disjoint_and_cover_their_parts(contents, styles):
    batches = take(batching.meta_batches(contents, styles, **SETTINGS), 6)
    train, val = batching.split(12, val_fraction=0.25, seed=3)
    assert set(np.concatenate([b.inner_index.ravel() for b in batches])) == set(train)
    assert set(np.concatenate([b.outer_index.ravel() for b in batches])) == set(val)


def test_indices_name_the_images_of_the_batch(tmp_path, styles):
    folder = tmp_path / 'colours'
    folder.mkdir()
    for i in range(8):
        Image.new('RGB', (20, 20), (i * 20, 0, 0)).save(folder / f'{i}.png')
    source = sources.open_source(f'folder:{folder}', kind='content')
    (batch,) = take(batching.meta_batches(source, styles, **SETTINGS), 1)
    np.testing.assert_array_equal(batch.inner[..., 0, 0, 0], batch.inner_index * 20)
    np.testing.assert_array_equal(batch.outer[..., 0, 0, 0], batch.outer_index * 20)


def test_a_batch_may_be_larger_than_an_epoch(contents, tmp_path):
    one = sources.open_source(f'folder:{helpers.write_images(tmp_path / "one", 1)}', kind='style')
    settings = SETTINGS | {'styles_per_step': 4, 'inner_steps': 5}
    (batch,) = take(batching.meta_batches(contents, one, **settings), 1)
    assert batch.inner.shape[:3] == (4, 5, 3)
    np.testing.assert_array_equal(batch.style_index, 0)


def test_without_inner_steps_the_contents_are_those_of_training(contents, styles):
    settings = SETTINGS | {'inner_steps': 0}
    seen = set()
    for batch in take(batching.meta_batches(contents, styles, **settings), 6):
        assert batch.inner.shape[:3] == (SETTINGS['styles_per_step'], 0, 3)
        assert batch.inner_index.shape == batch.inner.shape[:3]
        seen |= set(np.ravel(batch.outer_index).tolist())
    train, _ = batching.split(
        len(contents), val_fraction=SETTINGS['val_fraction'], seed=SETTINGS['seed']
    )
    assert seen == set(train.tolist())


def test_the_sequence_depends_on_the_seed(contents, styles):
    one, same, other = (
        take(batching.meta_batches(contents, styles, **SETTINGS | {'seed': seed}), 3)
        for seed in (0, 0, 1)
    )
    assert_same(one, same)
    assert not np.array_equal(one[0].inner, other[0].inner)


def test_content_batches_use_the_whole_source(contents):
    batches = take(batching.content_batches(contents, batch=5, size=16, seed=0), 3)
    assert [(x.shape, x.dtype) for x in batches] == [((5, 16, 16, 3), np.uint8)] * 3
    with batching.content_batches(contents, batch=5, size=16, seed=0, workers=1) as there:
        for expected in batches:
            np.testing.assert_array_equal(next(there), expected)


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('styles_per_step', 0),
        ('inner_steps', 1.5),
        ('inner_steps', -1),
        ('contents_per_style', True),
        ('size', 15),
        ('style_size', -1),
        ('style_fit', 'stretch'),
        ('val_fraction', 1.0),
        ('val_fraction', 0),
        ('val_fraction', float('nan')),
        ('seed', -1),
        ('seed', 2**32),
        ('workers', -1),
    ],
)
def test_settings_out_of_range_are_errors(contents, styles, name, value):
    with pytest.raises(image_source.DataError, match=f'{name}={value!r}'):
        batching.meta_batches(contents, styles, **SETTINGS | {name: value})


@pytest.mark.parametrize(
    ('name', 'value'), [('batch', 0), ('size', 8), ('seed', 'x'), ('workers', 2.0)]
)
def test_settings_of_content_batches_out_of_range_are_errors(contents, name, value):
    with pytest.raises(image_source.DataError, match=f'{name}={value!r}'):
        batching.content_batches(contents, **{'batch': 1, 'size': 16, 'seed': 0} | {name: value})


def test_as_float_takes_numpy_and_jax():
    for xp in (np, jnp):
        x = batching.as_float(xp.array([0, 51, 255], xp.uint8))
        assert isinstance(x, xp.ndarray)
        assert x.dtype == np.float32
        np.testing.assert_allclose(x, [0, 0.2, 1])


@pytest.mark.parametrize('processes', [2, 4])
def test_shares_of_processes_make_up_the_batch_of_one(tmp_path, processes):
    helpers.write_images(tmp_path, 12)
    source = sources.open_source(f'folder:{tmp_path}', kind='content')

    def batches(share):
        return batching.meta_batches(
            source, source, styles_per_step=4, inner_steps=2, contents_per_style=1, size=16,
            style_size=16, val_fraction=0.25, seed=3, share=share,
        )  # fmt: skip

    with contextlib.ExitStack() as stack:
        whole = stack.enter_context(batches((0, 1)))
        parts = [stack.enter_context(batches((i, processes))) for i in range(processes)]
        whole.set_state(parts[0].get_state() | {'step': 1})
        for part in parts:
            part.set_state(whole.get_state())
        for _ in range(4):  # more than an epoch
            expected, found = next(whole), [next(part) for part in parts]
            for name in batching.MetaBatch._fields:
                joined = np.concatenate([getattr(each, name) for each in found])
                np.testing.assert_array_equal(joined, getattr(expected, name), err_msg=name)
        assert all(part.get_state() == whole.get_state() for part in parts)
    with pytest.raises(image_source.DataError, match='4 styles'):
        batches((0, 3))
