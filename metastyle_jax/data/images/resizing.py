"""Resizes images, and cuts squares out of them."""

import numpy as np
from PIL import Image

from metastyle_jax.data.images import image_files


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes an image with an antialiased Lanczos filter.

    Args:
        image: `[H, W, 3]` or `[H, W]`, float32 in 0..1 or uint8.
        height: height of the result, at least 1.
        width: width of the result, at least 1.

    Returns:
        `[height, width, 3]` or `[height, width]` of the same dtype; float32 is clipped to 0..1. If
        the image already has this size, the result is `image` itself and not a copy.

    Raises:
        ImageError: `height` or `width` is less than 1.
    """
    if min(height, width) < 1:
        raise image_files.ImageError(
            f'cannot resize to {width} x {height} pixels; both must be at least 1'
        )
    image = np.asarray(image)
    if image.shape[:2] == (height, width):
        return image
    if image.ndim == 3 and image.dtype != np.uint8:
        # Pillow has no floating-point RGB, so each channel is resized as a grey image.
        return np.stack([resize(image[..., c], height, width) for c in range(3)], axis=-1)
    pixels = image if image.dtype == np.uint8 else np.asarray(image, np.float32)
    resized = np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    # The Lanczos filter has negative lobes: near an edge it can leave the range 0..1.
    return resized if resized.dtype == np.uint8 else np.clip(resized, 0.0, 1.0)


def fit(image: np.ndarray, max_size: int) -> np.ndarray:
    """Reduces an image so that its longer side has at most `max_size` pixels.

    The aspect ratio is kept, and small images are not enlarged.

    Args:
        image: `[H, W, 3]` or `[H, W]`, float32 in 0..1 or uint8.
        max_size: limit of the longer side in pixels.

    Returns:
        The image, see `resize`.
    """
    return resize(image, *fit_size(max_size, *image.shape[:2]))


def fit_size(max_size: int, height: int, width: int) -> tuple[int, int]:
    """Returns the height and width of the result of `fit`."""
    scale = min(1.0, max_size / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def center_square(image: np.ndarray, size: int) -> np.ndarray:
    """Cuts the largest centred square out of an image and resizes it.

    Args:
        image: `[H, W, 3]`, float32 in 0..1 or uint8.
        size: side of the result in pixels.

    Returns:
        `[size, size, 3]` of the same dtype.
    """
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return resize(image[top : top + side, left : left + side], size, size)
