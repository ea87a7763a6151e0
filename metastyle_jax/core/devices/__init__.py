"""Devices and processes: where the arrays of a step lie, and who computes them."""
