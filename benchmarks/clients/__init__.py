"""Exported styles in other programs: whether each opens them, how near it is to JAX, how fast."""
