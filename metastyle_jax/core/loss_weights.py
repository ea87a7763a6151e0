"""Default weights of the perceptual loss.

They lie in core because settings of several rooms share them, and because this module imports
nothing: commands check settings before they load JAX.

Source: Zhang et al. 2019, arXiv 1812.05233.
"""

CONTENT_WEIGHT = 1.0
STYLE_WEIGHT = 1e5
