"""Statistics of feature maps, and feature maps with the statistics of others.

All statistics are over the pixels of one image. *Moments* are each channel's mean and standard
deviation. *Whitening* makes the covariance matrix of the channels the identity, and *colouring*
makes it that of another image.

Source: Huang and Belongie 2017, arXiv 1703.06868, equation 8, for moments; Li et al. 2017,
arXiv 1705.08086, section 3.2, for whitening and colouring.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metastyle_jax.core.types import Array

MIN_STD = 1e-5**0.5  # a channel with a smaller standard deviation counts as flat
MIN_EIGENVALUE = 1e-5  # of a covariance matrix; smaller ones are dropped


class Moments(NamedTuple):
    """Mean and standard deviation of each channel.

    Attributes:
        mean: `[N, C]`.
        std: `[N, C]`.
    """

    mean: Array
    std: Array


class CovarianceRoots(NamedTuple):
    """Mean of feature maps, and symmetric roots of their covariance matrix Σ = E·diag(λ)·Eᵀ.

    Directions of eigenvalues that are nearly zero are dropped: there, both matrices are zero.

    Attributes:
        mean: `[N, C]`.
        whitening: `[N, C, C]`, E·diag(λ^-½)·Eᵀ.
        colouring: `[N, C, C]`, E·diag(λ^½)·Eᵀ.
    """

    mean: Array
    whitening: Array
    colouring: Array


def moments(features: Array) -> Moments:
    """Computes the mean and the standard deviation of each channel over the pixels.

    Args:
        features: `[N, H, W, C]`.

    Returns:
        The moments. The gradient of the standard deviation is zero on a constant channel.
    """
    mean = jnp.mean(features, axis=(1, 2))
    variance = jnp.mean(jnp.square(features - mean[:, None, None]), axis=(1, 2))
    # The derivative of a root is infinite at zero. The inner `where` keeps it out of the gradient.
    is_varied = variance > 0
    std = jnp.where(is_varied, jnp.sqrt(jnp.where(is_varied, variance, 1)), 0)
    return Moments(mean, std)


def with_moments(features: Array, target: Moments) -> Array:
    """Gives each channel another mean and standard deviation: adaptive instance normalization.

        y = target.std · (x − mean(x)) / std(x) + target.mean

    Channels that are flat, with a standard deviation below `MIN_STD`, are divided by `MIN_STD`.

    Args:
        features: `[N, H, W, C]`.
        target: moments `[N, C]`, or `[1, C]` for the same ones in all images.

    Returns:
        `[N, H, W, C]`.
    """
    own = moments(features)
    scale = target.std / jnp.maximum(own.std, MIN_STD)
    centered = features - own.mean[:, None, None]
    return centered * scale[:, None, None] + target.mean[:, None, None]


def covariance_roots(features: Array) -> CovarianceRoots:
    """Computes the matrices that whiten feature maps, and that give others their covariance.

    The covariance matrix is divided by the number of pixels minus one. It and its eigenvectors are
    computed in float64, whatever the type of the features. Whitening divides by roots of
    eigenvalues that are a millionth of the largest one, so the errors of float32 would show.

    Args:
        features: `[N, H, W, C]`.

    Returns:
        The mean and both roots, in the dtype of the features. They cannot be differentiated.
    """
    dtype = features.dtype
    # The devices that JAX calls 'tpu' have no eigendecomposition in float64.
    is_wide = jax.default_backend() != 'tpu'
    with jax.enable_x64(is_wide):
        x = features.astype(jnp.float64 if is_wide else dtype)
        n, height, width, channels = x.shape
        flat = x.reshape(n, height * width, channels)
        mean = jnp.mean(flat, axis=1)
        centered = flat - mean[:, None]
        covariance = jnp.einsum('npc,npd->ncd', centered, centered, precision='highest')
        values, vectors = jnp.linalg.eigh(covariance / max(height * width - 1, 1))
        # With fewer pixels than channels, eigenvalues are zero up to rounding.
        rounding = channels * jnp.finfo(x.dtype).eps * values[:, -1:]
        kept = values > jnp.maximum(rounding, MIN_EIGENVALUE)
        roots = jnp.sqrt(jnp.where(kept, values, 1))
        scaled = [jnp.where(kept, root, 0) for root in (1 / roots, roots)]
        whitening, colouring = (
            jnp.einsum('ncd,nd,ned->nce', vectors, root, vectors, precision='highest')
            for root in scaled
        )
        return CovarianceRoots(*(part.astype(dtype) for part in (mean, whitening, colouring)))


def whiten(features: Array, own: CovarianceRoots) -> Array:
    """Removes the mean and makes the covariance matrix the identity.

    Args:
        features: `[N, H, W, C]`.
        own: their roots, from `covariance_roots`.

    Returns:
        `[N, H, W, C]`.
    """
    return _multiply(features - own.mean[:, None, None], own.whitening)


def colour(whitened: Array, target: CovarianceRoots) -> Array:
    """Gives whitened features the mean and the covariance matrix of others.

    Args:
        whitened: `[N, H, W, C]`.
        target: roots of the others, for N images or for one.

    Returns:
        `[N, H, W, C]`.
    """
    return _multiply(whitened, target.colouring) + target.mean[:, None, None]


def with_covariance(features: Array, target: CovarianceRoots) -> Array:
    """Gives features the mean and the covariance matrix of others: whitening, then colouring.

    Args:
        features: `[N, H, W, C]`.
        target: roots of the others, for N images or for one.

    Returns:
        `[N, H, W, C]`.
    """
    own = covariance_roots(features)
    both = jnp.matmul(own.whitening, target.colouring, precision='highest')
    centered = features - own.mean[:, None, None]
    return _multiply(centered, both) + target.mean[:, None, None]


def _multiply(x: Array, matrices: Array) -> Array:
    """Multiplies the channels of each pixel by the matrix of its image, or by a common one."""
    n, height, width, channels = x.shape
    flat = jnp.matmul(x.reshape(n, height * width, channels), matrices, precision='highest')
    return flat.reshape(n, height, width, channels)
