"""ONNX: writes the program with jax2onnx, and runs it with onnxruntime (extra `onnx`)."""

import contextlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator, Mapping

from metastyle_jax._version import __version__
from metastyle_jax.core.errors import UserError
from metastyle_jax.stylization import styled_network
from metastyle_jax.stylization.export import program

# The oldest version of ONNX's operators in which jax2onnx can write this network. Older runtimes
# can read it too.
OPSET = 18


def require_jax2onnx() -> None:
    """Raises UserError, which names the extra to install, if ONNX cannot be written."""
    if importlib.util.find_spec('jax2onnx') is None:
        raise UserError("ONNX needs jax2onnx: pip install 'metastyle_jax[onnx]'")


def to_onnx(
    network: styled_network.StyledNetwork, metadata: Mapping[str, str], *, pixels: str = 'float32'
) -> bytes:
    """Converts a network to an ONNX model with the input `images` and the output `stylized`.

    Args:
        network: from `styled_network.load`.
        metadata: texts to store in the model.
        pixels: type of input and output, see `program.pixel_function`.

    Returns:
        The contents of the file.

    Raises:
        UserError: the extra is missing, or `pixels` is unknown.
    """
    require_jax2onnx()
    # jax2onnx does not know the custom primitives of this package's convolution on CPUs.
    stylized = program.pixel_function(network, pixels=pixels, formulation='plain')
    with _silenced_converter():
        import jax2onnx

        model = jax2onnx.to_onnx(
            stylized, [program.any_images(pixels)], model_name='metastyle', opset=OPSET,
            input_names=['images'], output_names=['stylized'],
        )  # fmt: skip
    model.producer_name, model.producer_version = 'metastyle_jax', __version__
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    return model.SerializeToString()


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


@contextlib.contextmanager
def _silenced_converter() -> Iterator[None]:
    """Silences jax2onnx, which logs plug-ins that it cannot load and types that it leaves out."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(before)
