"""One interface for the eight systems of MetaStyle's poster, and their registry.

A table, a contact sheet and an evaluation treat all systems alike:

```python
system = systems.get('adain', encoder='vgg16')
params = system.init(jax.random.key(0))                 # random: for shapes, counts and seconds
style = system.encode_style(params, painting)           # [H, W, 3] -> what the system needs of it
pictures = system.apply(params, style, contents, 0.8)   # [N, H, W, 3] -> [N, H, W, 3] in 0..1
```
"""

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metastyle_jax.core import checks
from metastyle_jax.core.types import Array, Params, PyTree

# Name of a system -> module of this room with its function `system(**options) -> System`. The order
# is that of the poster.
MODULES = {
    'gatys': 'gatys',
    'johnson': 'johnson',
    'wct': 'wct',
    'adain': 'adain',
    'meta-networks': 'meta_networks',
    'avatar-net': 'avatar_net',
    'style-swap': 'style_swap',
    'metastyle': 'metastyle',
}
NAMES = tuple(MODULES)


@dataclasses.dataclass(frozen=True)
class System:
    """A method of style transfer as functions of its parameters.

    `encode_style` and `apply` are pure and can be compiled by `jax.jit`, except those in `loops`.

    Attributes:
        name: one of `NAMES`.
        title: authors, year and method, for tables and captions.
        init: `(rng) -> params`, random parameters. They need no files, and have the shapes of the
            trained ones.
        encode_style: `(params, style_image) -> style`. It does everything that depends on the style
            alone. The style image is `[H, W, 3]` floating in 0..1; the style is a pytree of arrays.
        apply: `(params, style, contents, alpha) -> pictures`. Contents and pictures are
            `[N, H, W, 3]` floating in 0..1. Alpha is a number in 0..1: at 1 the picture has the
            full style, at 0 none. What 0 gives depends on the system: a reconstruction by its
            decoder, or the content itself.
        count: number of parameters as the poster counts them, or None if the system has none.
        footnote: what a reader must know about the count, or ''.
        alpha: the strength that its paper uses.
        loops: names of those of the two functions that run many compiled steps in a Python loop,
            such as an adaptation. They cannot be compiled as one program.
    """

    name: str
    title: str
    init: Callable[[Array], Params]
    encode_style: Callable[[Params, Array], PyTree]
    apply: Callable[[Params, PyTree, Array, Any], Array]
    count: int | None
    footnote: str = ''
    alpha: float = 1.0
    loops: frozenset[str] = frozenset()


def get(name: str, **options: Any) -> System:
    """Returns a system by its name.

    Args:
        name: one of `NAMES`.
        **options: arguments of the function `system` in the module of this system, such as
            ``encoder='vgg16'`` of AdaIN.

    Returns:
        The system.

    Raises:
        UserError: there is no such system, or an option has a value that it does not accept.
    """
    checks.one_of('system', name, NAMES)
    # Imported here, because each of these modules imports this one for `System`.
    module = importlib.import_module(f'metastyle_jax.baselines.{MODULES[name]}')
    return module.system(**options)


def compiled(system: System) -> System:
    """Returns the same system with `encode_style` and `apply` compiled, except those in `loops`."""
    encode_style, apply = system.encode_style, system.apply
    if 'encode_style' not in system.loops:
        encode_style = jax.jit(encode_style)
    if 'apply' not in system.loops:
        apply = jax.jit(apply)
    return dataclasses.replace(system, encode_style=encode_style, apply=apply)


def stylize(
    system: System,
    params: Params,
    style_image: Array,
    contents: Array,
    *,
    alpha: float | None = None,
) -> Array:
    """Stylizes contents with one style image.

    Args:
        system: the system.
        params: its parameters.
        style_image: `[H, W, 3]` floating in 0..1.
        contents: `[N, H, W, 3]` floating in 0..1.
        alpha: strength of the style, in 0..1; None for the one that the system's paper uses.

    Returns:
        `[N, H, W, 3]` in 0..1.

    Raises:
        UserError: alpha is not in 0..1, or images have shapes that the system does not accept.
    """
    alpha = system.alpha if alpha is None else alpha
    checks.real_number('alpha', alpha, least=0, most=1)
    style = system.encode_style(params, style_image)
    return system.apply(params, style, contents, alpha)


def blend(plain: Array, styled: Array, alpha: Any) -> Array:
    """Computes the weighted mean (1 − α) · plain + α · styled of two arrays of one shape."""
    weight = jnp.asarray(alpha, plain.dtype)
    return (1 - weight) * plain + weight * styled


def fade(apply: Callable[[Params, PyTree, Array], Array]) -> Callable[..., Array]:
    """Gives a strength to a system without a decoder: a mean of pictures and contents.

        (1 − α) · content + α · stylized

    Args:
        apply: `(params, style, contents) -> pictures`, in 0..1.

    Returns:
        `(params, style, contents, alpha) -> pictures`.
    """

    def faded(params: Params, style: PyTree, contents: Array, alpha: Any) -> Array:
        pictures = apply(params, style, contents)
        return blend(contents, pictures, alpha)

    return faded
