"""Stylizes images in Python: one image, or a batch in which each image has another style.

Source: one forward pass of the transformer of Zhang, Zhu and Zhu 2019, arXiv 1812.05233.
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

    With a strength s below 1, the network's parameters are blended with θ by s, and its output is
    mixed with the image by s. Neither is enough: the output of θ is not the image, and a mixture of
    the image with the fully stylized image can have a lower style loss than the latter.

    Args:
        style: a style file, a style that `adapt` returned, or `LIBRARY.safetensors:NAME`; or
            several of these, to be blended or to be placed by masks.
        image: a file, its bytes, a Pillow image, or an array `[H, W, 3]` float in 0..1 or uint8.
        weights: of the styles in a blend, at least 0, with the sum 1; None for equal weights.
        masks: one for each style, or for each but the first, which then takes the rest: grey
            pictures in any form of `image`, or arrays `[H, W]` float in 0..1. They have the image's
            size and are 1 (white) where the style goes.
        feather: softness of the masks' edges, as a fraction of the shorter side, from 0 to below 1.
        strength: s in 0..1, from the image itself to the full style.
        keep_colours: whether to keep the image's colours and take only the brightness of the
            stylized image.
        theta: the initialization from which the styles were adapted: a file, a run's folder, or
            what `load_theta` returned. It is needed for styles of instance norms alone and for a
            strength below 1; None for the one in the package.
        max_size: limit of the longer side, to which the image is reduced; None keeps the size.
        tile: 'auto' to render in strips if one forward pass would need too much memory; 'always' or
            'never'. The result is the same but for rounding.
        progress: whether to show a progress bar of the strips.

    Returns:
        `[H, W, 3]` float32 in 0..1; a Pillow image, with the same transparency, if `image` is one.

    Raises:
        UserError: an argument is invalid, a file cannot be read, or the styles and θ do not belong
            together.
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
        picture: its colours and its transparency, from `render.read_fitted`.
        weights: see `stylize`.
        masks: see `stylize`.
        feather: see `stylize`.
        full_size: height and width of the picture before it was reduced, which are those of its
            masks; None if it was not reduced.
        tile: see `stylize`.
        progress: see `stylize`.
        **look: `strength`, `keep_colours` and `theta` of `stylize`.
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
    """Stylizes a batch in one forward pass; each image has another style of a library.

    Args:
        library: a style library, or its file.
        images: N images of one size: an array `[N, H, W, 3]` float in 0..1 or uint8, or a sequence
            in any form that `stylize` takes.
        names: N names of styles in the library, one for each image; folders and suffix may be
            left out.
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
