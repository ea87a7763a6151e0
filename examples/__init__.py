"""Examples of meta-learning with `metastyle_jax.meta`."""
