"""MAML on sinusoids, exact and first-order: few-shot regression.

  python -m examples.sinusoid --order=exact --steps=20000
  python -m examples.sinusoid --order=first --steps=20000 --out=first.json

A task is a sinusoid with an amplitude in 0.1 … 5 and a phase in 0 … π, and 10 points of it with x
in -5 … 5. A network 1-40-40-1 with ReLU learns it from these points, by steps of SGD with the rate
0.01. Meta-training (Adam, rate 0.001, 25 tasks in each step) finds the initialization that is best
after one such step. Regularly, the mean squared error on new points of new tasks is printed, before
and after 1 and 10 steps.

Source: Finn et al. 2017, arXiv 1703.03400, section 5.1.
"""

import argparse
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import optax

from metastyle_jax import meta
from metastyle_jax.core.types import Array, Params

SHOTS, TASKS, RATE, OUTER_RATE = 10, 25, 0.01, 1e-3


def init(rng: Array) -> Params:
    """Parameters of the network: normal kernels of variance 2 / fan-in, biases of zero."""
    sizes = (1, 40, 40, 1)
    keys = jax.random.split(rng, 3)
    return {
        f'layer{i}': {
            'kernel': jax.random.normal(key, (a, b)) * (2 / a) ** 0.5,
            'bias': jnp.zeros((1, b)),
        }
        for i, (key, a, b) in enumerate(zip(keys, sizes, sizes[1:], strict=False))
    }


def loss(params: Params, batch: tuple[Array, Array]) -> Array:
    """Mean squared error on points `(x, y)`, both `[N, 1]`."""
    x, y = batch
    for i in range(3):
        x = x @ params[f'layer{i}']['kernel'] + params[f'layer{i}']['bias']
        x = jax.nn.relu(x) if i < 2 else x
    return jnp.mean(jnp.square(x - y))


def sample(rng: Array, points: int) -> tuple[Array, Array]:
    """Points of one sinusoid, `(x, y)`, both `[points, 1]`."""
    of_amplitude, of_phase, of_x = jax.random.split(rng, 3)
    amplitude = jax.random.uniform(of_amplitude, minval=0.1, maxval=5.0)
    phase = jax.random.uniform(of_phase, maxval=jnp.pi)
    x = jax.random.uniform(of_x, (points, 1), minval=-5.0, maxval=5.0)
    return x, amplitude * jnp.sin(x - phase)


def meta_gradient(theta: Params, rng: Array, order: str) -> tuple[Params, Array]:
    """The mean meta-gradient of 25 new tasks, and the mean outer loss."""

    def one_task(rng):
        x, y = sample(rng, 2 * SHOTS)
        result = meta.meta_gradient(
            meta.Meta(theta),
            (x[:SHOTS], y[:SHOTS]),
            (x[SHOTS:], y[SHOTS:]),
            inner_loss=loss,
            optimizer=optax.sgd(RATE),
            steps=1,
            order=order,
        )
        return result.gradient.theta, result.outer_loss

    each = jax.vmap(one_task)(jax.random.split(rng, TASKS))
    return jax.tree.map(lambda x: jnp.mean(x, axis=0), each)


@functools.partial(jax.jit, static_argnames=('order', 'steps'))
def train(theta: Params, opt_state: optax.OptState, rng: Array, *, order: str, steps: int):
    """Takes some steps of meta-training.

    Returns:
        Parameters, the state of Adam, and the outer loss of each step.
    """

    def step(carry, rng):
        theta, opt_state = carry
        gradient, value = meta_gradient(theta, rng, order)
        updates, opt_state = optax.adam(OUTER_RATE).update(gradient, opt_state)
        return (optax.apply_updates(theta, updates), opt_state), value

    (theta, opt_state), values = jax.lax.scan(
        step, (theta, opt_state), jax.random.split(rng, steps)
    )
    return theta, opt_state, values


@functools.partial(jax.jit, static_argnames=('tasks', 'steps'))
def evaluate(theta: Params, rng: Array, *, tasks: int = 600, steps: int = 10) -> Array:
    """Mean squared error on new points of new tasks before and after each step, `[1 + steps]`."""

    def one_task(rng):
        x, y = sample(rng, SHOTS + 100)
        shots, points = (x[:SHOTS], y[:SHOTS]), (x[SHOTS:], y[SHOTS:])
        result = meta.meta_gradient(
            meta.Meta(theta), shots, points, inner_loss=loss, optimizer=optax.sgd(RATE),
            steps=steps, outer_weights=jnp.ones(steps),
        )  # fmt: skip
        return jnp.concatenate([loss(theta, points)[None], jnp.asarray(result.outer_losses)])

    return jnp.mean(jax.vmap(one_task)(jax.random.split(rng, tasks)), axis=0)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--order', default='exact', choices=meta.ORDERS)
    parser.add_argument('--steps', type=int, default=20000, help='Outer steps.')
    parser.add_argument('--every', type=int, default=1000, help='Outer steps between evaluations.')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', default='', help='JSON file for the curve.')
    options = parser.parse_args()
    rng = jax.random.key(options.seed)
    theta = init(jax.random.fold_in(rng, 0))
    opt_state, test = optax.adam(OUTER_RATE).init(theta), jax.random.fold_in(rng, 1)
    curve = []
    for done in range(0, options.steps, options.every):
        steps = min(options.every, options.steps - done)
        key = jax.random.fold_in(rng, 2 + done)
        theta, opt_state, _ = train(theta, opt_state, key, order=options.order, steps=steps)
        errors = [float(x) for x in evaluate(theta, test)]
        curve.append({'step': done + steps, 'errors': errors})
        print(
            f'step {done + steps}: MSE {errors[0]:.3f}, after one step {errors[1]:.3f}, '
            f'after ten {errors[-1]:.3f}',
            flush=True,
        )
    if options.out:
        text = json.dumps({'order': options.order, 'seed': options.seed, 'curve': curve}, indent=1)
        pathlib.Path(options.out).write_text(text + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
