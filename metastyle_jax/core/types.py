"""Type aliases, and the letters that docstrings use for the axes of arrays.

    S  styles in one outer step          T  inner steps
    N  images in a batch                 C  channels
    H, W  height and width in pixels     L  style layers of the loss network

An image inside the package is an array ``[H, W, 3]`` of RGB values, float32 in 0..1; a batch of
images is ``[N, H, W, 3]``. Values of uint8 occur only where image files are read and written, and
in batches before they reach a training or adaptation step.
"""

from typing import Any, TypeAlias

import jax

Array: TypeAlias = jax.Array
PyTree: TypeAlias = Any
Params: TypeAlias = Any  # a pytree of arrays: the parameters of a network
