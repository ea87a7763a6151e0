"""Iterators of batches resume from their state, here and in another process."""

import itertools
import json

import pytest
from batch_helpers import SETTINGS, assert_same, take

from metastyle_jax.data import batching, image_source


@pytest.mark.parametrize('workers', [0, 2])
def test_batches_resume_exactly_from_a_state(contents, styles, workers):
    with batching.meta_batches(contents, styles, workers=workers, **SETTINGS) as batches:
        list(itertools.islice(batches, 3))
        state = json.loads(json.dumps(batches.get_state()))
        expected = list(itertools.islice(batches, 3))
        batches.set_state(state)
        assert_same(list(itertools.islice(batches, 3)), expected)
    restored = batching.meta_batches(contents, styles, workers=0, **SETTINGS)
    restored.set_state(state)
    assert restored.get_state() == state
    assert_same(take(restored, 3), expected)


def test_a_closed_iterator_goes_on_where_it_stopped(contents, styles):
    expected = take(batching.meta_batches(contents, styles, **SETTINGS), 2)
    batches = batching.meta_batches(contents, styles, **SETTINGS)
    assert_same(take(batches, 1) + take(batches, 1), expected)


def test_changed_data_is_noticed_on_resuming(contents, styles, warned):
    state = batching.meta_batches(contents, styles, **SETTINGS).get_state()
    batching.meta_batches(contents, styles, **SETTINGS).set_state(state)
    assert not warned
    batching.meta_batches(contents, contents, **SETTINGS).set_state(state)
    assert 'styles was 5, is 12' in warned[0]


@pytest.mark.parametrize('state', [None, {}, {'step': -1}, {'step': 'x'}])
def test_what_is_no_state_is_refused(contents, styles, state):
    with pytest.raises(image_source.DataError):
        batching.meta_batches(contents, styles, **SETTINGS).set_state(state)
