"""The list of measurements on an accelerator, in slices of ten minutes: `benchmarks/gpu.sh`."""
