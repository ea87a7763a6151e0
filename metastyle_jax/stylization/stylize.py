"""Stylizes images in Python: one image, or a batch in which each image gets a different style.

Source: Zhang, Zhu and Zhu 2019, arXiv 1812.05233; stylizing is one forward pass of their network.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import image_inputs, pixel_values
from metastyle_jax.storage import style_library
from metastyle_jax.stylization import mask_regions, render, styled_network


def stylize(
    style: styled_network.StyleLike | Sequence[styled_network.StyleLike],
    image: image_inputs.ImageLike,
    *,
    weights: Sequence[float] | None = None,
    masks: Sequence[image_inputs.ImageLike] | None = None,
    feather: float = mask_regions.FEATHER,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: styled_network.ThetaLike | None = None,
    max_size: int | None = None,
    tile: str = 'auto',
    progress: bool = False,
) -> Any:
    """Stylizes one image.

    A strength s below 1 has two effects: the network's parameters become s·(adapted) + (1 − s)·θ,
    and the result becomes s·(network's output) + (1 − s)·(image). With the first alone, s = 0 would
    give the output of θ instead of the image. With the second alone, a mixture may have a lower
    style loss than the fully stylized image.

    Args:
        style: a style file, a style that `adapt` returned, or `LIBRARY.safetensors:NAME`; or
            several of these, which are blended, or are placed by masks.
        image: a file, its bytes, a Pillow image, or an array `[H, W, 3]` float in 0..1 or uint8.
        weights: weights of the styles in a blend, not negative, with the sum 1; None for equal
            weights.
        masks: one mask for each style, or for each style but the first, which then gets the rest of
            the image. A mask is a grey picture in any form that `image` may have, or an array
            `[H, W]` float in 0..1. It has the image's size, and is 1 (white) where the style is
            used.
        feather: softness of the masks' edges, as a fraction of the shorter side, from 0 to below 1.
        strength: strength s of the style, from 0 (the image itself) to 1 (the full style).
        keep_colours: whether to keep the image's colours, and take only the brightness of the
            stylized image.
        theta: the initialization from which the styles were adapted: a file, the folder of a
            training run, or the result of `load_theta`; None for the one in the package. It is used
            if only instance norms were adapted, or if the strength is below 1.
        max_size: the image is reduced so that its longer side has at most this many pixels; None
            keeps the size.
        tile: 'auto' renders in strips if one forward pass would need too much memory, 'always' and
            'never' do so always or never. The results are equal except for rounding.
        progress: whether to show a progress bar of the strips.

    Returns:
        `[H, W, 3]` float32 in 0..1; a Pillow image, with the same transparency, if `image` is one.

    Raises:
        UserError: an argument is invalid, a file cannot be read, or the styles were not adapted
            from θ.
    """
    picture = stylize_picture(
        style, render.read_fitted(image, max_size, name='image'),
        full_size=image_inputs.size_of(image, name='image'), weights=weights, masks=masks,
        feather=feather, tile=tile, progress=progress, strength=strength,
        keep_colours=keep_colours, theta=theta,
    )  # fmt: skip
    return image_inputs.like_input(picture.rgb, image, picture.alpha)


def stylize_picture(
    style: styled_network.StyleLike | Sequence[styled_network.StyleLike],
    picture: pixel_values.Picture,
    *,
    weights: Sequence[float] | None = None,
    masks: Sequence[image_inputs.ImageLike] | None = None,
    feather: float = mask_regions.FEATHER,
    full_size: tuple[int, int] | None = None,
    tile: str = 'auto',
    progress: bool = False,
    **look: Any,
) -> pixel_values.Picture:
    """Stylizes a decoded picture, and keeps its transparency.

    Args:
        style: see `stylize`.
        picture: colours and transparency, from `render.read_fitted`.
        weights: see `stylize`.
        masks: see `stylize`.
        feather: see `stylize`.
        full_size: height and width of the picture before it was reduced; masks must have this size.
            None if the picture was not reduced.
        tile: see `stylize`.
        progress: see `stylize`.
        **look: `strength`, `keep_colours` and `theta` of `stylize`.

    Raises:
        UserError: see `stylize`.
    """
    if masks is None:
        network = styled_network.load(style, weights=weights, **look)
        output = render.render(network, picture.rgb, tile=tile, progress=progress)
        return pixel_values.Picture(output, picture.alpha)
    if weights is not None:
        raise UserError(
            'masks and weights cannot be combined: masks give each style a region, weights blend '
            'the styles everywhere'
        )
    styles = styled_network.open_styles(style)
    size = picture.rgb.shape[:2]
    greys = mask_regions.read_masks(masks, full_size or size, size)
    shares = mask_regions.shares_of_styles(greys, count=len(styles), feather=feather)
    networks = [styled_network.load(each, **look) for each in styles]
    output = render.render_regions(networks, shares, picture.rgb, tile=tile, progress=progress)
    return pixel_values.Picture(output, picture.alpha)


def stylize_batch(
    library: str | os.PathLike | style_library.Library,
    images: np.ndarray | Sequence[image_inputs.ImageLike],
    names: Sequence[str],
    *,
    strength: float = 1.0,
    keep_colours: bool = False,
    theta: styled_network.ThetaLike | None = None,
) -> np.ndarray:
    """Stylizes N images in one forward pass, each in its own style of a library.

    Args:
        library: a style library, or its file.
        images: N images of the same size: an array `[N, H, W, 3]` float in 0..1 or uint8, or a
            sequence of images in any form that `stylize` accepts.
        names: N names of styles in the library, one for each image; the folders and the suffix of a
            name may be left out if the rest is unambiguous.
        strength: see `stylize`.
        keep_colours: see `stylize`.
        theta: the initialization from which the library was adapted; None for the one in the
            package.

    Returns:
        `[N, H, W, 3]` float32 in 0..1.

    Raises:
        UserError: an argument is invalid, a file cannot be read, or the images differ in size.
    """
    if not isinstance(library, style_library.Library):
        library = style_library.load(library)
    network = styled_network.load_batch(
        library, names, strength=strength, keep_colours=keep_colours, theta=theta
    )
    pixels = [image_inputs.as_rgb(image, name=f'image {i + 1}') for i, image in enumerate(images)]
    sizes = list(dict.fromkeys(f'{one.shape[1]} x {one.shape[0]}' for one in pixels))
    if len(pixels) != len(names) or len(sizes) != 1:
        raise UserError(
            f'{len(pixels)} images of {" and ".join(sizes) or "no"} pixels for {len(names)} names: '
            'give one image for each name, all of one size'
        )
    return render.render_batch(network, np.stack(pixels))
