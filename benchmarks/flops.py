"""Floating-point operations that a task needs, counted from the shapes of its layers.

Two for each multiply-add of convolutions and Gram matrices, every tap counted, also those on
padding; everything else is neglected. The two upsampling convolutions count nine taps a pixel, as
the paper writes them: cleverer arithmetic shows as a larger fraction of the machine's rate.

For one image let f be the forward pass of a layer. With x its input, W its kernel, g the gradient
with respect to its output, and a dot over the tangent of each, in units of f:

    forward                W∗x                       1
    data gradient          Wᵀ∗g                      1    not for the transformer's first layer
    weight gradient        x⋆g                       1    not for the frozen loss network
    tangent of forward     W∗ẋ + Ẇ∗x                 2    ẋ = 0 in the first layer
    ... data gradient      Wᵀ∗ġ + Ẇᵀ∗g               2    not for the first layer
    ... weight gradient    x⋆ġ + ẋ⋆g                 2    ẋ = 0 in the first layer

which makes, for each image and layer,

    |                          | transformer, first | others | loss network |
    | gradient, all parameters | 2                  | 3      | 2            |
    | gradient, norms only     | 1                  | 2      | 2            |
    | Hessian-vector, all      | 2                  | 6      | 2            |
    | Hessian-vector, norms    | 1                  | 4      | 2            |

The Hessian-vector product shares the forward and backward pass of the inner gradient, so nothing
is computed twice. With norms only, Ẇ = 0, no inner step needs a weight gradient, and only ẋ = 0
in the first layer; its tangent with respect to the slow kernels is still part of the exact
meta-gradient. The loss network is frozen, Ẇ = 0, but takes the gradient through its first layer.

A Gram matrix ψψᵀ costs one product forward, and one for its gradient (D + Dᵀ)ψ, whose factor is
symmetric. Of their tangents, ψ̇ψᵀ + (ψ̇ψᵀ)ᵀ is one product, and Ḋψ + Dψ̇ are two.

An exact meta-gradient is, for each style, T inner gradients and Hessian-vector products, and one
outer gradient in all parameters; first order leaves the products out. Targets are relu2_2 of all
(T + 1)·N contents, and the Gram matrices of the style.
"""

from typing import NamedTuple

from benchmarks import tasks

_VGG = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8))  # channels of each layer, in units of the width


class Count(NamedTuple):
    """Passes over each part of the networks, or operations of one pass over it, for one image."""

    first: float
    others: float
    vgg: float
    gram: float


GRADIENT = {'all': Count(2, 3, 2, 2), 'norm': Count(1, 2, 2, 2)}
HESSIAN = {'all': Count(2, 6, 2, 3), 'norm': Count(1, 4, 2, 3)}


def conv(size: int, inputs: int, outputs: int, pixels: int) -> int:
    """Operations of a convolution with kernels of `size`², by pixels of its output."""
    return 2 * size * size * inputs * outputs * pixels


def transformer(height: int, width: int, network: tasks.Network) -> list[int]:
    """Forward operations of each layer of the transformer for one image, the first one first.

    Args:
        height: of the image.
        width: of the image.
        network: its channels and blocks.
    """
    c = network.width
    half = -(-height // 2), -(-width // 2)
    full, half_pixels = height * width, half[0] * half[1]
    quarter = -(-half[0] // 2) * -(-half[1] // 2)
    return [
        conv(9, 3, c, full),
        conv(3, c, 2 * c, half_pixels),
        conv(3, 2 * c, 4 * c, quarter),
        *[conv(3, 4 * c, 4 * c, quarter)] * (2 * network.blocks),
        conv(3, 4 * c, 2 * c, half_pixels),
        conv(3, 2 * c, c, full),
        conv(9, c, 3, full),
    ]


def vgg(height: int, width: int, network: tasks.Network, *, blocks: int = 4) -> tuple[int, int]:
    """Forward operations of the loss network and of its Gram matrices for one image.

    Args:
        height: of the image.
        width: of the image.
        network: the channels; a width of 0 means the 64 of VGG-16.
        blocks: 4 up to relu4_3, 2 up to relu2_2.
    """
    unit = network.vgg_width or 64
    convs, grams, channels = 0, 0, 3
    for block in _VGG[:blocks]:
        for factor in block:
            convs += conv(3, channels, factor * unit, height * width)
            channels = factor * unit
        grams += 2 * channels * channels * height * width
        height, width = height // 2, width // 2
    return convs, grams


def forward(task: tasks.Task) -> Count:
    """Operations of one forward pass over each part, for one image of a task."""
    first, *others = transformer(task.size, task.size, task.network)
    return Count(first, sum(others), *vgg(task.size, task.size, task.network))


def needed(task: tasks.Task) -> float:
    """Operations that one run of a task needs; 0 for the input pipeline."""
    if task.work == 'pipeline':
        return 0.0
    once = forward(task)
    if task.work == 'stylize':
        return task.batch * (once.first + once.others)
    content, _ = vgg(task.size, task.size, task.network, blocks=2)
    if task.work == 'adapt':
        return task.batch * (content + _times(once, GRADIENT['all']))
    inner = _times(once, GRADIENT[task.params])
    if task.work == 'exact':
        inner += _times(once, HESSIAN[task.params])
    an_image = task.steps * inner + _times(once, GRADIENT['all']) + (task.steps + 1) * content
    return task.styles * (task.batch * an_image + once.vgg + once.gram)


def _times(once: Count, passes: Count) -> float:
    """Operations of so many passes over each part."""
    return sum(a * b for a, b in zip(once, passes, strict=True))
