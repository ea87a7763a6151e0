"""The trained weights of the poster's systems that come with the package."""

import functools

import jax
import numpy as np
import pytest

from metastyle_jax.adaptation import style_image
from metastyle_jax.baselines import systems
from metastyle_jax.baselines.features import system_files
from metastyle_jax.data import file_sources
from metastyle_jax.data.images import image_files, resizing
from metastyle_jax.models import gram, vgg

SIZE = 128


def test_the_files_are_small():
    sizes = [
        (system_files.SHIPPED / f'{name}.safetensors').stat().st_size for name in system_files.NAMES
    ]
    assert max(sizes) <= 8e6
    assert sum(sizes) <= 30e6


@pytest.fixture(scope='module')
def images():
    """A painting, two photographs, and features and Gram matrices of pictures."""
    files = file_sources.sample_files('style')
    painting = next(path for name, path in files.items() if '437658' in name)
    painting = style_image.fit(image_files.read(painting).rgb, SIZE)
    files = file_sources.sample_files('content')
    photos = [
        resizing.center_square(image_files.read(files[name]).rgb, SIZE)
        for name in ('chelsea', 'china')
    ]
    return painting, photos, jax.jit(functools.partial(vgg.features, vgg.load(None)))


@pytest.mark.parametrize('name', system_files.NAMES)
def test_a_picture_takes_on_the_style_and_keeps_its_content(name, images):
    painting, photos, features_of = images
    trained = system_files.load(name)
    system = systems.compiled(trained.system)
    style = system.encode_style(trained.params, painting)
    plain, styled = (
        np.asarray(system.apply(trained.params, style, photos[0][None], np.float32(alpha)))
        for alpha in (0, system.alpha)
    )
    assert trained.settings['recipe'] == f'metastyle_jax.baselines.{systems.MODULES[name]}'
    # Without style it is the photograph, or a decoder's reconstruction of it.
    assert np.corrcoef(plain.ravel(), photos[0].ravel())[0, 1] > 0.5

    of_styled, of_painting, *of_photos = map(
        features_of, (styled, painting[None], *(photo[None] for photo in photos))
    )

    def style_loss(features):
        pairs = zip(map(gram.gram, features), map(gram.gram, of_painting), strict=True)
        return sum(float(np.mean(np.square(x - y))) for x, y in pairs)

    assert style_loss(of_styled) < 0.75 * style_loss(of_photos[0])
    own, other = (
        float(np.mean(np.square(of_styled.relu3_3 - photo.relu3_3))) for photo in of_photos
    )
    assert own < 0.95 * other, (own, other)
