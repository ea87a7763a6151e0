"""What is kept: tensors, initializations, styles, libraries, checkpoints, run folders."""
