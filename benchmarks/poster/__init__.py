"""The poster's systems beside the same in PyTorch: `python -m benchmarks.poster`."""
