"""Networks of styles, of one or of a batch."""

import numpy as np
from library_helpers import make_library
from stylization_helpers import THETA

from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, style_library
from metastyle_jax.stylization import styled_network


def test_each_image_of_a_batch_gets_the_instance_norms_of_its_style(theta):
    found = make_library('abc')
    pixels = np.random.default_rng(0).uniform(size=(3, 18, 21, 3)).astype(np.float32)
    params, plain = styled_network.stack_parameters(found, ['c', 'a', 'b'], theta)
    made = transformer.apply(params, pixels)
    for name, image, alone in zip('cab', made, pixels, strict=True):
        network = style_files.merge_style(style_library.pick(found, name), theta)
        np.testing.assert_allclose(image, transformer.apply(network, alone[None])[0], atol=1e-5)
    np.testing.assert_allclose(
        transformer.apply(plain, pixels), transformer.apply(THETA, pixels), atol=1e-5
    )
