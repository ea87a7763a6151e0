"""What a run trains if it is not the initialization θ of MetaStyle.

The configuration names a module, `config.recipe`, such as 'metastyle_jax.baselines.adain'. Its
function `recipe(**options) -> Recipe` returns the network and its loss. So this package imports no
network itself, and users can train networks of their own.
"""

import ast
import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params
from metastyle_jax.training.configuration.schema import TrainConfig


class RecipeLoss(NamedTuple):
    """The loss of a recipe and its parts, which include their weights.

    Attributes:
        total: scalar, the loss that the training minimizes. It may have further parts, such as a
            total variation.
        content: scalar, the part that compares pictures or features with those of the contents.
        style: scalar, the part that compares with the style images; zero if there is none.
    """

    total: Array
    content: Array
    style: Array


class Recipe(NamedTuple):
    """A network and its loss, as pure functions.

    Attributes:
        load_fixed: `(vgg_file) -> fixed`, the parameters that the loss needs and that stay as they
            are, such as an encoder. The file is that of the flag --vgg, or None.
        init: `(rng) -> params`, random parameters to train.
        loss: `(params, fixed, contents, styles) -> RecipeLoss`. Contents are
            `[S, N, H, W, 3]` and styles `[S, Hs, Ws, 3]`, float32 in 0..1.
        stylize: `(params, fixed, contents, style_image, alpha) -> pictures`, for sample pictures.
            Contents and pictures are `[N, H, W, 3]`, the style image is `[Hs, Ws, 3]`.
    """

    load_fixed: Callable[[str | None], Params]
    init: Callable[[Array], Params]
    loss: Callable[[Params, Params, Array, Array], RecipeLoss]
    stylize: Callable[[Params, Params, Array, Array, float], Array]


def load(config: TrainConfig) -> Recipe | None:
    """Imports the module that `config.recipe` names, and makes its recipe.

    Args:
        config: the configuration.

    Returns:
        The recipe; None if the configuration names none.

    Raises:
        UserError: there is no such module, it has no function `recipe`, or this function does not
            take one of the options or its value.
    """
    if not config.recipe:
        return None
    try:
        make = importlib.import_module(config.recipe).recipe
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f'config.recipe={config.recipe!r}: it must be a module with a function recipe, such as '
            f'metastyle_jax.baselines.adain ({error})'
        ) from error
    options = parse_options(config.recipe_options)
    known = inspect.signature(make).parameters
    for name, value in options.items():
        if name not in known:
            raise UserError(
                f'config.recipe_options={config.recipe_options}: {config.recipe} has no option '
                f'{name!r}; it has {", ".join(known)}'
            )
        default = known[name].default
        if isinstance(default, float):
            checks.real_number(f'config.recipe_options: {name}', value)
        elif not isinstance(value, type(default)):
            raise UserError(
                f'config.recipe_options: {name}={value!r}: it must be like its default, {default!r}'
            )
    return make(**options)


def parse_options(words: Sequence[str]) -> dict[str, Any]:
    """Converts words such as 'width=8' to a dict; values are Python literals or texts.

    Args:
        words: each ``NAME=VALUE``.

    Raises:
        UserError: a word has no equals sign.
    """
    options = {}
    for word in words:
        name, equals, value = word.partition('=')
        if not equals or not name.isidentifier():
            raise UserError(f'config.recipe_options has {word!r}: write NAME=VALUE, as in width=8')
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
    return options
