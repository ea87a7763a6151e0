"""What every source of images has in common."""

import pytest

from metastyle_jax.data import image_source


def test_a_source_that_lacks_a_method_cannot_be_made():
    class Half(image_source.ImageSource):
        def __len__(self):
            return 1

    with pytest.raises(TypeError, match='abstract'):
        Half()
