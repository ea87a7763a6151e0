"""The θ that comes with the package."""

import functools
import re

import jax
import numpy as np
import pytest

import metastyle_jax
from metastyle_jax.adaptation import adaptation_start, style_image
from metastyle_jax.adaptation.config import RATES, AdaptConfig
from metastyle_jax.baselines import johnson
from metastyle_jax.data import file_sources
from metastyle_jax.data.images import image_files, resizing
from metastyle_jax.models import gram, transformer, vgg
from metastyle_jax.storage import tensor_files, theta_files
from metastyle_jax.stylization import styled_network

CARD = theta_files.SHIPPED.parents[1] / 'docs' / 'model_card.md'


@pytest.fixture(scope='module')
def theta():
    return theta_files.load_theta()


def test_it_is_a_transformer_of_the_standard_size_in_half_precision(theta):
    transformer.check(theta.params)
    assert sum(leaf.size for leaf in jax.tree.leaves(theta.params)) == 1_679_235
    assert theta.predictor is not None
    # Two bytes for each number: 3.36 MB of θ, 0.46 MB of its predictor; four for rates; and names.
    numbers = sum(leaf.size for leaf in jax.tree.leaves((theta.params, theta.predictor)))
    rates = sum(leaf.size for leaf in jax.tree.leaves(theta.rates))
    assert theta_files.SHIPPED.stat().st_size < 2 * numbers + 4 * rates + 5e4


def test_its_learned_rates_are_for_the_first_steps_of_instance_norms(theta):
    steps = theta.settings['inner']['steps']
    assert {name: rates.shape for name, rates in theta.rates.items()} == {
        name: (steps, *leaf.shape)
        for name, leaf in tensor_files.flatten(theta.params).items()
        if transformer.adapted('norm')(name)
    }
    config, _ = adaptation_start.resolve(AdaptConfig(), theta)
    assert config.inner_steps == steps < config.steps


def test_it_never_saw_what_it_is_evaluated_on(theta):
    assert theta.settings['data']['hold_out'] is True


def test_its_card_is_about_this_file(theta):
    text = CARD.read_text('utf-8')
    assert re.search(r'fingerprint begins with `(\w+)', text).group(1) == theta.fingerprint[:12]


PAINTING = file_sources.sample_files('style')['Landscapes with poems, Gong Xian (36131)']
# Half of the defaults; θ knows nothing smaller.
OPTIONS = {'steps': 10, 'size': 64, 'style_size': 128, 'batch': 1}


@pytest.fixture(scope='module')
def found():
    return metastyle_jax.adapt(PAINTING, **OPTIONS)


def test_it_adapts_by_default_and_faster_than_a_random_start(theta, found):
    assert found.theta_sha256 == theta.fingerprint
    same = {
        'rate': RATES['theta']['all'],
        'schedule': 'falling',
    }  # and compiled once for both
    other = johnson.train(PAINTING, **OPTIONS, **same)
    ours, random = (np.array(style.losses['total']) for style in (found, other))
    assert ours[0] < random[0]
    assert ours[-3:].mean() < 0.8 * random[-3:].mean()


def test_style_loss_falls_steadily_with_strength(found):
    # In a picture of 64² borders weigh much, and what the network draws there is cut off.
    photo = resizing.center_square(
        image_files.read(file_sources.sample_files('content')['chelsea']).rgb, 128
    )
    grams_of = jax.jit(functools.partial(gram.of_image, vgg.load(None)))
    painting = style_image.fit(image_files.read(PAINTING).rgb, OPTIONS['style_size'])
    grams = grams_of(painting)

    def style_loss(strength):
        made = metastyle_jax.stylize(found, photo, strength=strength)
        pairs = zip(grams_of(made), grams, strict=True)
        return sum(np.mean(np.square(a - b)) for a, b in pairs)

    fall = np.diff([style_loss(strength) for strength in np.linspace(0, 1, 9)])
    assert (fall < 0).all()


def test_pictures_have_no_lines_along_their_borders(found):
    photo = resizing.center_square(
        image_files.read(file_sources.sample_files('content')['chelsea']).rgb, OPTIONS['size']
    )

    def step(made):
        """Between the outermost line of pixels and the next, the largest of four sides."""
        sides = [made, made[::-1], made.swapaxes(0, 1), made[:, ::-1].swapaxes(0, 1)]
        profiles = [side.mean((1, 2)) for side in sides]
        return max(abs(profile[1] - profile[0]) for profile in profiles)

    params = styled_network.load([found]).forward_params()
    bare = np.asarray(transformer.apply(params, photo[None])[0])
    assert step(metastyle_jax.stylize(found, photo)) < 0.5 * step(bare)
