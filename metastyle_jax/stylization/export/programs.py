"""The network as a program that runs without this package: ONNX and StableHLO.

One function from pixels to pixels is traced with symbols for batch, height and width, so that a
file takes pictures of any size. jax2onnx turns it into ONNX, `jax.export` into StableHLO.
"""

import contextlib
import importlib.util
import logging
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from metastyle_jax._version import __version__
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array
from metastyle_jax.models import transformer
from metastyle_jax.stylization import styled_network

PIXELS = ('float32', 'uint8')
PLATFORMS = ('cpu', 'cuda', 'tpu')
# The oldest that jax2onnx writes this network in, so that older runtimes read it too.
OPSET = 18
_SIZES = 'batch, height, width'
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Y of YIQ

Program: TypeAlias = Callable[[np.ndarray], np.ndarray]


def function(
    look: styled_network.Look, *, pixels: str = 'float32', formulation: str | None = None
) -> Callable[[Array], Array]:
    """All that `stylize` does to a picture, as one function for JAX to trace.

    Args:
        look: of `styled_network.load`.
        pixels: 'float32' in 0..1, or 'uint8' in 0..255, of what goes in and comes out.
        formulation: see `transformer.apply`.

    Returns:
        A function of `[N, H, W, 3]` to the same.

    Raises:
        UserError: pixels is neither.
    """
    if pixels not in PIXELS:
        raise UserError(f'pixels={pixels!r}: it must be one of {", ".join(PIXELS)}')
    params = styled_network.network(look)

    def stylized(images: Array) -> Array:
        photos = images.astype(jnp.float32) / 255 if pixels == 'uint8' else images
        made = transformer.apply_with_margin(params, photos, formulation=formulation)
        if look.strength < 1:
            made = photos + np.float32(look.strength) * (made - photos)
        if look.keep_colours:
            # A change of Y alone is the same change of R, G and B; see `colour_transfer.keep`.
            change = jnp.sum((made - photos) * _LUMA[None, None, None], axis=-1, keepdims=True)
            made = jnp.clip(photos + change, 0.0, 1.0)
        if pixels == 'uint8':
            made = jnp.round(jnp.clip(made, 0.0, 1.0) * 255).astype(jnp.uint8)
        return made

    return stylized


def require() -> None:
    """Raises UserError unless ONNX can be written."""
    if importlib.util.find_spec('jax2onnx') is None:
        raise UserError("ONNX needs jax2onnx: pip install 'metastyle_jax[onnx]'")


def to_onnx(
    look: styled_network.Look, metadata: Mapping[str, str], *, pixels: str = 'float32'
) -> bytes:
    """Writes the network as an ONNX model with the input `images` and the output `stylized`.

    Args:
        look: of `styled_network.load`.
        metadata: the model's own.
        pixels: see `function`.

    Returns:
        The file.

    Raises:
        UserError: the extra is missing, or pixels is unknown.
    """
    require()
    # Custom primitives of this package's CPU convolution are unknown to jax2onnx.
    stylized = function(look, pixels=pixels, formulation='plain')
    with _quiet():
        import jax2onnx

        model = jax2onnx.to_onnx(
            stylized, [_any_images(pixels)], model_name='metastyle', opset=OPSET,
            input_names=['images'], output_names=['stylized'],
        )  # fmt: skip
    model.producer_name, model.producer_version = 'metastyle_jax', __version__
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    return model.SerializeToString()


def to_stablehlo(look: styled_network.Look, *, pixels: str = 'float32') -> bytes:
    """Writes the network as a `jax.export.Exported` for CPU, CUDA and TPU, in one.

    Args:
        look: of `styled_network.load`.
        pixels: see `function`.

    Returns:
        The file: what `jax.export.deserialize` reads.

    Raises:
        UserError: pixels is unknown.
    """
    # The fastest on CPU of those for any size; on the others it costs a row.
    stylized = function(look, pixels=pixels, formulation='cropped')
    exported = jax.export.export(jax.jit(stylized), platforms=PLATFORMS)(_any_images(pixels))
    return bytes(exported.serialize())


def load_onnx(file: str | os.PathLike | bytes) -> Program:
    """Opens an ONNX model in onnxruntime, on CPU.

    Args:
        file: its path, or its contents.

    Returns:
        A function of `[N, H, W, 3]` to the same, in the dtype of the export. It raises UserError
        for arrays of another shape or dtype, and for sides below 16.

    Raises:
        UserError: there is no such file, it is no such model, or onnxruntime is missing.
    """
    if importlib.util.find_spec('onnxruntime') is None:
        raise UserError("ONNX needs onnxruntime: pip install 'metastyle_jax[onnx]'")
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(_read(file), providers=['CPUExecutionProvider'])
        (images,) = session.get_inputs()
    except Exception as error:
        # Its exceptions share no class of their own.
        if isinstance(error, UserError):
            raise
        raise UserError(f'{_name(file)} is no ONNX model of a style: export it again') from error
    dtype = 'uint8' if images.type == 'tensor(uint8)' else 'float32'
    return _checked(lambda array: session.run(None, {images.name: array})[0], dtype)


def load_stablehlo(file: str | os.PathLike | bytes) -> Program:
    """Opens an exported StableHLO program, to run on JAX's default backend.

    Args:
        file: its path, or its contents.

    Returns:
        See `load_onnx`.

    Raises:
        UserError: there is no such file, or it is no such program.
    """
    try:
        exported = jax.export.deserialize(bytearray(_read(file)))
        (images,) = exported.in_avals
    except UserError:
        raise
    except Exception as error:
        # Damage shows wherever the container's reader happens to stumble.
        raise UserError(f'{_name(file)} is no StableHLO of a style: export it again') from error
    call = jax.jit(exported.call)
    return _checked(lambda array: np.asarray(call(array)), images.dtype.name)


def _any_images(pixels: str) -> jax.ShapeDtypeStruct:
    """Images of any number and size that the network takes."""
    constraints = [f'{side} >= {transformer.MIN_SIDE}' for side in ('height', 'width')]
    sizes = jax.export.symbolic_shape(_SIZES, constraints=constraints)
    return jax.ShapeDtypeStruct((*sizes, 3), pixels)


def _checked(run: Program, dtype: str) -> Program:
    """Refuses what a program would fail on, or quietly take for something else."""

    def checked(images: np.ndarray) -> np.ndarray:
        images = np.asarray(images)
        least = transformer.MIN_SIDE
        right = images.ndim == 4 and images.shape[3] == 3 and min(images.shape[1:3]) >= least
        if not right or not len(images) or images.dtype != dtype:
            raise UserError(
                f'images are {images.dtype} of shape {images.shape}: {dtype} of shape '
                f'[N, H, W, 3] is needed, with H and W at least {least}'
            )
        return run(images)

    return checked


def _read(file: str | os.PathLike | bytes) -> bytes:
    """Contents of a file."""
    if isinstance(file, bytes):
        return file
    try:
        return pathlib.Path(file).read_bytes()
    except OSError as error:
        raise UserError(f'{file} cannot be read ({error.strerror}): check the name') from error


def _name(file: Any) -> str:
    return 'the file' if isinstance(file, bytes) else str(file)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the converter, which logs plugins it cannot load and types it leaves out."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(before)
