"""Checks of arguments: which values pass, and what the messages say."""

import numpy as np
import pytest

from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError


@pytest.mark.parametrize('value', [1, np.int64(3), 5])
def test_whole_numbers_within_the_bounds_pass(value):
    checks.whole_number('steps', value, 1, 5)


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        (0, 'steps=0: it must be a whole number of at least 1'),
        (True, 'steps=True: it must be a whole number of at least 1'),
        (1.5, 'steps=1.5: it must be a whole number of at least 1'),
        ('3', "steps='3': it must be a whole number of at least 1"),
        (6, 'steps=6: it must be at most 5'),
    ],
)
def test_messages_name_a_refused_whole_number_and_the_bound(value, message):
    with pytest.raises(UserError) as raised:
        checks.whole_number('steps', value, 1, 5)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ('value', 'bounds', 'message'),
    [
        (0.0, {'above': 0}, 'rate=0.0: it must be a number above 0'),
        (np.nan, {}, 'rate=nan: it must be a number'),
        (np.inf, {'least': 0}, 'rate=inf: it must be a number at least 0'),
        (1.0, {'least': 0, 'below': 1}, 'rate=1.0: it must be a number at least 0 and below 1'),
        (10**400, {}, f'rate={10**400}: it must be a number'),
        (False, {}, 'rate=False: it must be a number'),
    ],
)
def test_messages_name_a_refused_real_number_and_the_bounds(value, bounds, message):
    with pytest.raises(UserError) as raised:
        checks.real_number('rate', value, **bounds)
    assert str(raised.value) == message


def test_real_numbers_within_the_bounds_pass():
    checks.real_number('rate', np.float32(0.5), above=0, below=1)
    checks.real_number('rate', 0, least=0, most=0)


def test_only_known_words_pass():
    checks.one_of('params', 'norm', ('all', 'norm'))
    with pytest.raises(UserError, match=r"params='x': it must be one of all, norm"):
        checks.one_of('params', 'x', ('all', 'norm'))
    with pytest.raises(UserError, match=r'params=1: it must be one of all, norm'):
        checks.one_of('params', 1, ('all', 'norm'))
