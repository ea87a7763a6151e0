"""Paintings in place of style files: a style is made when it is needed, and then cached."""
