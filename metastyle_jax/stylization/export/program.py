"""The function that all exported programs compute, and the checks of their input images.

JAX traces the function with symbolic batch size, height and width, so one file accepts images of
any size. `stablehlo_program` writes the traced function. `onnx_writing` writes the same computation
operator by operator; its output is compared with this function.
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

# A program that was opened from a file. It maps images [N, H, W, 3] to an array of the same shape.
Program: TypeAlias = Callable[[np.ndarray], np.ndarray]


def pixel_function(
    network: styled_network.StyledNetwork,
    *,
    pixels: str = 'float32',
    formulation: str | None = None,
) -> Callable[[Array], Array]:
    """Makes a function from images to stylized images, with strength and kept colours applied.

    Args:
        network: the network, from `styled_network.load`.
        pixels: type of input and output: 'float32' in 0..1, or 'uint8' in 0..255.
        formulation: how convolutions are computed, see `transformer.apply`.

    Returns:
        A function that JAX can trace. It maps images `[N, H, W, 3]` of the type `pixels` to
        stylized images of the same shape and type.

    Raises:
        UserError: `pixels` is neither 'float32' nor 'uint8'.
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
    """Describes the shape and type of the images, as JAX needs it to trace a function.

    Args:
        pixels: type of the images, 'float32' or 'uint8'.
        size: fixed (height, width) or (batch size, height, width). Dimensions that are not given
            are symbols: any batch size, and any height and width of at least 16.
    """
    if size is not None:
        batch = size[0] if len(size) == 3 else jax.export.symbolic_shape('batch')[0]
        return jax.ShapeDtypeStruct((batch, *size[-2:], 3), pixels)
    constraints = [f'{side} >= {transformer.MIN_SIDE}' for side in ('height', 'width')]
    sizes = jax.export.symbolic_shape(_SIZES, constraints=constraints)
    return jax.ShapeDtypeStruct((*sizes, 3), pixels)


def checked(run: Program, dtype: str, shape: Sequence[Any] = ()) -> Program:
    """Adds a check of the images to a program.

    Without the check, a program may fail with an unclear message of its runtime, or silently accept
    images of a wrong type.

    Args:
        run: the program.
        dtype: required type of the images.
        shape: required shape of the images; only integers in it are checked, other values stand for
            any size. Empty if all sizes are allowed.

    Returns:
        The program with the check: it raises UserError for images of another type or shape, or with
        a side below 16 pixels.
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
    """Reads a file, or returns given bytes unchanged; raises UserError for an unreadable file."""
    if isinstance(file, bytes):
        return file
    try:
        return pathlib.Path(file).read_bytes()
    except OSError as error:
        raise UserError(f'{file} cannot be read ({error.strerror}): check the name') from error


def name_of(file: str | os.PathLike | bytes) -> str:
    """Returns the name of a file for messages; 'the file' if only its bytes are known."""
    return 'the file' if isinstance(file, bytes) else str(file)
