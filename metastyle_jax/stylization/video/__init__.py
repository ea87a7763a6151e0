"""Video: reading, stylizing frame by frame, writing."""
