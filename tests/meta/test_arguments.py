"""Messages about arguments that the functions of `meta` refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from meta_helpers import every_mode, network_batches, network_loss, small_params, square

from metastyle_jax import meta
from metastyle_jax.core import errors


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'mode': 'forward'}, 'forward'),
        ({'order': 'second'}, 'second'),
        ({'adapted': lambda name: False}, 'no parameter'),
    ],
)
def test_errors_name_unknown_options(change, message):
    inner, outer = network_batches(1)
    with pytest.raises(errors.UserError, match=message):
        meta.meta_gradient(
            meta.Meta(small_params()), inner, outer, inner_loss=network_loss, **change
        )


@pytest.mark.usefixtures('x64')
def test_batches_without_a_common_axis_and_wrong_rates_are_refused():
    inner, outer = network_batches(2)
    with pytest.raises(errors.UserError, match='leading axes'):
        meta.meta_gradient(
            meta.Meta(small_params()), (inner[0], inner[1][:1]), outer, inner_loss=network_loss
        )
    with pytest.raises(errors.UserError, match='nowhere'):
        meta.meta_gradient(
            meta.Meta(small_params(), {'nowhere': jnp.ones(())}), inner, outer,
            inner_loss=network_loss,
        )  # fmt: skip


@every_mode
@pytest.mark.parametrize(
    'loss',
    [
        lambda w, b: {'l2': jnp.sum(w), 'loss': square(w, b)},
        lambda w, b: (square(w, b), w),
        lambda w, b: None,
        lambda w, b: jnp.square(w - b),
        lambda w, b: square(w, b)[None],
        lambda w, b: jnp.sum(w).astype(int),
    ],
)
def test_an_inner_loss_that_is_not_a_real_scalar_is_refused(mode, loss):
    with pytest.raises(errors.UserError, match='it must give one real number'):
        meta.meta_gradient(
            meta.Meta(jnp.ones(2)), jnp.ones((1, 2)), jnp.ones(2), inner_loss=loss,
            outer_loss=square, mode=mode,
        )  # fmt: skip


@pytest.mark.parametrize(
    ('leaf', 'kind'),
    [
        (np.int32(3), 'int32'),
        (jnp.asarray(True), 'bool'),
        (jax.random.key(0), 'key'),
        (3, 'int'),
        ('relu', 'str'),
    ],
)
def test_errors_name_parameters_without_a_derivative(leaf, kind):
    theta = {'w': jnp.ones(2), 'step': leaf}
    with pytest.raises(errors.UserError, match=f"parameter 'step' is of {kind}.*keep it out of"):
        meta.meta_gradient(
            meta.Meta(theta), jnp.ones((1, 2)), jnp.ones(2),
            inner_loss=lambda p, b: square(p['w'], b), adapted=lambda name: name == 'w',
        )  # fmt: skip


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'meta': jnp.ones(2)}, r'give Meta\(theta\)'),
        ({'meta': meta.Meta({'w': jnp.ones(2)}, jnp.ones(2))}, 'give a dict by name'),
        ({'meta': meta.Meta({'w': jnp.ones(2)}, {'w': jnp.ones(1)})}, r"rate of 'w'.*\(1,\)"),
        ({'adapted': ['w']}, 'must be a function of the name'),
        ({'optimizer': 0.1}, 'optimizer=0.1: it must be an optimizer of optax'),
        ({'optimizer': optax.sgd}, 'it must be an optimizer of optax'),
        ({'inner_batches': None}, 'leading axes of no array'),
        ({'meta': meta.Meta({'w': jnp.ones(2)}, {'w': 1})}, "learned rate of 'w' is 1: give a"),
        ({'has_aux': True}, 'must give a pair'),
        ({'has_aux': True, 'outer_loss': lambda p, b: jnp.ones(2)}, 'must give a pair'),
    ],
)
def test_errors_name_arguments_of_the_wrong_type(change, message):
    given = {
        'meta': meta.Meta({'w': jnp.ones(2)}),
        'inner_batches': jnp.ones((1, 2)),
        'outer_batch': jnp.ones(2),
        'inner_loss': lambda p, b: square(p['w'], b),
    }
    with pytest.raises(errors.UserError, match=message):
        meta.meta_gradient(**{**given, **change})
