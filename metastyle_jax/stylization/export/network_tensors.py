"""Writes the network's tensors to a safetensors file, with a description of the network.

Another program can rebuild the network from the description.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Params
from metastyle_jax.models import layers, transformer
from metastyle_jax.storage import tensor_files
from metastyle_jax.stylization import styled_network


class ExportError(UserError):
    """The network cannot be exported with these arguments, or the file cannot be written."""


_FORMAT = tensor_files.FileFormat(
    name='metastyle_jax.network',
    version=1,
    noun='exported network',
    remedy='it is for other programs, give the style file itself',
    keys=('architecture', 'styles'),
    error=ExportError,
)


def write_tensors(
    path: pathlib.Path,
    network: styled_network.StyledNetwork,
    metadata: Mapping[str, str],
    *,
    pixels: str,
    overwrite: bool,
) -> None:
    """Writes the tensors of a network to a safetensors file.

    Args:
        path: the file to write.
        network: the network, from `styled_network.load`.
        metadata: name -> text of further metadata, stored beside the description of the network.
        pixels: must be 'float32', because a file of tensors has no input to convert.
        overwrite: whether an existing file may be replaced.

    Raises:
        ExportError: the network has a strength below 1 or keeps colours, which tensors cannot
            express, `pixels` is not 'float32', or the file cannot be written.
    """
    for argument, needs_program in (
        ('keep_colours=True', network.keep_colours),
        (f'strength={network.strength:g}', network.strength < 1),
        (f'pixels={pixels}', pixels != 'float32'),
    ):
        if needs_program:
            raise ExportError(
                f'{argument} needs a program, and a safetensors file holds only tensors: leave it '
                'out, or export to .onnx or .stablehlo'
            )
    params = network.forward_params()
    flat = {name: array.astype(np.float32) for name, array in tensor_files.flatten(params).items()}
    metadata = {'architecture': json.dumps(architecture(params)), **metadata}
    tensor_files.write(path, flat, metadata, _FORMAT, overwrite=overwrite)


def architecture(params: Params) -> dict[str, Any]:
    """Describes the network so that other programs can rebuild it from its tensors.

    Args:
        params: parameters of the transformer.

    Returns:
        A dict of JSON types: what the names and numbers mean, and under 'layers' the layers in the
        order in which they are computed.
    """
    _, blocks = transformer.width_and_blocks(params)
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
        'input': f'RGB in 0..1; height and width are at least {transformer.MIN_SIDE}',
        'margin': transformer.MARGIN,
        'margins': 'first, extend the input on each side by this many pixels, by reflection '
        'without the border pixel; last, cut as many pixels off the output, whose border has lines',
        'tensors': 'NAME/conv/kernel [height, width, in, out], NAME/conv/bias, NAME/norm/scale, '
        'NAME/norm/bias; the layer out has NAME/kernel and NAME/bias',
        'convolution': 'cross-correlation; its input is extended on each side by size // 2 pixels, '
        'by reflection without the border pixel; its output has the size '
        '[ceil(height / stride), ceil(width / stride)]',
        'norm': 'each channel of each image, over its pixels, with the biased variance',
        'epsilon': layers.EPSILON,
        'upsample_to': 'before the convolution: nearest neighbour by two, cropped at the end to '
        'the size of the output of the named layer',
        'add_input_of': 'after the norm: add the input of the named layer',
        'layers': order,
    }
