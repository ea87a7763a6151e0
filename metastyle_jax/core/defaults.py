"""Default values that several rooms share.

This module imports nothing, so that commands can check settings before they load JAX.
"""

# Weights of the perceptual loss. Source: Zhang et al. 2019, arXiv 1812.05233.
CONTENT_WEIGHT = 1.0
STYLE_WEIGHT = 1e5

# Adam's `eps_root` where a gradient goes through the optimizer: at a gradient of zero the square
# root in Adam has an infinite derivative without it.
EPS_ROOT = 1e-8
