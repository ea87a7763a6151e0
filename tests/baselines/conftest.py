"""The network that measures the losses."""

import adaptation_helpers
import pytest


@pytest.fixture(scope='session')
def network():
    return adaptation_helpers.small_vgg()
