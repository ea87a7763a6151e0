"""The peer: AdaIN, WCT, Avatar-Net and Style-Swap in PyTorch, with the weights of this package.

Parameters are dicts of dicts such as `params['encoder']['conv1_1']['kernel']`. Kernels have the
layout of PyTorch, `[O, I, K, K]`, and images `[N, 3, H, W]`. The functions of a system are those of
`baselines.systems.System`. They are written as one would write them in PyTorch, without the
formulations that this package has for its own backends.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

Tensor: TypeAlias = torch.Tensor
Params: TypeAlias = dict[str, Any]

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_LEAST_STD = 1e-5**0.5
_LEAST_EIGENVALUE = 1e-5
_WCT_CUTS = ('relu5_1', 'relu4_1', 'relu3_1', 'relu2_1', 'relu1_1')
_GUIDES = ('relu1_1', 'relu2_1', 'relu3_1')


class Peer(NamedTuple):
    """A system of the poster.

    Attributes:
        encode_style: `(params, style image [1, 3, H, W]) -> style`.
        apply: `(params, style, contents [N, 3, H, W], alpha) -> pictures [N, 3, H, W]`.
    """

    encode_style: Callable[[Params, Tensor], Any]
    apply: Callable[[Params, Any, Tensor, float], Tensor]


def from_arrays(tree: Any, device: torch.device) -> Any:
    """Converts a dict of dicts of arrays to tensors, and kernels from HWIO to OIHW."""
    if isinstance(tree, dict):
        return {name: from_arrays(part, device) for name, part in tree.items()}
    array = np.asarray(tree)
    array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
    return torch.tensor(np.ascontiguousarray(array), device=device)


# Encoder and decoder. -----------------------------------------------------------------------------


def convolve(module: Params, x: Tensor) -> Tensor:
    """Convolves with reflection padding."""
    kernel = module['kernel']
    pad = kernel.shape[2] // 2
    x = F.pad(x, (pad, pad, pad, pad), mode='reflect') if pad else x
    return F.conv2d(x, kernel, module['bias'])


def encode(params: Params, images: Tensor, taps: tuple[str, ...]) -> list[Tensor]:
    """Computes activations of VGG in some layers, given in the order of the network."""
    if 'conv0' in params:
        x = convolve(params['conv0'], images)
    else:
        mean, std = (images.new_tensor(t).view(1, 3, 1, 1) for t in (_MEAN, _STD))
        x = (images - mean) / std
    found: list[Tensor] = []
    for name in sorted(params.keys() - {'conv0'}):
        if name.endswith('_1') and name != 'conv1_1':
            x = F.max_pool2d(x, 2, ceil_mode=True)
        x = F.relu(convolve(params[name], x))
        if name.replace('conv', 'relu') in taps:
            found.append(x)
        if len(found) == len(taps):
            break
    return found


def decode(
    params: Params,
    x: Tensor,
    size: tuple[int, int],
    *,
    before: dict[str, Callable[[Tensor], Tensor]] | None = None,
    normalize: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Applies a decoder whose layers have the names of the encoder's, in reverse order."""
    names = sorted(params, reverse=True)  # 'out' > 'conv4_1' > 'conv3_4' > ...
    names = [name for name in names if name != 'out'] + ['out'] * ('out' in names)
    scale = 2 ** (int(names[0][4]) - 1)
    for i, name in enumerate(names):
        if i and names[i - 1].endswith('_1') and names[i - 1] != 'conv1_1':
            scale //= 2
            x = F.interpolate(x, scale_factor=2, mode='nearest')
            x = x[:, :, : -(-size[0] // scale), : -(-size[1] // scale)]
        if before and name in before:
            x = before[name](x)
        x = convolve(params[name], x)
        if i < len(names) - 1:
            x = F.relu(normalize(x) if normalize else x)
    return x


# Statistics and patches. --------------------------------------------------------------------------


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Computes mean and standard deviation of each channel, `[N, C, 1, 1]`."""
    std, mean = torch.std_mean(x, dim=(2, 3), correction=0, keepdim=True)
    return mean, std


def with_moments(x: Tensor, target: tuple[Tensor, Tensor]) -> Tensor:
    """Gives each channel another mean and standard deviation."""
    mean, std = moments(x)
    return (x - mean) * (target[1] / std.clamp_min(_LEAST_STD)) + target[0]


def covariance_roots(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Computes mean `[N, C, 1]`, and both roots of the covariance matrix `[N, C, C]`."""
    flat = x.flatten(2).double()
    mean = flat.mean(2, keepdim=True)
    centered = flat - mean
    covariance = centered @ centered.transpose(1, 2) / max(flat.shape[2] - 1, 1)
    values, vectors = torch.linalg.eigh(covariance)
    rounding = flat.shape[1] * torch.finfo(torch.double).eps * values[:, -1:]
    kept = values > rounding.clamp_min(_LEAST_EIGENVALUE)
    roots = torch.where(kept, values, 1.0).sqrt()
    matrices = [
        (vectors * torch.where(kept, root, 0.0)[:, None]) @ vectors.transpose(1, 2)
        for root in (1 / roots, roots)
    ]
    return mean.to(x.dtype), matrices[0].to(x.dtype), matrices[1].to(x.dtype)


def whiten(x: Tensor, roots: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Removes the mean and makes the covariance matrix the identity."""
    return (roots[1] @ (x.flatten(2) - roots[0])).view_as(x)


def colour(x: Tensor, roots: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Gives whitened features a mean and a covariance matrix."""
    return (roots[2] @ x.flatten(2) + roots[0]).view_as(x)


def swap(contents: Tensor, style: Tensor, size: int) -> Tensor:
    """Replaces each patch of contents `[N, C, H, W]` by the most similar one of `[1, C, h, w]`."""
    bank = F.unfold(style, size)  # [1, C·K·K, M]
    norms = bank.norm(dim=1).clamp_min(torch.finfo(bank.dtype).tiny)
    kernels = (bank / norms[:, None])[0].t().reshape(-1, contents.shape[1], size, size)
    chosen = F.conv2d(contents, kernels).flatten(2).argmax(1)  # [N, P]
    found = bank[0][:, chosen].transpose(0, 1)  # [N, C·K·K, P]
    side = contents.shape[2:]
    ones = torch.ones_like(contents[:1, :1])
    overlaps = F.fold(F.unfold(ones, size), side, size)
    return F.fold(found, side, size) / overlaps


# Systems. -----------------------------------------------------------------------------------------


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[2], images.shape[3]


def _adain_style(params: Params, image: Tensor) -> Any:
    return moments(encode(params['encoder'], image, ('relu4_1',))[0])


def _adain(params: Params, style: Any, contents: Tensor, alpha: float) -> Tensor:
    (x,) = encode(params['encoder'], contents, ('relu4_1',))
    x = torch.lerp(x, with_moments(x, style), alpha)
    return decode(params['decoder'], x, _size(contents)).clamp(0, 1)


def _wct_style(params: Params, image: Tensor) -> Any:
    layers = encode(params['encoder'], image, _WCT_CUTS[::-1])
    return {cut: covariance_roots(x) for cut, x in zip(_WCT_CUTS[::-1], layers, strict=True)}


def _wct(params: Params, style: Any, contents: Tensor, alpha: float) -> Tensor:
    for cut in _WCT_CUTS:
        (x,) = encode(params['encoder'], contents, (cut,))
        styled = colour(whiten(x, covariance_roots(x)), style[cut])
        x = torch.lerp(x, styled, alpha)
        contents = decode(params['decoders'][cut], x, _size(contents)).clamp(0, 1)
    return contents


def _avatar_style(params: Params, image: Tensor) -> Any:
    *guides, x = encode(params['encoder'], image, (*_GUIDES, 'relu4_1'))
    roots = covariance_roots(x)
    return whiten(x, roots), roots, [moments(layer) for layer in guides]


def _avatar(params: Params, style: Any, contents: Tensor, alpha: float) -> Tensor:
    whitened, roots, targets = style
    *guides, x = encode(params['encoder'], contents, (*_GUIDES, 'relu4_1'))
    wide, bank = (
        F.pad(y, (2, 2, 2, 2), mode='replicate') for y in (whiten(x, covariance_roots(x)), whitened)
    )
    swapped = swap(wide, bank, 5)[:, :, 2:-2, 2:-2]
    x = torch.lerp(x, colour(swapped, roots), alpha)
    before: dict[str, Callable[[Tensor], Tensor]] = {}
    for tap, own, target in zip(_GUIDES, guides, targets, strict=True):
        mean, std = (torch.lerp(a, b, alpha) for a, b in zip(moments(own), target, strict=True))
        change = functools.partial(with_moments, target=(mean, std))
        before[tap.replace('relu', 'conv')] = change
    size = _size(contents)
    return decode(params['decoder'], x, size, before=before).clamp(0, 1)


def _style_swap_style(params: Params, image: Tensor) -> Any:
    return encode(params['encoder'], image, ('relu3_1',))[0]


def _style_swap(params: Params, style: Any, contents: Tensor, alpha: float) -> Tensor:
    (x,) = encode(params['encoder'], contents, ('relu3_1',))
    x = torch.lerp(x, swap(x, style, 3), alpha)
    size = _size(contents)
    return decode(params['decoder'], x, size, normalize=F.instance_norm).clamp(0, 1)


PEERS = {
    'adain': Peer(_adain_style, _adain),
    'wct': Peer(_wct_style, _wct),
    'avatar-net': Peer(_avatar_style, _avatar),
    'style-swap': Peer(_style_swap_style, _style_swap),
}
