"""Checks that the entries of a configuration do not contradict each other."""

from metastyle_jax.core.errors import UserError
from metastyle_jax.training.configuration.schema import TrainConfig


def check(config: TrainConfig) -> None:
    """Raises UserError if two entries contradict each other.

    Args:
        config: a configuration in which each entry alone is valid.
    """
    _check_recipe(config)
    _check_inner_optimizer(config)
    _check_no_inner_steps(config)
    _check_frozen_theta(config)
    _check_per_style_norms(config)
    _check_reptile(config)
    if config.data.keep_grams and config.data.style_fit != 'squash':
        raise UserError(
            f'config.data.keep_grams={config.data.keep_grams} keeps the Gram matrices of each '
            f'style image, but config.data.style_fit={config.data.style_fit!r} takes other pixels '
            "of the image each time: set config.data.style_fit='squash' or config.data.keep_grams=0"
        )


def _check_recipe(config: TrainConfig) -> None:
    """Checks that a run with a recipe trains nothing else."""
    if not config.recipe:
        if config.recipe_options:
            raise UserError(
                f'config.recipe_options={config.recipe_options} are options of a recipe, but there '
                'is none: set config.recipe'
            )
        return
    others = {
        'inner.steps': config.inner.steps,
        'model.init': config.model.init,
        'model.predictor': config.model.predictor,
        'outer.norms_rate': config.outer.norms_rate,
        'data.keep_grams': config.data.keep_grams,
    }
    for name, value in others.items():
        if value:
            raise UserError(
                f'config.recipe={config.recipe} trains another network than θ, but '
                f'config.{name}={value!r} is about θ: set it to {type(value)()!r}'
            )


def _check_inner_optimizer(config: TrainConfig) -> None:
    """Checks the entries of the inner optimizer."""
    inner = config.inner
    if inner.optimizer == 'adam' and not inner.eps_root > 0:
        raise UserError(
            'config.inner.eps_root=0: it must be above 0 for config.inner.optimizer=adam, whose '
            'second derivatives would be infinite at a zero gradient'
        )
    if inner.scale_batches and not inner.learn_rates:
        raise UserError(
            f'config.inner.scale_batches={inner.scale_batches} is for learned rates: set '
            'config.inner.learn_rates=True or config.inner.scale_batches=0'
        )
    if inner.learn_rates and not inner.rate <= inner.max_rate:
        raise UserError(
            f'config.inner.rate={inner.rate} is larger than its upper bound, '
            f'config.inner.max_rate={inner.max_rate}: lower the rate or raise the bound'
        )


def _check_no_inner_steps(config: TrainConfig) -> None:
    """Checks that training without inner steps has no entries that need them."""
    if config.outer.start_weight and not config.inner.steps:
        raise UserError(
            f'config.outer.start_weight={config.outer.start_weight} weighs the loss before the '
            'first inner step, but config.inner.steps=0 makes no inner steps: set one of them'
        )
    if config.inner.learn_rates and not config.inner.steps:
        raise UserError(
            'config.inner.learn_rates=True learns the rates of inner steps, but '
            'config.inner.steps=0 makes no inner steps: set config.inner.steps to 1 or more, or '
            'config.inner.learn_rates=False'
        )


def _check_frozen_theta(config: TrainConfig) -> None:
    """Checks that something is learned if θ is not."""
    if config.outer.freeze_theta and not (config.inner.learn_rates or config.outer.predictor_rate):
        raise UserError(
            'config.outer.freeze_theta=True keeps θ, and neither config.inner.learn_rates nor '
            'config.outer.predictor_rate says that anything else is learned: set one of them, or '
            'config.outer.freeze_theta=False'
        )


def _check_per_style_norms(config: TrainConfig) -> None:
    """Checks that a table of norms has no inner loop beside it, and that a predictor exists."""
    outer = config.outer
    if outer.norms_rate and config.inner.steps:
        raise UserError(
            f'config.outer.norms_rate={outer.norms_rate} trains with instance norms for each style '
            f'instead of an inner loop, but config.inner.steps is {config.inner.steps}: set one of '
            'them to 0'
        )
    if outer.predictor_rate and not config.model.predictor:
        raise UserError(
            f'config.outer.predictor_rate={outer.predictor_rate} trains a predictor, but there is '
            'none: set config.model.predictor=True or config.outer.predictor_rate=0'
        )


def _check_reptile(config: TrainConfig) -> None:
    """Checks that Reptile has inner steps and no learned rates."""
    if config.inner.order != 'reptile':
        return
    if not config.inner.steps:
        raise UserError(
            "config.inner.order='reptile' moves the initialization towards the end of the inner "
            'loop, but config.inner.steps=0 makes no inner steps: set config.inner.steps to 1 or '
            'more'
        )
    for name in ('each_step', 'start_weight'):
        if value := getattr(config.outer, name):
            raise UserError(
                f"config.inner.order='reptile' minimizes no outer loss: set config.outer.{name}="
                f'{type(value)()}'
            )
    if config.inner.learn_rates:
        raise UserError(
            "config.inner.order='reptile' cannot learn rates: set config.inner.learn_rates=False"
        )
