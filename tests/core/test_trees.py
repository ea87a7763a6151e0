"""Names of leaves, and splitting a pytree by them."""

import jax
import numpy as np
import pytest
from helpers import assert_identical, make_params

from metastyle_jax.core import errors, trees


def test_names_spell_the_path_of_each_leaf_in_the_order_of_the_tree():
    assert trees.names(make_params()) == ['conv/kernel', 'norm/bias', 'norm/scale']
    assert trees.names([1.0, (2.0, {'x': 3.0})]) == ['0', '1/0', '1/1/x']


def test_combine_is_the_inverse_of_partition():
    params = make_params()
    norms, others = trees.partition(params, lambda name: name.startswith('norm/'))
    assert list(norms) == ['norm/bias', 'norm/scale']
    assert list(others) == ['conv/kernel']
    assert_identical(trees.combine(params, others, norms), params)


def test_a_predicate_that_chooses_nothing_is_refused():
    with pytest.raises(errors.UserError, match='none of conv/kernel, norm/bias, norm/scale'):
        trees.partition(make_params(), lambda name: False)


def test_equal_names_are_refused():
    with pytest.raises(errors.UserError, match='two parameters have the same name'):
        trees.partition({'a/b': np.ones(1), 'a': {'b': np.ones(1)}}, lambda name: True)


def test_only_typed_keys_are_keys():
    key = jax.random.key(0)
    assert trees.is_key(key)
    assert trees.is_key(jax.eval_shape(lambda: key))
    assert not trees.is_key(jax.random.key_data(key))
    assert not trees.is_key(1)
