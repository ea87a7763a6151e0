"""Training of other networks than the initialization θ, with the same loop and data."""
