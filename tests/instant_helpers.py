"""A small θ with a norm predictor and learned rates, and paintings, for the tests of `instant`."""

import adaptation_helpers
import jax
import numpy as np
from PIL import Image
from stylization_helpers import THETA

from metastyle_jax.models import norm_predictor
from metastyle_jax.storage import tensor_files, theta_files

VGG = adaptation_helpers.small_vgg(width=2)
SETTINGS = {'inner': {'steps': 2, 'optimizer': 'sgd', 'params': 'norm'}}


def make_predictor(seed=0):
    """A predictor that gives each style other norms, and other ones for each seed."""
    count = norm_predictor.feature_count(VGG)
    empty = norm_predictor.init(jax.random.key(seed), THETA, count, hidden=2)
    rng = np.random.default_rng(seed)
    out = {name: rng.normal(0, 0.3, x.shape).astype(np.float32) for name, x in empty.out.items()}
    return empty._replace(bias=empty.bias + 1, out=out)


def make_theta(*, rates=True, seed=0):
    """θ with a predictor; with or without learned rates of the instance norms."""
    predictor = make_predictor(seed)
    learned = dict.fromkeys(predictor.out, np.float32(1e-4)) if rates else None
    fingerprint = tensor_files.fingerprint(THETA)
    return theta_files.Theta(THETA, fingerprint, SETTINGS, learned, predictor)


def write_theta(path, *, rates=True, overwrite=False):
    theta = make_theta(rates=rates)
    theta_files.save_theta(
        path, THETA, settings=SETTINGS, rates=theta.rates, predictor=theta.predictor,
        overwrite=overwrite,
    )  # fmt: skip
    return path


def write_painting(path, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def make_refining_theta():
    """θ whose learned rates suit two steps on the logarithm of the loss, each element its own."""
    made = make_theta()
    inner = SETTINGS['inner'] | {'log_loss': True}
    rng = np.random.default_rng(0)
    rates = {
        name: rng.uniform(0.2, 1.0, (2, leaf.shape[1])).astype(np.float32)
        for name, leaf in made.predictor.out.items()
    }
    return made._replace(settings={'inner': inner, 'data': {'size': 32}}, rates=rates)
