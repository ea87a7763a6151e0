"""Side-by-side measurements of the package and of a clean PyTorch peer: `python -m benchmarks`."""
