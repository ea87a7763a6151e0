"""Measures this package and a PyTorch peer side by side: `python -m benchmarks`."""
