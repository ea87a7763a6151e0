"""Patch swap against a search of every pair of patches in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastyle_jax.baselines.features import patches
from metastyle_jax.core import errors


def maps(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def swap(contents, style, **options):
    """Compiles the swap anew, so that a patched size of blocks counts."""
    compiled = jax.jit(lambda c, s: patches.swap(c, s, **options))
    return compiled(jnp.asarray(contents), jnp.asarray(style))


def by_search(content, style, size):
    """Compares every pair of patches, and adds up the overlaps one patch at a time."""
    (height, width, _), (h, w, _) = content.shape, style.shape
    bank = [
        style[v : v + size, u : u + size] for v in range(h - size + 1) for u in range(w - size + 1)
    ]
    total, count = np.zeros_like(content), np.zeros((height, width, 1))
    for y in range(height - size + 1):
        for x in range(width - size + 1):
            here = slice(y, y + size), slice(x, x + size)
            similar = [np.sum(content[here] * b) / np.sqrt(np.sum(b * b)) for b in bank]
            total[here] += bank[int(np.argmax(similar))]
            count[here] += 1
    return total / count


@pytest.mark.parametrize('products', [1, 200, 2**24])  # held at a time: one row, some rows, all
@pytest.mark.parametrize(
    ('content', 'style', 'size'),
    [((7, 5, 3), (6, 9, 3), 3), ((6, 8, 2), (5, 7, 2), 5), ((4, 4, 2), (3, 2, 2), 2),
     ((3, 3, 1), (3, 3, 1), 3), ((3, 4, 2), (2, 3, 2), 1)],
)  # fmt: skip
def test_swap_equals_a_search_of_all_pairs(content, style, size, products, x64, monkeypatch):
    monkeypatch.setattr(patches, '_PRODUCTS', products)
    contents, style = maps(2, *content), maps(*style, seed=1)
    found = swap(contents, style, size=size)
    assert found.dtype == jnp.float64
    for one, content in zip(found, contents, strict=True):
        np.testing.assert_allclose(one, by_search(content, style, size), rtol=1e-12, atol=1e-12)


def test_centred_patches_see_maps_that_are_extended_by_their_border_pixels(x64):
    content, style = maps(4, 6, 2), maps(5, 3, 2, seed=1)
    found = swap(content[None], style, size=5, centred=True)
    wide, bank = (np.pad(x, ((2, 2), (2, 2), (0, 0)), mode='edge') for x in (content, style))
    np.testing.assert_allclose(found[0], by_search(wide, bank, 5)[2:-2, 2:-2], rtol=1e-12)


@pytest.mark.parametrize('centred', [False, True])
@pytest.mark.parametrize(('height', 'width'), [(9, 7), (5, 12)])
def test_a_map_that_is_swapped_with_itself_returns_itself(height, width, centred):
    one = np.float32(maps(height, width, 4))
    found = swap(one[None], one, size=3, centred=centred)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found[0], one, rtol=1e-6)


def test_the_strength_of_a_patch_does_not_matter_but_its_direction_does():
    style = np.zeros((3, 6, 2), np.float32)
    style[:, :3, 0], style[:, 3:, 1] = 100, 1
    content = np.full((1, 3, 3, 2), [[[[1, 2]]]], np.float32)
    found = swap(content, style, size=3)
    np.testing.assert_array_equal(found[0], style[:, 3:])


def test_flat_and_zero_maps_stay_finite():
    content, zeros = np.float32(maps(1, 5, 5, 2)), np.zeros((4, 4, 2), np.float32)
    np.testing.assert_array_equal(swap(content, zeros, size=3), np.zeros_like(content))
    flat = np.ones((4, 4, 2), np.float32)
    np.testing.assert_allclose(swap(content, flat, size=3), 1, rtol=1e-6)


def test_maps_smaller_than_a_patch_are_swapped_if_patches_are_centred():
    content, style = np.float32(maps(1, 1, 2, 3)), np.float32(maps(2, 1, 3, seed=1))
    found = swap(content, style, size=5, centred=True)
    assert found.shape == content.shape
    assert np.isfinite(found).all()


def test_gradients_reach_the_style_through_the_chosen_patches(x64):
    contents, style = jnp.asarray(maps(1, 5, 4, 2)), jnp.asarray(maps(4, 5, 2, seed=1))
    total = jax.jit(lambda c, s: jnp.sum(patches.swap(c, s, size=3) ** 2))
    for_content, for_style = jax.jit(jax.grad(total, (0, 1)))(contents, style)
    np.testing.assert_array_equal(for_content, 0)
    direction = maps(4, 5, 2, seed=2)
    step = 1e-6
    change = total(contents, style + step * direction) - total(contents, style - step * direction)
    np.testing.assert_allclose(np.sum(for_style * direction), change / (2 * step), rtol=1e-7)


@pytest.mark.parametrize(
    ('content', 'style', 'options', 'message'),
    [
        ((1, 2, 5, 3), (4, 4, 3), {}, 'a patch needs 3 x 3; use larger images'),
        ((1, 5, 5, 3), (4, 2, 3), {}, 'a patch needs 3 x 3'),
        ((1, 0, 5, 3), (4, 2, 3), {'centred': True}, 'a patch needs 1 x 1'),
        ((1, 5, 5, 3), (4, 4, 2), {}, 'same number of channels'),
        ((5, 5, 3), (4, 4, 3), {}, 'same number of channels'),
        ((1, 5, 5, 3), (4, 4, 3), {'size': 0}, 'size=0'),
        ((1, 5, 5, 3), (4, 4, 3), {'size': 2, 'centred': True}, 'only if it is odd'),
    ],
)
def test_maps_that_do_not_fit_together_are_refused(content, style, options, message):
    with pytest.raises(errors.UserError, match=message):
        patches.swap(np.zeros(content, np.float32), np.zeros(style, np.float32), **options)


def test_other_dtypes_are_refused():
    for one, other in ((np.int32, np.int32), (np.float32, np.float16)):
        with pytest.raises(errors.UserError, match='same floating dtype'):
            patches.swap(np.zeros((1, 4, 4, 1), one), np.zeros((4, 4, 1), other))


def test_the_comparison_of_style_swap_at_512_pixels_stays_far_below_4_gib():
    content = jax.ShapeDtypeStruct((1, 128, 128, 256), jnp.float32)
    style = jax.ShapeDtypeStruct((128, 128, 256), jnp.float32)
    compiled = jax.jit(patches.swap).lower(content, style).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 2**29
