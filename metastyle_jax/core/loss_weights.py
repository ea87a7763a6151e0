"""Default weights of the perceptual loss.

Settings of several rooms share them. This module imports nothing, because commands check settings
before they load JAX.

Source: Zhang et al. 2019, arXiv 1812.05233.
"""

CONTENT_WEIGHT = 1.0
STYLE_WEIGHT = 1e5
