"""Fixtures of the tests of data."""

import helpers
import pytest
from absl import logging

from metastyle_jax.data import sources


@pytest.fixture
def contents(tmp_path):
    return sources.open_source(
        f'folder:{helpers.write_images(tmp_path / "contents", 12)}', kind='content'
    )


@pytest.fixture
def styles(tmp_path):
    return sources.open_source(
        f'folder:{helpers.write_images(tmp_path / "styles", 5)}', kind='style'
    )


@pytest.fixture
def warned(monkeypatch):
    """The warnings that were logged."""
    lines = []
    monkeypatch.setattr(logging, 'warning', lambda text, *args: lines.append(text % args))
    return lines
