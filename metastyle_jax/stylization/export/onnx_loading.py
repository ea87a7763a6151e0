"""Opens exported ONNX models, to run them with onnxruntime (extra `onnx`)."""

import importlib.util
import os
from typing import Any

from metastyle_jax.core.errors import UserError
from metastyle_jax.stylization.export import program


def load_onnx(file: str | os.PathLike | bytes) -> program.Program:
    """Opens an exported ONNX model, to run on the CPU with onnxruntime.

    Args:
        file: path of the file, or its contents.

    Returns:
        A function that maps images `[N, H, W, 3]` to stylized images of the same shape and type.
        The type is the one of the export: float32 in 0..1 or uint8. The function raises UserError
        for images of another type or shape, for sides below 16 pixels, and, if the model has a
        fixed size, for images of another size.

    Raises:
        UserError: the file is missing, is not an exported style, or onnxruntime is missing.
    """
    require_onnxruntime()
    data = program.read_bytes(file)
    try:
        session = open_session(data)
        (images,) = session.get_inputs()
    except Exception as error:  # the exceptions of onnxruntime have no class in common
        raise UserError(
            f'{program.name_of(file)} is no ONNX model of a style: export it again'
        ) from error
    dtype = 'uint8' if images.type == 'tensor(uint8)' else 'float32'
    run = lambda array: session.run(None, {images.name: array})[0]
    return program.checked(run, dtype, images.shape)


def require_onnxruntime() -> None:
    """Raises UserError if onnxruntime is missing; the message says how to install it."""
    if importlib.util.find_spec('onnxruntime') is None:
        raise UserError("ONNX needs onnxruntime: pip install 'metastyle_jax[onnx]'")


def open_session(data: bytes) -> Any:
    """Opens an ONNX program with onnxruntime, to run on the CPU; returns its session.

    Args:
        data: contents of the file. For damaged ones, onnxruntime raises exceptions that have no
            class in common.

    Raises:
        UserError: onnxruntime is missing.
    """
    require_onnxruntime()
    import onnxruntime

    return onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider'])
