"""What the notebooks and JAX use of Google Colab, for tests; the folder `$COLAB` is its outside."""
