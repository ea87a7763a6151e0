"""One step of adaptation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from adaptation_helpers import make_theta, random_images, style_grams

from metastyle_jax.adaptation import adaptation_start, adaptation_step, warmup_and_decay
from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.core import loss_weights
from metastyle_jax.data import batching
from metastyle_jax.models import perceptual_loss
from metastyle_jax.storage import tensor_files


def test_tensors_with_learned_rates_take_them_at_first_and_then_begin_with_adam(network):
    plain = make_theta(0)
    names = [name for name in tensor_files.flatten(plain.params) if 'norm' in name]
    rates = {name: np.float32(0.01 * (i + 1)) for i, name in enumerate(names)}
    settings = {'inner': {'steps': 1, 'optimizer': 'sgd', 'log_loss': True}}
    config = AdaptConfig(inner_steps=None)
    learned = adaptation_start.learned_rates(config, plain._replace(rates=rates, settings=settings))
    state, fixed, plan = adaptation_step.start(plain.params, 'all', learned, schedule='constant')
    weights = adaptation_step.StepScalars(
        1e-2, loss_weights.CONTENT_WEIGHT, loss_weights.STYLE_WEIGHT
    )
    targets, contents = style_grams(network), jnp.asarray(random_images(4))

    def loss_and_gradient(fast):
        def total(fast):
            params = tensor_files.unflatten(fast)
            pixels = batching.as_float(contents)
            return perceptual_loss.of_network(
                params, network, pixels, perceptual_loss.compute_targets(network, pixels, targets)
            ).total

        return jax.jit(jax.value_and_grad(total))(fast)

    def pick(tensors, with_rates):
        return {name: leaf for name, leaf in tensors.items() if (name in rates) == with_rates}

    begin = {name: jnp.asarray(leaf) for name, leaf in tensor_files.flatten(plain.params).items()}
    adam = warmup_and_decay.adam(1e-2, 'constant')
    loss, moved = loss_and_gradient(begin)
    kernels, kernel_state = adam.update(pick(moved, False), adam.init(pick(begin, False)))
    norms = {name: -rates[name] * leaf / loss for name, leaf in pick(moved, True).items()}
    first = optax.apply_updates(begin, kernels | norms)
    _, grads = loss_and_gradient(first)
    kernels, _ = adam.update(pick(grads, False), kernel_state)
    norms, _ = adam.update(pick(grads, True), adam.init(pick(begin, True)))
    second = optax.apply_updates(first, kernels | norms)
    for expected in (first, second):
        state, _ = adaptation_step.adapt_step(
            state, fixed, network, contents, targets, weights, plan=plan
        )
        for name, leaf in expected.items():
            if float(jnp.abs(moved[name]).max()) < 1e-5:
                continue  # an instance norm undoes it, and Adam turns rounding into steps
            np.testing.assert_allclose(state.fast[name], leaf, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(('params', 'factor'), [('all', 10), ('norm', 60)])
def test_instance_norms_take_longer_steps_than_kernels(network, params, factor):
    state, fixed, plan = adaptation_step.start(make_theta(0).params, params)
    begun = jax.tree.map(np.array, state.fast)
    weights = adaptation_step.StepScalars(
        1e-3, loss_weights.CONTENT_WEIGHT, loss_weights.STYLE_WEIGHT
    )
    contents = jnp.asarray(random_images(4))
    state, _ = adaptation_step.adapt_step(
        state, fixed, network, contents, style_grams(network), weights, plan=plan
    )
    for name, longest in {'out/kernel': 1, 'up2/norm/scale': factor}.items():
        if name in begun:
            moved = float(np.abs(begun[name] - state.fast[name]).max())
            assert moved == pytest.approx(longest * 1e-3 / 3, rel=0.01), name


def test_rates_of_each_step_and_element_are_used_in_turn_and_the_last_ones_go_on():
    theta = make_theta(0)
    name = 'up2/norm/scale'
    shape = tensor_files.flatten(theta.params)[name].shape
    rates = np.arange(1, 2 * shape[0] + 1, dtype=np.float32).reshape(2, *shape)
    loop = adaptation_step.LearnedLoop(steps=3)
    state, fixed, plan = adaptation_step.start(
        theta.params, 'norm', adaptation_step.LearnedRates(loop, {name: rates})
    )
    ones = jax.tree.map(jnp.ones_like, state.fast)
    for expected in (rates[0], rates[1], rates[1]):
        before = state.fast
        state = adaptation_step.update(
            state, ones, fixed, jnp.ones(()), adaptation_step.StepScalars(1e-3, 1, 1), plan
        )
        np.testing.assert_allclose(before[name] - state.fast[name], expected, rtol=1e-4)
