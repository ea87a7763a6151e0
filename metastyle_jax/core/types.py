"""Aliases, shared errors and the legend of array shapes.

Shapes in docstrings use these letters:

    S  styles in one outer step          T  inner steps
    N  images in a batch                 C  channels
    H, W  height and width in pixels     L  style layers of the loss network

Inside the package an image is RGB, float32 in 0..1, channels last: ``[N, H, W, 3]``. Unsigned
bytes occur where pictures are read and written, and in batches until a step takes them.
"""

from typing import Any, TypeAlias

import jax

Array: TypeAlias = jax.Array
PyTree: TypeAlias = Any
Params: TypeAlias = Any  # a pytree of arrays: the weights of a network
