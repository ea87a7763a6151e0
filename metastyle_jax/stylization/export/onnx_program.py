"""ONNX: writes the graph with the package onnx, and runs it with onnxruntime (extra `onnx`)."""

import importlib.util
import os
from collections.abc import Mapping

from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.stylization import styled_network
from metastyle_jax.stylization.export import onnx_graph, program


def require_onnx() -> None:
    """Raises UserError, which names the extra to install, if ONNX cannot be written."""
    if importlib.util.find_spec('onnx') is None:
        raise UserError("ONNX needs the package onnx: pip install 'metastyle_jax[onnx]'")


def to_onnx(
    network: styled_network.StyledNetwork,
    metadata: Mapping[str, str],
    *,
    pixels: str = 'float32',
    size: tuple[int, int] | None = None,
    precision: str = 'float32',
) -> bytes:
    """Converts a network to an ONNX model with the input `images` and the output `stylized`.

    Args:
        network: from `styled_network.load`.
        metadata: texts to store in the model.
        pixels: type of input and output, see `program.pixel_function`.
        size: height and width of all images, for programs that need fixed ones; None for any.
        precision: how the kernels are stored, one of `onnx_graph.PRECISIONS`.

    Returns:
        The contents of the file.

    Raises:
        UserError: the extra is missing, or `pixels` or `precision` is unknown.
    """
    require_onnx()
    checks.one_of('pixels', pixels, program.PIXELS)
    return onnx_graph.build(
        network.forward_params(), metadata, pixels=pixels, strength=network.strength,
        keep_colours=network.keep_colours, size=size, precision=precision,
    )  # fmt: skip


def load_onnx(file: str | os.PathLike | bytes) -> program.Program:
    """Opens an exported ONNX model, to run on the CPU with onnxruntime.

    Args:
        file: its path, or its contents.

    Returns:
        A function of images `[N, H, W, 3]` to stylized images of the same shape and type: float32
        in 0..1 or uint8, as exported. It raises UserError for another type or shape, and for sides
        below 16 pixels.

    Raises:
        UserError: the file is missing or is no such model, or onnxruntime is missing.
    """
    if importlib.util.find_spec('onnxruntime') is None:
        raise UserError("ONNX needs onnxruntime: pip install 'metastyle_jax[onnx]'")
    import onnxruntime

    data = program.read_bytes(file)
    try:
        session = onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider'])
        (images,) = session.get_inputs()
    except Exception as error:  # the exceptions of onnxruntime have no class in common
        raise UserError(
            f'{program.name_of(file)} is no ONNX model of a style: export it again'
        ) from error
    dtype = 'uint8' if images.type == 'tensor(uint8)' else 'float32'
    return program.checked(lambda array: session.run(None, {images.name: array})[0], dtype)
