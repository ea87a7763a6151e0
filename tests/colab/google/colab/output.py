"""What JAX imports where it finds Colab, for a debugger that nothing here starts."""
