"""Paintings in the place of style files: their styles are made when they are needed, and cached."""
