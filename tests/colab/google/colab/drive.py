"""A Drive that is a folder."""

import pathlib


def mount(path):
    """Makes the folder."""
    pathlib.Path(path, 'MyDrive').mkdir(parents=True, exist_ok=True)
