"""Logs of a training run: metrics as JSON lines and for TensorBoard, sample pictures."""
