"""Patch swap: replaces each patch of a feature map by the most similar patch of the style.

A patch is a square of K × K pixels with all channels, and there is one at each pixel (stride 1).
For a patch a of the content and a patch b of the style, the similarity is

    ⟨a, b⟩ / |b|.

Division by |a| as well would give the cosine, and choose the same b. The chosen patches are put in
the places of the content's. They overlap, so each pixel becomes the mean of the patches over it.

A map of 128 × 128 pixels has 15,876 patches of 3 × 3, thus 252 million pairs. The inner product of
a pair is a sum over K × K pixels. Each summand compares one pixel of the content with one of the
style, and belongs to up to K² pairs of patches. So the products of pixels are computed once, and
K² of them are added for each pair. This takes 1/K² of the multiplications of a comparison of whole
patches, and no table of all style patches is kept.

Source: Chen and Schmidt 2016, arXiv 1612.04337, section 3.
"""

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array

# Products of pixels that are held at a time. Some arrays of this size exist at once.
_PRODUCTS = 2**24


def swap(contents: Array, style: Array, *, size: int = 3, centred: bool = False) -> Array:
    """Replaces each patch of the contents by the most similar patch of the style.

    The gradient with respect to the style is that of the chosen patches. The gradient with respect
    to the contents is zero, because the choice is piecewise constant.

    Args:
        contents: feature maps, `[N, H, W, C]` floating.
        style: feature map of the style, `[h, w, C]`, of the same dtype. Its size may differ.
        size: K, height and width of a patch.
        centred: where patches lie. False: inside of the maps, which must be at least K × K pixels
            large. True, for odd K: centred at each pixel, also at the border; the maps are extended
            by repeating their border pixels. Then maps of any size can be swapped.

    Returns:
        `[N, H, W, C]`, the swapped maps.

    Raises:
        UserError: shapes or dtypes do not fit together, K is even and `centred` is True, or a map
            is smaller than a patch and `centred` is False.
    """
    _check(contents, style, size, centred)
    if not centred:
        return put_back(style, nearest(contents, style, size=size), size=size)
    margin = size // 2
    around = ((margin, margin), (margin, margin), (0, 0))
    contents = jnp.pad(contents, ((0, 0), *around), mode='edge')
    style = jnp.pad(style, around, mode='edge')
    swapped = put_back(style, nearest(contents, style, size=size), size=size)
    height, width = (side - 2 * margin for side in swapped.shape[1:3])
    return swapped[:, margin : margin + height, margin : margin + width]


def nearest(contents: Array, style: Array, *, size: int) -> Array:
    """Finds the most similar patch of the style for each patch of the contents.

    Args:
        contents: `[N, H, W, C]`, at least K × K pixels.
        style: `[h, w, C]`, at least K × K pixels.
        size: K.

    Returns:
        `[N, H - K + 1, W - K + 1]` int32, numbers of patches of the style, counted row by row. The
        first one counts where several are equally similar. Patches of zeros have similarity 0.
    """
    n, height, width, channels = contents.shape
    h, w = (side - size + 1 for side in style.shape[:2])
    columns = width - size + 1
    norms = _inverse_norms(style, size)[None, None]
    # All contents are compared as one tall image. Patches across two of them are dropped below.
    tall = contents.reshape(n * height, width, channels)
    total = n * height - size + 1
    rows = min(total, max(1, _PRODUCTS // (width * style.shape[0] * style.shape[1])))
    steps = -(-total // rows)
    tall = jnp.pad(tall, ((0, steps * rows - total), (0, 0), (0, 0)))

    def along_rows(block):
        """Inner products of patches of 1 × K pixels, `[rows, columns, style height, w]`."""
        products = jnp.einsum('yxc,vuc->yxvu', block, style)
        return sum(products[:, j : j + columns, :, j : j + w] for j in range(size))

    def compare(above, block):
        """Compares some rows of patches; `above` are the products of the K - 1 rows before."""
        products = jnp.concatenate([above, along_rows(block)])
        similarity = sum(products[i : i + rows, :, i : i + h] for i in range(size)) * norms
        # In two steps, since XLA:CPU takes a maximum several times faster than its position.
        row = jnp.argmax(jnp.max(similarity, axis=3), axis=2)
        best = jnp.take_along_axis(similarity, row[:, :, None, None], axis=2)[:, :, 0]
        return products[rows:], row * w + jnp.argmax(best, axis=2)

    blocks = tall[size - 1 :].reshape(steps, rows, width, channels)
    found = jax.lax.scan(compare, along_rows(tall[: size - 1]), blocks)[1]
    found = found.reshape(steps * rows, columns)[:total]
    found = jnp.pad(found, ((0, size - 1), (0, 0))).reshape(n, height, columns)
    return found[:, : height - size + 1]


def put_back(style: Array, chosen: Array, *, size: int) -> Array:
    """Lays patches of the style over a map and takes the mean where they overlap.

    Args:
        style: `[h, w, C]`.
        chosen: `[N, P, Q]` integers, numbers of patches as `nearest` returns them.
        size: K.

    Returns:
        `[N, P + K - 1, Q + K - 1, C]`.
    """
    height, width, channels = style.shape
    row, column = chosen // (width - size + 1), chosen % (width - size + 1)
    # One row of zeros more, which stands for the patches that do not reach a pixel.
    zeros = jnp.zeros((1, channels), style.dtype)
    pixels = jnp.concatenate([style.reshape(-1, channels), zeros])
    total: Array | int = 0
    count = np.zeros((1, *(side + size - 1 for side in chosen.shape[1:]), 1))
    for i in range(size):
        for j in range(size):
            place = ((0, 0), (i, size - 1 - i), (j, size - 1 - j))
            pixel = (row + i) * width + column + j
            total = total + pixels[jnp.pad(pixel, place, constant_values=height * width)]
            count[0, i : i + chosen.shape[1], j : j + chosen.shape[2]] += 1
    return total / jnp.asarray(count, style.dtype)


def check_size(size: int, *, centred: bool) -> None:
    """Raises UserError unless patches of this size are possible.

    Args:
        size: K.
        centred: see `swap`.
    """
    checks.whole_number('size', size, 1)
    if centred and size % 2 == 0:
        raise UserError(f'size={size}: patches can be centred at pixels only if it is odd')


def _inverse_norms(style: Array, size: int) -> Array:
    """Computes 1 / |b| for each patch b of the style, and 0 for patches of zeros."""
    h, w = (side - size + 1 for side in style.shape[:2])
    squares = jnp.sum(jnp.square(style), axis=2)
    total = sum(squares[i : i + h, j : j + w] for i in range(size) for j in range(size))
    positive = total > 0
    return jnp.where(positive, jax.lax.rsqrt(jnp.where(positive, total, 1)), 0)


def _check(contents: Array, style: Array, size: int, centred: bool) -> None:
    """Raises UserError unless the maps can be swapped."""
    check_size(size, centred=centred)
    if contents.ndim != 4 or style.ndim != 3 or contents.shape[3] != style.shape[2]:
        raise UserError(
            f'contents {contents.shape} and style {style.shape}: feature maps [N, H, W, C] and '
            '[h, w, C] of the same number of channels are needed'
        )
    if contents.dtype != style.dtype or not jnp.issubdtype(style.dtype, jnp.floating):
        raise UserError(
            f'contents are {contents.dtype} and style is {style.dtype}: both must be of the same '
            'floating dtype'
        )
    least = 1 if centred else size
    sides = (*contents.shape[1:3], *style.shape[:2])
    if min(sides) < least:
        raise UserError(
            f'feature maps of {contents.shape[1]} x {contents.shape[2]} and {style.shape[0]} x '
            f'{style.shape[1]} pixels: a patch needs {least} x {least}; use larger images'
        )
