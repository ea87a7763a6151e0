"""Settings of small batches, and comparisons of batches."""

import itertools

import numpy as np

SETTINGS = {
    'styles_per_step': 2,
    'inner_steps': 2,
    'contents_per_style': 3,
    'size': 16,
    'style_size': 20,
    'val_fraction': 0.25,
    'seed': 3,
}


def take(batches, count):
    with batches:
        return list(itertools.islice(batches, count))


def assert_same(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        for x, y in zip(one, other, strict=True):
            np.testing.assert_array_equal(x, y)
