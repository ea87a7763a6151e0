"""A picture that is stylized in strips equals the same picture stylized in one pass."""

import jax
import numpy as np
import pytest

from metastyle_jax.models import tiled_transformer, transformer


@pytest.mark.parametrize(('size', 'strip'), [((45, 38), 200), ((40, 64), 64), ((17, 16), 10**6)])
def test_strips_give_the_same_picture_as_one_pass(size, strip):
    params = transformer.init(jax.random.key(0), width=4, blocks=2)
    # Norms as after adaptation: not all ones and zeros.
    leaves, structure = jax.tree.flatten(params)
    rng = np.random.default_rng(0)
    params = structure.unflatten([x + rng.normal(0, 0.1, x.shape).astype('f') for x in leaves])
    pixels = rng.uniform(size=(*size, 3)).astype(np.float32)
    before, reports = pixels.copy(), []
    found = tiled_transformer.apply(
        params, pixels, strip=strip, progress=lambda *at: reports.append(at)
    )
    np.testing.assert_allclose(found, transformer.apply(params, pixels[None])[0], atol=2e-5)
    np.testing.assert_array_equal(pixels, before)
    strips = reports[-1][1]
    assert reports == [(i + 1, strips) for i in range(strips)]
    assert (strips == 3 + 4 + 3) == (strip == 10**6)  # one strip in each layer, or more
