"""Grids, animations and all styles of a library, from Python."""

import numpy as np
import pytest
from PIL import Image
from stylization_helpers import THETA, make_style

import metastyle_jax
from metastyle_jax.core.errors import UserError
from metastyle_jax.models import transformer
from metastyle_jax.storage import style_library, tensor_files
from metastyle_jax.stylization import grids

STYLES = [make_style(seed) for seed in (1, 2)]


@pytest.fixture(scope='module')
def library():
    """A library of three styles, whose norms are those of other networks."""
    is_norm = transformer.adapted('norm')
    rows = [make_style(seed).params for seed in (1, 2, 3)]
    return style_library.Library(
        params={name: np.stack([row[name] for row in rows]) for name in rows[0] if is_norm(name)},
        entries={
            name: style_library.LibraryEntry('0' * 64, {}) for name in ('a.jpg', 'b.jpg', 'c.jpg')
        },
        theta_sha256=tensor_files.fingerprint(THETA),
        settings={},
    )


def test_a_grid_holds_the_blends_side_by_side(pixels):
    grid = metastyle_jax.draw_grid(STYLES, pixels, 3)
    assert grid.shape == (20, 3 * 24, 3)
    for i, weights in enumerate(([1, 0], [0.5, 0.5], [0, 1])):
        expected = metastyle_jax.stylize(STYLES, pixels, weights=weights)
        np.testing.assert_allclose(grid[:, 24 * i : 24 * (i + 1)], expected, atol=1e-6)
    image = Image.fromarray(np.dstack([np.uint8(pixels * 255), np.full((20, 24), 9, np.uint8)]))
    grid = metastyle_jax.draw_grid(STYLES, image, 2)
    assert (grid.mode, grid.size) == ('RGBA', (48, 20))
    assert np.all(np.asarray(grid)[..., 3] == 9)
    with pytest.raises(UserError, match='across=1: it must be a whole number of at least 2'):
        metastyle_jax.draw_grid(STYLES, pixels, 1)
    with pytest.raises(UserError, match='across=3 with 1 style'):
        metastyle_jax.draw_grid(STYLES[:1], pixels, 3)


def test_an_animation_is_written_and_never_over_another_file(pixels, tmp_path):
    out = tmp_path / 'tour.png'
    assert metastyle_jax.animate(STYLES, pixels, out, frames=2, milliseconds=40) == out
    with Image.open(out) as opened:
        assert (opened.n_frames, opened.size) == (2, (24, 20))
    for options, message in (
        ({'frames': 2}, 'overwrite'),
        ({'frames': 1, 'overwrite': True}, 'frames=1 with 2 style'),
        ({'frames': 2, 'milliseconds': 0}, 'milliseconds=0: it must be'),
    ):
        with pytest.raises(UserError, match=message):
            metastyle_jax.animate(STYLES, pixels, out, **options)


def test_an_image_appears_in_every_style_of_a_library(library, theta, pixels):
    outputs = list(metastyle_jax.stylize_all_styles(library, pixels, theta=theta, batch=2))
    for output, name in zip(outputs, library.names, strict=True):
        style = style_library.pick(library, name)
        expected = metastyle_jax.stylize(style, pixels, theta=theta)
        np.testing.assert_allclose(output, expected, atol=1e-5)
    sheet = metastyle_jax.draw_all_styles(library, pixels, theta=theta, cell=32)
    # Three styles and the photograph, two in a row.
    assert sheet.shape[0] > 2 * 20
    assert 2 * 32 < sheet.shape[1] < 3 * 32 + 3 * 4
    with pytest.raises(UserError, match='batch=0: it must be'):
        metastyle_jax.stylize_all_styles(library, pixels, theta=theta, batch=0)


def test_a_group_of_styles_shrinks_until_it_fits_into_memory(library, theta, pixels, monkeypatch):
    sizes = []
    real = grids.render.render_batch
    monkeypatch.setattr(grids.render, 'fits_memory', lambda count, height, width: count <= 2)
    monkeypatch.setattr(
        grids.render, 'render_batch',
        lambda network, images: sizes.append(len(images)) or real(network, images),
    )  # fmt: skip
    assert len(list(metastyle_jax.stylize_all_styles(library, pixels, theta=theta))) == 3
    assert sizes == [2, 2]
