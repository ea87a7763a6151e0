"""Files: tensors, initializations, styles, style libraries, checkpoints, folders of runs."""
