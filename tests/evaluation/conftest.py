"""A finished evaluation, and the network that measures its losses."""

import dataclasses
import shutil

import adaptation_helpers
import pytest
from adaptation_helpers import make_theta, open_pictures
from evaluation_helpers import CONFIG

from metastyle_jax.evaluation import evaluate
from metastyle_jax.evaluation.config import RANDOM


@pytest.fixture(scope='session')
def network():
    return adaptation_helpers.small_vgg()


@pytest.fixture(scope='session')
def evaluated(tmp_path_factory, network):
    """The folder and the results of an evaluation; tests only read them."""
    folder = tmp_path_factory.mktemp('evaluation')
    found = evaluate.evaluate(
        {'ours': make_theta(0), RANDOM: make_theta(1)},
        open_pictures(folder / 'photos', 5, 0),
        open_pictures(folder / 'paintings', 3, 1),
        held_out=2,
        styles=2,
        config=dataclasses.replace(CONFIG, matching=True),
        folder=folder,
        vgg_params=network,
    )
    return folder, found


@pytest.fixture
def again(evaluated, tmp_path):
    """A copy of the folder of `evaluated`."""
    shutil.copytree(evaluated[0], tmp_path / 'again')
    return tmp_path / 'again'
