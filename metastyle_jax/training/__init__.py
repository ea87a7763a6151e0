"""Meta-training of the initialization."""
