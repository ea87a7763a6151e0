"""Writes and opens StableHLO programs with `jax.export`."""

import os

import jax
import jax.export
import numpy as np

from metastyle_jax.core import jax_compat
from metastyle_jax.core.errors import UserError
from metastyle_jax.stylization import styled_network
from metastyle_jax.stylization.export import program

PLATFORMS = ('cpu', 'cuda', 'tpu')


def to_stablehlo(
    network: styled_network.StyledNetwork,
    *,
    pixels: str = 'float32',
    size: tuple[int, ...] | None = None,
) -> bytes:
    """Converts a network to one StableHLO program for CPU, CUDA and TPU.

    Args:
        network: the network, from `styled_network.load`.
        pixels: type of input and output, see `program.pixel_function`.
        size: fixed (height, width) or (batch size, height, width) of the images; None for any size.

    Returns:
        The contents of the file, which `jax.export.deserialize` can read.

    Raises:
        UserError: `pixels` is unknown.
    """
    # One program serves all platforms. Of the formulations that take any size, this is the fastest
    # one on CPUs; on the others it computes a few rows too many.
    stylized = program.pixel_function(network, pixels=pixels, formulation='cropped')
    images = program.any_images(pixels, size)
    with jax_compat.no_source_locations():
        exported = jax.export.export(jax.jit(stylized), platforms=PLATFORMS)(images)
    return bytes(exported.serialize())


def load_stablehlo(file: str | os.PathLike | bytes) -> program.Program:
    """Opens an exported StableHLO program, to run on JAX's default backend.

    Args:
        file: path of the file, or its contents.

    Returns:
        A function from images to stylized images, as from `onnx_loading.load_onnx`.

    Raises:
        UserError: the file is missing, or is not an exported style.
    """
    data = program.read_bytes(file)
    try:
        exported = jax.export.deserialize(bytearray(data))
        (images,) = exported.in_avals
    except Exception as error:  # a damaged file may raise anything
        raise UserError(
            f'{program.name_of(file)} is no StableHLO program of a style: export it again'
        ) from error
    call = jax.jit(exported.call)
    run = lambda array: np.asarray(call(array))
    return program.checked(run, images.dtype.name, images.shape)
