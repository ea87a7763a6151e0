"""Serves the page of `metastyle ui` in tests."""

import contextlib
import gc
import warnings


@contextlib.contextmanager
def serving(config):
    """Serves the page, and then collects what Gradio leaves.

    Gradio leaves event loops and sockets unclosed. Python warns of them when it collects them. That
    would otherwise be in the middle of a later test, where warnings are errors.
    """
    from metastyle_jax.ui.page import app

    try:
        with app.serving(config) as address:
            yield address
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            for _ in range(3):  # what a collected object refers to may need another round
                gc.collect()
