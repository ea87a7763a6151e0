"""Video: frames are read, stylized one batch after another, and written, all at the same time."""
