"""Checks the flags and inputs of `metastyle stylize`, and records which pictures are finished."""
