"""What all exported programs share: the function from pixels to pixels, and checks of images.

JAX traces the function with symbols in place of the batch size, the height and the width, so one
file takes images of any size. `stablehlo_program` writes the traced function; `onnx_writing` writes
the same function operator by operator, and is compared with it.
"""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array
from metastyle_jax.models import transformer
from metastyle_jax.stylization import styled_network

PIXELS = ('float32', 'uint8')
_SIZES = 'batch, height, width'  # names of the symbols
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # weights of R, G and B in Y of YIQ

# A program in a file, opened to run: [N, H, W, 3] to the same.
Program: TypeAlias = Callable[[np.ndarray], np.ndarray]


def pixel_function(
    network: styled_network.StyledNetwork,
    *,
    pixels: str = 'float32',
    formulation: str | None = None,
) -> Callable[[Array], Array]:
    """Makes a function of pixels that does all that `stylize` does.

    Args:
        network: from `styled_network.load`.
        pixels: type of input and output: 'float32' in 0..1, or 'uint8'.
        formulation: of the convolutions, see `transformer.apply`.

    Returns:
        A function of `[N, H, W, 3]` to the same, which JAX can trace.

    Raises:
        UserError: `pixels` is another word.
    """
    checks.one_of('pixels', pixels, PIXELS)
    params = network.forward_params()

    def stylized(images: Array) -> Array:
        photos = images.astype(jnp.float32) / 255 if pixels == 'uint8' else images
        output = transformer.apply_with_margin(params, photos, formulation=formulation)
        if network.strength < 1:
            output = photos + np.float32(network.strength) * (output - photos)
        if network.keep_colours:
            # A change of Y alone is the same change of R, G and B, so no conversion to YIQ and
            # back is needed; see `colour_transfer.keep`.
            change = jnp.sum((output - photos) * LUMA[None, None, None], axis=-1, keepdims=True)
            output = jnp.clip(photos + change, 0.0, 1.0)
        if pixels == 'uint8':
            output = jnp.round(jnp.clip(output, 0.0, 1.0) * 255).astype(jnp.uint8)
        return output

    return stylized


def any_images(pixels: str, size: tuple[int, ...] | None = None) -> jax.ShapeDtypeStruct:
    """Stands for images when tracing.

    Args:
        pixels: their type.
        size: their height and width, or their number, height and width. What is not given may be
            any that the network takes.
    """
    if size is not None:
        batch = size[0] if len(size) == 3 else jax.export.symbolic_shape('batch')[0]
        return jax.ShapeDtypeStruct((batch, *size[-2:], 3), pixels)
    constraints = [f'{side} >= {transformer.MIN_SIDE}' for side in ('height', 'width')]
    sizes = jax.export.symbolic_shape(_SIZES, constraints=constraints)
    return jax.ShapeDtypeStruct((*sizes, 3), pixels)


def checked(run: Program, dtype: str, shape: Sequence[Any] = ()) -> Program:
    """Adds a check of the images to a program.

    Without it, a program may fail with a message of its runtime, or take images of another type
    without a word.

    Args:
        run: the program.
        dtype: type of its images.
        shape: of its images: a whole number where the program fixes it, anything else where it does
            not. Empty if it fixes nothing.

    Returns:
        A program that raises UserError for images of another type or shape, or below 16 pixels.
    """
    least = transformer.MIN_SIDE
    fixed = {axis: side for axis, side in enumerate(shape) if isinstance(side, int)}
    names = [str(fixed.get(axis, 'NHW3'[axis])) for axis in range(4)]
    free = [name for name in names[1:3] if name in 'HW']
    wanted = f'{dtype} of shape [{", ".join(names)}] is needed'
    if free:
        wanted += f', with {" and ".join(free)} at least {least}'

    def run_checked(images: np.ndarray) -> np.ndarray:
        images = np.asarray(images)
        right = images.ndim == 4 and images.shape[3] == 3 and min(images.shape[1:3]) >= least
        right = right and all(images.shape[axis] == side for axis, side in fixed.items())
        if not right or not len(images) or images.dtype != dtype:
            raise UserError(f'images are {images.dtype} of shape {images.shape}: {wanted}')
        return run(images)

    return run_checked


def read_bytes(file: str | os.PathLike | bytes) -> bytes:
    """Returns the contents of a file, or the bytes themselves; UserError if it cannot be read."""
    if isinstance(file, bytes):
        return file
    try:
        return pathlib.Path(file).read_bytes()
    except OSError as error:
        raise UserError(f'{file} cannot be read ({error.strerror}): check the name') from error


def name_of(file: str | os.PathLike | bytes) -> str:
    """Name of a file for messages."""
    return 'the file' if isinstance(file, bytes) else str(file)
