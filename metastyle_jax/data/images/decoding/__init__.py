"""Decoding: modes of Pillow, colour profiles, and pictures at a reduced size."""
