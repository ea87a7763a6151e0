"""Optimizers of the inner loop and of the outer step, and the decay of their learning rates."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metastyle_jax import meta
from metastyle_jax.core import trees
from metastyle_jax.core.types import Array, Params
from metastyle_jax.meta import inner_optimizers
from metastyle_jax.models import transformer
from metastyle_jax.training.configuration.schema import TrainConfig

_COSINE_FLOOR = 0.05  # of the full rate, at the last step


def rate_decay(config: TrainConfig, step: Array) -> Array:
    """Returns the factor that multiplies the inner and the outer rate at an outer step.

    inverse: `1 / (1 + decay·step)`
    cosine:  `0.05 + 0.95·(1 + cos(π·step/steps)) / 2`

    Args:
        config: the configuration.
        step: scalar, number of outer steps done.

    Source: Zhang, Zhu and Zhu 2019 (inverse, with decay 2.5e-5).
    """
    if config.outer.schedule == 'cosine':
        done = jnp.minimum(1.0, step / config.steps)
        return _COSINE_FLOOR + (1 - _COSINE_FLOOR) * (1 + jnp.cos(jnp.pi * done)) / 2
    return 1.0 / (1.0 + config.outer.decay * step)


def inner_optimizer(config: TrainConfig, step: Array) -> optax.GradientTransformation:
    """Returns the optimizer of the inner loop at an outer step.

    If inner rates are learned, the optimizer has the rate 1, because the inner loop multiplies its
    updates by the learned rates.

    Args:
        config: the configuration.
        step: scalar, number of outer steps done.
    """
    rate = 1.0 if config.inner.learn_rates else config.inner.rate * rate_decay(config, step)
    return inner_optimizers.by_name(config.inner.optimizer, rate, config.inner.eps_root)


def initial_log_rates(
    theta: Params, config: TrainConfig, given: Mapping[str, Array] | None = None
) -> dict[str, Array] | None:
    """Logarithms of the learned inner rates before training.

    Args:
        theta: parameters of the transformer.
        config: the configuration; `inner.rates_per` chooses the shapes.
        given: name of a tensor -> rates of an earlier training. Rates whose shape is not that of
            the configuration are ignored; these start at `inner.rate`.

    Returns:
        Name of an adapted tensor -> its rates: `[]` for 'tensor', the tensor's own shape for
        'element', `[T, 1, …]` for 'step', and `[T, ...]` for 'step_element'. None if the
        configuration does not learn rates.
    """
    if not config.inner.learn_rates:
        return None
    per = config.inner.rates_per
    initial = meta.initial_rates(
        theta,
        np.log(config.inner.rate),
        transformer.adapted(config.inner.params),
        config.inner.steps if per in ('step', 'step_element') else None,
        each_element=per in ('element', 'step_element'),
    )
    same = {
        name: jnp.log(jnp.minimum(rates, config.inner.max_rate))
        for name, rates in (given or {}).items()
        if name in initial and initial[name].shape == np.shape(rates)
    }
    return initial | same


def outer_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Returns the optimizer of the outer step: clipping, then Adam or SGD with warm-up and decay.

    With `outer.freeze_theta`, the updates of θ are zero.

    Args:
        config: the configuration.

    Returns:
        An optimizer of a `meta.Meta`, which holds θ and the logarithms of learned inner rates.
    """

    def rate(step):
        warm = jnp.minimum(1.0, (step + 1) / max(1, config.outer.warmup))
        return config.outer.rate * warm * rate_decay(config, step)

    def clip(updates, params):
        del params
        # The gradient of the inner rates can be far larger than that of θ. With one common norm,
        # clipping would shrink the gradient of θ to almost nothing.
        transform = optax.clip_by_global_norm(config.outer.clip)
        return meta.Meta(*(transform.update(part, optax.EmptyState())[0] for part in updates))

    def scale_parts(updates, params):
        del params
        factor = config.outer.rates_speed
        updates = updates._replace(rates=jax.tree.map(lambda x: factor * x, updates.rates))
        if config.outer.freeze_theta:
            updates = updates._replace(theta=jax.tree.map(jnp.zeros_like, updates.theta))
        return updates

    return optax.chain(
        optax.stateless(clip) if config.outer.clip else optax.identity(),
        optax.adam(rate) if config.outer.optimizer == 'adam' else optax.sgd(rate),
        optax.stateless(scale_parts),
    )


def keep_kernel_norms(params: Params, before: Params) -> Params:
    """Rescales kernels so that an update does not change their length (Euclidean norm).

    This concerns the convolution kernels that an instance-norm layer follows. Their length does not
    change the output, because the layer divides by it. But the longer a kernel is, the smaller is
    the angle by which an update turns it. Training makes kernels longer, so without rescaling, the
    steps of an adaptation would have less and less effect.

    Args:
        params: parameters of the transformer after an update.
        before: parameters before the update.

    Returns:
        The parameters, in which these kernels have the length that they have in `before`.

    Source: van Laarhoven 2017, arXiv 1706.05350.
    """

    def rescale(path, after, before):
        if not trees.leaf_name(path).endswith('/conv/kernel'):
            return after
        return after * (optax.tree.norm(before) / optax.tree.norm(after))

    return jax.tree_util.tree_map_with_path(rescale, params, before)
