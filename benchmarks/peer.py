"""The peer: the same networks and loss in PyTorch, as pure functions of dicts of tensors.

Parameters have the names of this project, such as 'down1/conv/kernel'. Kernels have the layout of
PyTorch, `[O, I, K, K]`, and images `[N, 3, H, W]`. The modules `transformer`, `vgg` and
`perceptual_loss` of this project served as the model.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

Tensor: TypeAlias = torch.Tensor
Params: TypeAlias = dict[str, Tensor]

CONTENT_WEIGHT = 1.0
STYLE_WEIGHT = 1e5
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_BLOCKS = (
    ('conv1_1', 'conv1_2'),
    ('conv2_1', 'conv2_2'),
    ('conv3_1', 'conv3_2', 'conv3_3'),
    ('conv4_1', 'conv4_2', 'conv4_3'),
)


def from_arrays(arrays: dict[str, np.ndarray], device: torch.device) -> Params:
    """Converts arrays by name to tensors, and kernels from HWIO to OIHW."""
    tensors = {}
    for name, array in arrays.items():
        if array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        # The optimizer writes into the tensors, so they must not share the arrays' memory.
        tensors[name] = torch.tensor(np.ascontiguousarray(array), device=device)
    return tensors


def to_arrays(params: Params) -> dict[str, np.ndarray]:
    """Converts tensors to arrays by name; the inverse of `from_arrays`."""
    arrays = {name: p.detach().float().cpu().numpy() for name, p in params.items()}
    return {name: a.transpose(2, 3, 1, 0) if a.ndim == 4 else a for name, a in arrays.items()}


def stylize(params: Params, images: Tensor) -> Tensor:
    """Applies the transformer to images `[N, 3, H, W]` in 0..1; the result has the same shape.

    Source: Johnson et al. 2016, arXiv 1603.08155; Zhang, Zhu and Zhu 2019, arXiv 1812.05233.
    """
    full = torch.relu(_conv_norm(params, 'down1', images))
    half = torch.relu(_conv_norm(params, 'down2', full, stride=2))
    x = torch.relu(_conv_norm(params, 'down3', half, stride=2))
    blocks = sum(name.endswith('first/conv/kernel') for name in params)
    for i in range(1, blocks + 1):
        y = torch.relu(_conv_norm(params, f'block{i}/first', x))
        x = x + _conv_norm(params, f'block{i}/second', y)
    x = torch.relu(_conv_norm(params, 'up1', _upsample(x, half)))
    x = torch.relu(_conv_norm(params, 'up2', _upsample(x, full)))
    return torch.sigmoid(_conv(params, 'out', x))


def _conv(params: Params, name: str, x: Tensor, stride: int = 1) -> Tensor:
    """Convolution after reflection padding."""
    kernel = params[f'{name}/kernel']
    x = F.pad(x, [kernel.shape[-1] // 2] * 4, mode='reflect')
    return F.conv2d(x, kernel, params[f'{name}/bias'], stride)


def _conv_norm(params: Params, name: str, x: Tensor, stride: int = 1) -> Tensor:
    """Convolution and instance norm."""
    scale, bias = params[f'{name}/norm/scale'], params[f'{name}/norm/bias']
    return F.instance_norm(_conv(params, f'{name}/conv', x, stride), weight=scale, bias=bias)


def _upsample(x: Tensor, like: Tensor) -> Tensor:
    """Nearest-neighbour upsampling by two, cropped to the size of another image."""
    height, width = like.shape[2:]
    return F.interpolate(x, scale_factor=2, mode='nearest')[:, :, :height, :width]


def features(vgg: Params, images: Tensor) -> list[Tensor]:
    """Returns relu1_2, relu2_2, relu3_3 and relu4_3 of VGG-16 for images `[N, 3, H, W]` in 0..1.

    Source: Simonyan and Zisserman 2015, arXiv 1409.1556, table 1, column D.
    """
    return _features(vgg, images, len(_BLOCKS))


def content_features(vgg: Params, images: Tensor) -> Tensor:
    """Returns only relu2_2."""
    return _features(vgg, images, 2)[-1]


def _features(vgg: Params, images: Tensor, blocks: int) -> list[Tensor]:
    """Returns the last activations of each of the first blocks."""
    mean, std = (images.new_tensor(x).reshape(1, 3, 1, 1) for x in (_MEAN, _STD))
    x, layers = (images - mean) / std, []
    for i, block in enumerate(_BLOCKS[:blocks]):
        x = F.max_pool2d(x, 2) if i else x
        for name in block:
            x = torch.relu(F.conv2d(x, vgg[f'{name}/kernel'], vgg[f'{name}/bias'], padding=1))
        layers.append(x)
    return layers


def gram(maps: Tensor) -> Tensor:
    """Gram matrices `ψψᵀ / (C·H·W)` of `[N, C, H, W]`: `[N, C, C]`."""
    flat = maps.flatten(2)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def loss(
    params: Params, vgg: Params, contents: Tensor, content: Tensor, grams: Sequence[Tensor]
) -> Tensor:
    """Perceptual loss of the stylized contents y.

    `a·mean (φ(y) − φ(c))² + b·Σ_l mean (G_l(y) − G_l(s))²`

    Args:
        params: parameters of the transformer.
        vgg: weights of the loss network.
        contents: content images c, `[N, 3, H, W]` in 0..1.
        content: φ(c), relu2_2 of the content images.
        grams: G_l(s), four Gram matrices `[C, C]` of the style image.

    Returns:
        A scalar.

    Source: Johnson et al. 2016, arXiv 1603.08155, section 3.
    """
    maps = features(vgg, stylize(params, contents))
    style = sum((gram(layer) - goal).square().mean() for layer, goal in zip(maps, grams))  # noqa: B905
    return CONTENT_WEIGHT * (maps[1] - content).square().mean() + STYLE_WEIGHT * style
