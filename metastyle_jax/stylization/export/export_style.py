"""Writes a style as a file that runs without this package: ONNX, StableHLO, or plain tensors."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags, logging

from metastyle_jax._version import __version__
from metastyle_jax.core import command_line, files
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Params
from metastyle_jax.models import layers, transformer
from metastyle_jax.storage import style_files, style_library, tensor_files
from metastyle_jax.stylization import styled_network
from metastyle_jax.stylization.export import programs

USAGE = """Writes a style for other programs: pixels in, pixels out, of any size.

  metastyle-export --style=painting.safetensors --out=painting.onnx
  metastyle-export --style=painting.safetensors --out=painting.stablehlo
  metastyle-export --style=painting.safetensors --format=safetensors --out=network.safetensors
"""

FORMATS = ('onnx', 'stablehlo', 'safetensors')
TOLERANCE = 1e-4  # from JAX, of pixels in 0..1
CHECKED = ((1, 48, 64), (2, 33, 41))  # batch, height, width


class Exported(NamedTuple):
    """What was written.

    Attributes:
        path: the file.
        format: one of `FORMATS`.
        size: bytes.
        difference: the largest from what JAX makes of the same noise, pixels in 0..1, over the
            sizes of `CHECKED`; None where the file holds no program or was not checked.
    """

    path: pathlib.Path
    format: str
    size: int
    difference: float | None


class ExportError(UserError):
    """A network that cannot be exported, or not to that file."""


_FORMAT = tensor_files.Format(
    name='metastyle_jax.network',
    version=1,
    noun='exported network',
    remedy='it is for other programs, give the style file itself',
    keys=('architecture', 'styles'),
    error=ExportError,
)


def export_style(
    style: styled_network.StyleLike | Sequence[styled_network.StyleLike],
    out: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002
    pixels: str = 'float32',
    weights: Sequence[float] | None = None,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: Any = None,
    check: bool = True,
    overwrite: bool = False,
) -> Exported:
    """Writes a style as one file that needs nothing else.

    Args:
        style: a style file, or what `adapt` returned; or several, to be blended.
        out: the file; its suffix is the format's name.
        format: 'onnx', 'stablehlo' or 'safetensors'; that of the suffix if None. The first two are
            programs of `[N, H, W, 3]` to the same, for any N, and H and W from 16 on. The last
            are the network's tensors, with its architecture as metadata.
        pixels: 'float32' in 0..1, or 'uint8' in 0..255, of a program's input and output.
        weights: see `stylize`, as are the next three.
        strength: 1 for tensors, since below it the photograph is mixed in.
        keep_colours: not for tensors.
        theta: what the styles were adapted from.
        check: whether to run a program beside JAX before it is written.
        overwrite: whether an existing file may be replaced.

    Returns:
        `Exported`.

    Raises:
        UserError: a file or an option is not usable, an extra is missing, styles and θ do not
            belong together, or the program differs from JAX by more than 1e-4 (with 'uint8' by
            more than that and one level, 1/255).
    """
    out = pathlib.Path(out)
    format = _check(out, format, pixels, overwrite=overwrite)  # noqa: A001
    found = styled_network.open_styles(style)
    _check_inputs(out, style)
    look = styled_network.load(
        found, weights=weights, strength=strength, keep_colours=keep_colours, theta=theta
    )
    origin = _origin(found, weights, strength, keep_colours)
    if format == 'safetensors':
        _write_tensors(out, look, pixels, origin, overwrite=overwrite)
        return Exported(out, format, out.stat().st_size, None)
    if format == 'onnx':
        data = programs.to_onnx(look, {**_interface(pixels), **origin}, pixels=pixels)
    else:
        data = programs.to_stablehlo(look, pixels=pixels)
    difference = measure(data, format, look, pixels) if check else None
    # Rounding may fall either way where a level is nearly reached.
    allowed = TOLERANCE + (pixels == 'uint8') / 255
    if difference is not None and not difference <= allowed:
        raise ExportError(
            f'the {format} program differs from JAX by {difference:.2g}, more than {allowed:.2g}: '
            f'{out} is not written; install other versions of the extra onnx, or of jax'
        )
    files.write_whole(out, data, ExportError)
    return Exported(out, format, len(data), difference)


def measure(data: bytes, format: str, look: styled_network.Look, pixels: str) -> float:  # noqa: A002
    """Runs a program beside JAX on noise of the sizes of `CHECKED`.

    Args:
        data: the program's file.
        format: 'onnx' or 'stablehlo'.
        look: what it was made of.
        pixels: of its input and output.

    Returns:
        The largest difference, pixels in 0..1.
    """
    run = (programs.load_onnx if format == 'onnx' else programs.load_stablehlo)(data)
    stylized = jax.jit(programs.function(look, pixels=pixels))
    rng = np.random.default_rng(0)
    largest = []
    for size in CHECKED:
        noise = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        images = noise if pixels == 'uint8' else noise.astype(np.float32) / 255
        difference = np.asarray(run(images), np.float64) - np.asarray(stylized(images), np.float64)
        largest.append(np.max(np.abs(difference)) / (255 if pixels == 'uint8' else 1))
    return float(np.max(largest))


def _check(out: pathlib.Path, format: str | None, pixels: str, *, overwrite: bool) -> str:  # noqa: A002
    """Refuses what could not be written, before any work is done; returns the format."""
    if format is None:
        format = out.suffix.lower().removeprefix('.')  # noqa: A001
        if format not in FORMATS:
            raise ExportError(f'{out} must end in .{", .".join(FORMATS)}: rename it')
    if format not in FORMATS:
        raise ExportError(f'format={format!r}: it must be one of {", ".join(FORMATS)}')
    if out.suffix.lower() != f'.{format}':
        raise ExportError(f'{out} must end in .{format}, or choose another --format')
    if pixels not in programs.PIXELS:
        raise ExportError(f'pixels={pixels!r}: it must be one of {", ".join(programs.PIXELS)}')
    files.check_target(out, ExportError, overwrite=overwrite)
    if format == 'onnx':
        programs.require()
    return format


def _check_inputs(out: pathlib.Path, style: Any) -> None:
    """Refuses to write over a style that is read."""
    several = [style] if isinstance(style, str | os.PathLike | style_files.Style) else style
    for one in several:
        if isinstance(one, style_files.Style):
            continue
        file, _ = style_library.split(one)
        if out.exists() and file.exists() and out.samefile(file):
            raise ExportError(f'{out} is the style itself: choose another --out')


def _interface(pixels: str) -> dict[str, str]:
    """What a program's caller must know."""
    return {
        'format': 'metastyle_jax.program',
        'layout': 'NHWC',
        'channels': 'RGB',
        'range': '0..255' if pixels == 'uint8' else '0..1',
        'min_side': str(transformer.MIN_SIDE),
    }


def _origin(
    found: Sequence[style_files.Style],
    weights: Sequence[float] | None,
    strength: float,
    keep_colours: bool,
) -> dict[str, str]:
    """Where the look comes from."""
    weights = weights or [1 / len(found)] * len(found)
    made_of = [
        {'name': one.style_name, 'sha256': one.style_sha256, 'weight': weight}
        for one, weight in zip(found, weights, strict=True)
    ]
    return {
        'styles': json.dumps(made_of),
        'theta_sha256': found[0].theta_sha256,
        'strength': f'{strength:g}',
        'keep_colours': str(keep_colours).lower(),
        'metastyle_jax': __version__,
    }


def _write_tensors(
    out: pathlib.Path,
    look: styled_network.Look,
    pixels: str,
    origin: dict[str, str],
    *,
    overwrite: bool,
) -> None:
    """Writes the network's tensors, where these alone make the look."""
    for told, given in (
        ('keep_colours', look.keep_colours),
        (f'strength={look.strength:g}', look.strength < 1),
        (f'pixels={pixels}', pixels != 'float32'),
    ):
        if given:
            raise ExportError(f'{told} is no matter of tensors: leave it out, or export a program')
    params = styled_network.network(look)
    metadata = {'architecture': json.dumps(architecture(params)), **origin}
    flat = {name: array.astype(np.float32) for name, array in tensor_files.flatten(params).items()}
    tensor_files.write(out, flat, metadata, _FORMAT, overwrite=overwrite)


def architecture(params: Params) -> dict[str, Any]:
    """Describes the network so that it can be built from its tensors alone.

    Args:
        params: of the transformer.

    Returns:
        JSON types: conventions, and the layers in the order in which they are computed.
    """
    _, blocks = transformer.size(params)
    layer = lambda name, size=3, stride=1, **more: {
        'name': name, 'size': size, 'stride': stride, 'norm': True, 'relu': True, **more
    }  # fmt: skip
    order = [layer('down1', 9), layer('down2', stride=2), layer('down3', stride=2)]
    for i in range(blocks):
        first, second = (f'block{i + 1}/{part}' for part in ('first', 'second'))
        order += [layer(first), layer(second, relu=False, add_input_of=first)]
    order += [layer('up1', upsample_to='down2'), layer('up2', upsample_to='down1')]
    order.append(layer('out', 9, norm=False, relu=False, sigmoid=True))
    return {
        'input': 'RGB in 0..1; height and width at least 16',
        'margin': transformer.MARGIN,
        'margins': 'the input is extended by reflection, without the border pixel, by so many '
        'pixels on each side, which are cut off the output: borders would show lines',
        'tensors': 'NAME/conv/kernel [height, width, in, out], NAME/conv/bias, NAME/norm/scale, '
        'NAME/norm/bias; of the layer out NAME/kernel and NAME/bias',
        'convolution': 'cross-correlation; extended by reflection, without the border pixel, by '
        'size // 2 pixels on each side; [ceil(height / stride), ceil(width / stride)]',
        'norm': 'of each channel of each image over its pixels, biased variance',
        'epsilon': layers.EPSILON,
        'upsample_to': 'before the convolution: nearest neighbour by two, cropped at the end to '
        'the size of the layer named',
        'add_input_of': 'after the norm: the input of the layer named is added',
        'layers': order,
    }


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    add = command_line.Flags(values)
    add.several(
        'style', None, 'A style file that metastyle-adapt wrote; give it several times for a blend.'
    )
    add.text('out', None, 'The file to write: .onnx, .stablehlo or .safetensors.')
    add.text('format', None, "'onnx', 'stablehlo' or 'safetensors' (default: that of --out).")
    add.text('pixels', 'float32', "Of input and output: 'float32' in 0..1, or 'uint8'.")
    add.words(
        'weights',
        None,
        'Of a blend: 0.3,0.7 for two styles, not negative, of the sum 1 (default: equal ones).',
    )
    add.real('strength', 1.0, 'From 0, the photograph, to 1, the full style.')
    add.switch('keep_colours', False, "Keep the photograph's colours.")
    add.text(
        'theta',
        None,
        "What the style was adapted from; needed for styles of 'norm' and for --strength, where it "
        'is not the one that comes with the package.',
    )
    add.switch('check', True, 'Run the program beside JAX before it is written.')
    add.switch('overwrite', False, 'Replace an existing file.')


def main(values: flags.FlagValues) -> int:
    """Exports as the flags say; returns the exit code."""
    command_line.require(values, 'style', 'out')
    same = ('format', 'pixels', 'strength', 'keep_colours', 'theta', 'check', 'overwrite')
    done = export_style(
        values.style, values.out, weights=styled_network.numbers(values.weights),
        **{name: getattr(values, name) for name in same},
    )  # fmt: skip
    if done.difference is not None:
        logging.info('differs from JAX by at most %.1e', done.difference)
    logging.info('wrote %s, %.1f MB', done.path, done.size / 1e6)
    return 0


def run() -> int:
    """The console script."""
    return command_line.run(
        main,
        define_flags,
        command='metastyle-export',
        usage=USAGE,
        positional='style',
        output='out',
    )
