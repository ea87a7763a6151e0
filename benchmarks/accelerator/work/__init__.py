"""What the worker processes of `benchmarks.accelerator` compute and time."""
