"""A style that is shown while it is made."""

import numpy as np
import pytest

from metastyle_jax.core.errors import UserError
from metastyle_jax.storage import theta_files
from metastyle_jax.stylization import stylize
from metastyle_jax.ui import live_stylization
from metastyle_jax.ui.config import PaintOptions, RenderOptions

QUICK = {'style_size': 64, 'whole': False}


@pytest.fixture(scope='module')
def theta(theta_file):
    return theta_files.load_theta(theta_file)


@pytest.fixture
def pixels():
    return np.random.default_rng(1).random((20, 24, 3), np.float32)


def test_the_predicted_picture_comes_first_and_then_one_after_each_step(painting, pixels, theta):
    rendering = RenderOptions(strength=0.5, keep_colours=True)
    options = PaintOptions(steps=2, **QUICK)
    made = [*live_stylization.paint(painting, pixels, theta, options=options, rendering=rendering)]
    assert [(live.step, live.steps, len(live.losses)) for live in made] == [
        (0, 2, 0), (1, 2, 1), (2, 2, 2),
    ]  # fmt: skip
    for live in made:
        expected = stylize.stylize(
            live.style, live.before, strength=0.5, keep_colours=True, theta=theta
        )
        np.testing.assert_array_equal(live.after, expected)
    assert not np.array_equal(made[0].after, made[2].after)
    assert made[2].losses == pytest.approx(made[2].style.losses['total'], abs=1e-4)


def test_a_visitor_may_stop_and_no_step_is_a_style_too(painting, pixels, theta):
    options, rendering = PaintOptions(steps=2, **QUICK), RenderOptions()
    stops = iter([False, True])
    made = [
        *live_stylization.paint(
            painting, pixels, theta,
            options=options, rendering=rendering, stopped=lambda: next(stops),
        )
    ]  # fmt: skip
    assert [live.step for live in made] == [0, 1]
    assert made[-1].style.settings['steps'] == 1
    options = PaintOptions(steps=0, **QUICK)
    made = [*live_stylization.paint(painting, pixels, theta, options=options, rendering=rendering)]
    assert [live.step for live in made] == [0]


def test_long_photographs_are_shown_small_and_narrow_ones_wide_enough():
    assert live_stylization._live_size(1024, 512) == (512, 256)
    assert live_stylization._live_size(20, 5120) == (16, 512)
    assert live_stylization._live_size(20, 24) == (20, 24)


def test_wrong_options_are_refused_before_any_work(pixels, theta):
    with pytest.raises(UserError, match='steps=-1'):
        next(live_stylization.paint(
            'missing.png', pixels, theta, options=PaintOptions(steps=-1), rendering=RenderOptions()
        ))  # fmt: skip
