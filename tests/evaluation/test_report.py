"""Tables and plots of results."""

import copy
import re

import numpy as np
import pytest

from metastyle_jax.core import errors
from metastyle_jax.evaluation import report
from metastyle_jax.evaluation.config import RANDOM


def test_tables_hold_median_losses_those_of_each_layer_and_those_of_gatys(evaluated):
    folder, found = evaluated
    text = (folder / 'results.md').read_text('utf-8')
    middle = np.median([entry['curves']['ours']['total'][-1] for entry in found['styles']])
    assert re.search(rf'^\| 3 \| {middle:.0f} \(.*\) \|  \|$', text, re.M)
    assert '| adapted |' in text
    assert re.search(r'^\| ours, 3 \| [\d.]+ \| [\d.]+ \| [\d.]+ \| [\d.]+ \|$', text, re.M)


def test_a_missing_matplotlib_is_named_with_the_extra_that_installs_it(monkeypatch):
    monkeypatch.setattr(report.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(errors.UserError, match=r"pip install 'metastyle_jax\[evaluate\]'"):
        report.require_matplotlib()


def test_results_without_the_random_initialization_are_tabulated_and_plotted(evaluated):
    results = copy.deepcopy(evaluated[1])
    for facts in (results['thetas'], results['rates'], results['learned_steps']):
        del facts[RANDOM]
    for entry in results['styles']:
        for values in (entry['curves'], entry.get('quality', {})):
            values.pop(RANDOM, None)
    assert 'random' not in report.markdown_tables(results)
    assert report.plot(results).startswith(b'\x89PNG')


def test_tables_tell_how_many_learned_steps_come_before_adam(evaluated):
    results = copy.deepcopy(evaluated[1])
    assert 'learned steps' not in report.markdown_tables(results)
    results['learned_steps']['ours'] = 5
    assert 'ours: 5 learned steps, then Adam' in report.markdown_tables(results)
