"""Exports a style to one file that works without this package: ONNX, StableHLO or tensors."""

import json
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from metastyle_jax._version import __version__
from metastyle_jax.core import checks, files
from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, style_library, theta_files
from metastyle_jax.stylization import styled_network
from metastyle_jax.stylization.export import (
    network_tensors,
    onnx_graph,
    onnx_loading,
    onnx_writing,
    program,
    stablehlo_program,
)
from metastyle_jax.stylization.export.network_tensors import ExportError

FORMATS = ('onnx', 'stablehlo', 'safetensors')
TOLERANCE = 1e-4  # largest allowed difference from JAX, for pixels in 0..1
LICENCE = 'Apache-2.0'  # of the θ in the package
CHECKED_PIXELS = 2**24  # largest number of pixels of the images of the check
CHECKED_SIZES = ((1, 48, 64), (2, 33, 41))  # batch, height and width of the images of the check


class ExportedStyle(NamedTuple):
    """Describes an exported file.

    Attributes:
        path: the file.
        format: one of `FORMATS`.
        size: size of the file in bytes.
        difference: the largest difference between the outputs of the program and of JAX on random
            images, for pixels in 0..1; None if the file holds only tensors or was not checked.
    """

    path: pathlib.Path
    format: str
    size: int
    difference: float | None


def export_style(
    style: styled_network.StyleLike | Sequence[styled_network.StyleLike],
    out: str | os.PathLike[str],
    *,
    format: str | None = None,
    pixels: str = 'float32',
    size: Sequence[int] | None = None,
    precision: str = 'float32',
    weights: Sequence[float] | None = None,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: styled_network.ThetaLike | None = None,
    check: bool = True,
    overwrite: bool = False,
) -> ExportedStyle:
    """Exports a style, or a blend of styles, to one file that works without this package.

    Args:
        style: see `stylize`.
        out: the file to write; its suffix must be the name of the format.
        format: 'onnx' or 'stablehlo' for a program that maps images `[N, H, W, 3]` to stylized
            images of the same shape, for any N and for H and W of at least 16; 'safetensors' for
            the network's tensors and a description of its layers. None for the format that the
            suffix names.
        pixels: type of the program's input and output: 'float32' in 0..1, or 'uint8' in 0..255.
        size: fixed (height, width) or (batch size, height, width) of a program's images, for
            runtimes that need fixed sizes; height and width at least 16. None for any size.
        precision: how an ONNX program stores its 3 × 3 kernels: 'float32', 'float16' (about half
            the file size), or 'int8' (about a quarter). It computes in float32 in each case.
        weights: see `stylize`.
        strength: see `stylize`; it must be 1 for tensors.
        keep_colours: see `stylize`; it must be False for tensors.
        theta: see `stylize`.
        check: whether to compare the program's output with JAX before the file is written.
        overwrite: whether an existing file may be replaced.

    Returns:
        `ExportedStyle`.

    Raises:
        UserError: an argument is invalid, a file cannot be read or written, an optional dependency
            is missing, the styles were not adapted from θ, or the program's output differs from
            that of JAX by more than 1e-4 (plus 1/255 for 'uint8', plus 1/255 for the precision
            'float16'). For 'int8' only outputs that are not finite are an error;
            `ExportedStyle.difference` is the difference.
    """
    out = pathlib.Path(out)
    format = _check_arguments(out, format, pixels, overwrite=overwrite)
    fixed = _check_program_options(format, size, precision, check)
    _check_not_the_style(out, style)
    styles = styled_network.open_styles(style)
    network = styled_network.load(
        styles, weights=weights, strength=strength, keep_colours=keep_colours, theta=theta
    )
    metadata = _origin(styles, weights, strength, keep_colours)
    if format == 'safetensors':
        network_tensors.write_tensors(out, network, metadata, pixels=pixels, overwrite=overwrite)
        return ExportedStyle(out, format, out.stat().st_size, None)
    if format == 'onnx':
        data = onnx_writing.to_onnx(
            network, {**_interface(pixels), **metadata}, pixels=pixels, size=fixed,
            precision=precision,
        )  # fmt: skip
    else:
        data = stablehlo_program.to_stablehlo(network, pixels=pixels, size=fixed)
    sizes = CHECKED_SIZES if fixed is None else ((1, *fixed)[-3:],)
    difference = largest_difference(data, format, network, pixels, sizes) if check else None
    # Values near the middle between two levels may be rounded up by one and down by the other.
    allowed = TOLERANCE + (pixels == 'uint8') / 255
    if precision == 'int8':
        allowed = 1.0  # the error of int8 depends on the style, so only NaN is refused
    elif precision == 'float16':
        allowed += 1 / 255
    if difference is not None and not difference <= allowed:
        raise ExportError(
            f'the {format} program differs from JAX by {difference:.2g}, more than {allowed:.2g}, '
            f'so {out} is not written: install other versions of the extra onnx, or of jax'
        )
    files.write_whole(out, data, ExportError)
    return ExportedStyle(out, format, len(data), difference)


def largest_difference(
    data: bytes,
    format: str,
    network: styled_network.StyledNetwork,
    pixels: str,
    sizes: Sequence[Sequence[int]] = CHECKED_SIZES,
) -> float:
    """Runs a program and JAX on the same random pixels, and compares the outputs.

    Args:
        data: contents of the program's file.
        format: 'onnx' or 'stablehlo'.
        network: the network from which the program was made.
        pixels: type of the program's input and output, 'float32' or 'uint8'.
        sizes: (batch size, height, width) of the images of each comparison.

    Returns:
        The largest difference of a pixel value, for values in 0..1.
    """
    load = onnx_loading.load_onnx if format == 'onnx' else stablehlo_program.load_stablehlo
    run = load(data)
    stylized = jax.jit(program.pixel_function(network, pixels=pixels))
    rng = np.random.default_rng(0)
    largest = []
    for size in sizes:
        noise = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        images = noise if pixels == 'uint8' else noise.astype(np.float32) / 255
        difference = np.asarray(run(images), np.float64) - np.asarray(stylized(images), np.float64)
        largest.append(np.max(np.abs(difference)) / (255 if pixels == 'uint8' else 1))
    return float(np.max(largest))  # NaN if any value is NaN


def _check_arguments(out: pathlib.Path, format: str | None, pixels: str, *, overwrite: bool) -> str:
    """Checks the arguments of an export before any work is done; returns the file format."""
    suffix = out.suffix.lower().removeprefix('.')
    if format is None:
        if suffix not in FORMATS:
            raise ExportError(f'{out} must end in .{", .".join(FORMATS)}: rename it')
        format = suffix
    checks.one_of('format', format, FORMATS, ExportError)
    if suffix != format:
        raise ExportError(f'{out} must end in .{format}, the suffix of format={format}: rename it')
    checks.one_of('pixels', pixels, program.PIXELS, ExportError)
    files.check_target(out, ExportError, overwrite=overwrite)
    if format == 'onnx':
        onnx_writing.require_onnx()
    return format


def _check_program_options(
    format: str, size: Sequence[int] | None, precision: str, check: bool
) -> tuple[int, ...] | None:
    """Raises ExportError if `size` or `precision` is invalid or does not apply to the format.

    Returns:
        The size as Python integers; None if no size is given.
    """
    checks.one_of('precision', precision, onnx_graph.PRECISIONS, ExportError)
    if precision != 'float32' and format != 'onnx':
        raise ExportError('precision= is for ONNX programs only: leave it out')
    if size is None:
        return None
    if format == 'safetensors':
        raise ExportError('size= is for programs only: leave it out')
    if isinstance(size, str) or not isinstance(size, Sequence) or len(size) not in (2, 3):
        raise ExportError(
            f'size={size!r}: it must be a height and a width, or a batch size, a height and a width'
        )
    for i, side in enumerate(reversed(size)):
        checks.whole_number('size', side, transformer.MIN_SIDE if i < 2 else 1, error=ExportError)
    if check and math.prod(size) > CHECKED_PIXELS:
        raise ExportError(
            f'size={"x".join(map(str, size))}: comparing the program with JAX at this size needs '
            'more memory than most machines have: give a smaller one, or check=False'
        )
    return tuple(int(side) for side in size)


def _check_not_the_style(out: pathlib.Path, style: Any) -> None:
    """Raises ExportError if the file to write is one of the styles that are exported."""
    several = [style] if isinstance(style, str | os.PathLike | style_files.Style) else style
    for one in several:
        if isinstance(one, style_files.Style):
            continue
        file, _ = style_library.split(one)
        if out.exists() and file.exists() and out.samefile(file):
            raise ExportError(f'out={out} is the style itself: choose another file')


def _interface(pixels: str) -> dict[str, str]:
    """Makes metadata of an exported program: layout, channels and value range of its images."""
    return {
        'format': 'metastyle_jax.program',
        'layout': 'NHWC',
        'channels': 'RGB',
        'range': '0..255' if pixels == 'uint8' else '0..1',
        'min_side': str(transformer.MIN_SIDE),
    }


def _origin(
    styles: Sequence[style_files.Style],
    weights: Sequence[float] | None,
    strength: float,
    keep_colours: bool,
) -> dict[str, str]:
    """Makes metadata of an exported file: the styles and settings from which it was made."""
    weights = weights or [1 / len(styles)] * len(styles)
    parts = [
        {'name': style.style_name, 'sha256': style.style_sha256, 'weight': weight}
        for style, weight in zip(styles, weights, strict=True)
    ]
    return {
        'styles': json.dumps(parts),
        'theta_sha256': styles[0].theta_sha256,
        'licence': _licence(styles[0].theta_sha256),
        'strength': f'{strength:g}',
        'keep_colours': str(keep_colours).lower(),
        'metastyle_jax': __version__,
    }


def _licence(theta_sha256: str) -> str:
    """Returns a text about the licence of the network, for users of the exported file."""
    if theta_sha256 == theta_files.load_theta().fingerprint:
        return f'θ of the package metastyle_jax: {LICENCE}. The style image has its own.'
    return 'Unknown: θ did not come with the package metastyle_jax.'
