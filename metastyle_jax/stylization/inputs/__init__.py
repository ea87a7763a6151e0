"""Inputs of `metastyle stylize`: words, flags, folders, and the record of finished pictures."""
