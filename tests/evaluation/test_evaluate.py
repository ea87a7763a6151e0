"""Evaluations: what is measured, and from which images."""

import json

import numpy as np
import pytest
from adaptation_helpers import make_theta, open_pictures
from evaluation_helpers import changed_config, continue_evaluation
from PIL import Image

from metastyle_jax.core import errors
from metastyle_jax.data import sources
from metastyle_jax.evaluation import evaluate
from metastyle_jax.evaluation.config import RANDOM


def test_results_hold_a_curve_of_each_initialization_and_style(evaluated):
    folder, found = evaluated
    assert json.loads((folder / 'results.json').read_text('utf-8')) == found
    assert len(found['styles']) == 2
    for entry in found['styles']:
        assert entry['curves']['ours']['steps'] == [0, 1, 2, 3]
        assert entry['curves'][RANDOM]['steps'] == [0, 1, 2]
        assert set(entry['gatys']) == {'content', 'noise', 'adapted'}


def test_the_same_evaluation_continues_after_the_styles_that_are_done(evaluated, again, network):
    _, before = evaluated
    after = continue_evaluation(again, network, pool=0)
    assert after['styles'][:2] == before['styles']
    assert len(after['styles']) == 3
    assert json.loads((again / 'results.json').read_text('utf-8')) == after
    assert '3 styles' in (again / 'results.md').read_text('utf-8')
    with (
        Image.open(evaluated[0] / 'sheet_ours.png') as two,
        Image.open(again / 'sheet_ours.png') as three,
    ):
        assert two.width == three.width
        pitch = (three.height - two.height) - 2
        np.testing.assert_array_equal(
            np.asarray(two)[: 2 * pitch], np.asarray(three)[: 2 * pitch]
        )  # pictures that were there before are kept
    stamps = [path.stat().st_mtime_ns for path in sorted(again.iterdir())]
    assert continue_evaluation(again, network) == after  # nothing is left to do
    assert stamps == [path.stat().st_mtime_ns for path in sorted(again.iterdir())]


def test_all_parameters_of_the_random_initialization_are_adapted_whatever_params_says(
    tmp_path, network
):
    config = changed_config(steps=2, params='norm', gatys=0)
    found = evaluate.evaluate(
        {'ours': make_theta(0), RANDOM: make_theta(1)},
        open_pictures(tmp_path / 'photos', 3, 0),
        open_pictures(tmp_path / 'paintings', 1, 1),
        held_out=1, styles=1, config=config, folder=tmp_path, vgg_params=network,
    )  # fmt: skip
    (entry,) = found['styles']
    # Norms alone do not come as far at Johnson's rate.
    both = {'ours': make_theta(1), RANDOM: make_theta(1)}
    config = changed_config(steps=2, params='norm', gatys=0, rate=1e-3, schedule='constant')
    alone = evaluate.evaluate(
        both, sources.open_source(f'folder:{tmp_path}/photos', kind='content'),
        sources.open_source(f'folder:{tmp_path}/paintings', kind='style'),
        held_out=1, styles=1, config=config, folder=tmp_path / 'photos', vgg_params=network,
    )['styles'][0]['curves']  # fmt: skip
    assert alone[RANDOM]['total'][0] == alone['ours']['total'][0]
    assert alone[RANDOM]['total'][1:] != alone['ours']['total'][1:]
    assert alone[RANDOM]['total'] == entry['curves'][RANDOM]['total']


def test_inner_steps_are_refused_if_a_theta_has_no_learned_rates(tmp_path, network):
    with pytest.raises(errors.UserError, match=r"the θ 'ours' has no learned rates"):
        evaluate.evaluate(
            {'ours': make_theta(0), RANDOM: make_theta(1)},
            open_pictures(tmp_path / 'photos', 3, 0),
            open_pictures(tmp_path / 'paintings', 1, 1),
            held_out=1, styles=1, config=changed_config(inner_steps=2),
            folder=tmp_path, vgg_params=network,
        )  # fmt: skip


def test_held_out_contents_are_not_among_those_to_adapt_on(tmp_path):
    photos = open_pictures(tmp_path / 'photos', 5, 0)
    rest, squares = evaluate.open_held_out(photos, count=2, size=16, seed=0)
    assert len(rest) == 3
    assert squares.shape == (2, 16, 16, 3)
    aside = {photos.name(i) for i in range(5)} - {rest.name(i) for i in range(3)}
    assert len(aside) == 2
    with pytest.raises(errors.UserError, match='held_out=5 of 5'):
        evaluate.open_held_out(photos, count=5, size=16, seed=0)
