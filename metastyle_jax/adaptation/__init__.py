"""Adaptation of the initialization to one style, or to each of a folder."""
