"""Counts the floating-point operations that a task needs, from the shapes of its layers.

Each multiply-add of a convolution or a Gram matrix counts as two operations, also on padding. All
other operations are neglected. The two convolutions after upsampling count nine taps for each
pixel, as the paper writes them. A formulation with fewer operations therefore shows as a larger
fraction of the machine's rate.

The unit of the following table is f, the operations of the forward pass of a layer on one image. x
is the input of the layer, W its kernel, g the gradient with respect to its output; a dot marks
tangents.

    forward                W∗x                       1
    data gradient          Wᵀ∗g                      1    not for the transformer's first layer
    weight gradient        x⋆g                       1    not for the frozen loss network
    tangent of forward     W∗ẋ + Ẇ∗x                 2    ẋ = 0 in the first layer
    ... data gradient      Wᵀ∗ġ + Ẇᵀ∗g               2    not for the first layer
    ... weight gradient    x⋆ġ + ẋ⋆g                 2    ẋ = 0 in the first layer

The sums for each image and layer are:

    |                          | transformer, first | others | loss network |
    | gradient, all parameters | 2                  | 3      | 2            |
    | gradient, norms only     | 1                  | 2      | 2            |
    | Hessian-vector, all      | 2                  | 6      | 2            |
    | Hessian-vector, norms    | 1                  | 4      | 2            |

The Hessian-vector product shares the forward and the backward pass with the inner gradient, so
nothing is computed twice. If only instance norms adapt, then Ẇ = 0, and no inner step needs a
weight gradient; ẋ = 0 only in the first layer. The derivative with respect to the other kernels is
still part of the exact meta-gradient. The loss network is frozen, so Ẇ = 0, but the gradient
passes through its first layer.

A Gram matrix ψψᵀ costs one product in the forward pass, and one for its gradient (D + Dᵀ)ψ, because
D + Dᵀ is symmetric. Its tangent ψ̇ψᵀ + (ψ̇ψᵀ)ᵀ costs one product, and the tangent of its gradient,
Ḋψ + Dψ̇, costs two.

An exact meta-gradient needs, for each style, T inner gradients, T Hessian-vector products, and one
outer gradient with respect to all parameters. The first-order one needs no Hessian-vector products.
The targets need relu2_2 of all (T + 1)·N content images, and the Gram matrices of the style.
"""

from typing import NamedTuple

from benchmarks import tasks

_VGG = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8))  # channels of each layer, in units of the width


class Count(NamedTuple):
    """Numbers for each part of the networks, for one image: passes, or operations of one pass.

    Attributes:
        first: first layer of the transformer.
        others: other layers of the transformer.
        vgg: loss network.
        gram: Gram matrices.
    """

    first: float
    others: float
    vgg: float
    gram: float


GRADIENT = {'all': Count(2, 3, 2, 2), 'norm': Count(1, 2, 2, 2)}
HESSIAN = {'all': Count(2, 6, 2, 3), 'norm': Count(1, 4, 2, 3)}


def conv(size: int, inputs: int, outputs: int, pixels: int) -> int:
    """Returns the operations of a convolution with kernels of `size`² and so many output pixels."""
    return 2 * size * size * inputs * outputs * pixels


def transformer(height: int, width: int, network: tasks.Network) -> list[int]:
    """Returns the forward operations of each layer of the transformer, in order, for one image.

    Args:
        height: height of the image.
        width: width of the image.
        network: sizes of the networks.
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
    """Returns the forward operations of the loss network and of its Gram matrices for one image.

    Args:
        height: height of the image.
        width: width of the image.
        network: sizes of the networks.
        blocks: number of blocks: 4 for relu4_3 as last layer, 2 for relu2_2.
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
    """Returns the operations of one forward pass over each part, for one image of a task."""
    first, *others = transformer(task.size, task.size, task.network)
    return Count(first, sum(others), *vgg(task.size, task.size, task.network))


def needed(task: tasks.Task) -> float:
    """Returns the operations that one run of a task needs; 0 for the input pipeline."""
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
    """Returns the operations of a number of passes over each part."""
    return sum(a * b for a, b in zip(once, passes, strict=True))
