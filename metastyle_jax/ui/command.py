"""The command `metastyle ui`: serves a web page on which people stylize photographs.

The modules that load JAX and Gradio are imported inside the functions, so that `--help` and errors
on the command line appear at once.
"""

import importlib.util
import signal
import threading
from typing import Any

from absl import flags

from metastyle_jax.core import command_line
from metastyle_jax.core.errors import UserError
from metastyle_jax.ui.config import UiConfig

USAGE = """Opens a web page on which you stylize photographs in the style of paintings.

  metastyle ui
  metastyle ui --port=8000 --noopen

Only this computer can open the page, unless you pass --host. Ctrl-C stops the server.
"""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command."""
    command_line.Flags(values).settings(UiConfig())


def main(values: flags.FlagValues) -> int:
    """Serves the page until the user stops the command; returns the exit code."""
    config = UiConfig(**command_line.given_settings(values, UiConfig))
    config.validate()
    require_gradio()
    from metastyle_jax.core.devices import allocator
    from metastyle_jax.ui.page import app

    allocator.keep_freed_memory()
    with app.serving(config) as address:
        print(f'The page is at {address} (Ctrl-C stops the server)', flush=True)
        wait()
    return 0


def wait() -> None:
    """Waits until the user stops the command by Ctrl-C or SIGTERM."""

    def end(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print('The page is closed, and the files of its visitors are deleted.', flush=True)
    finally:
        signal.signal(signal.SIGTERM, before)


def require_gradio() -> None:
    """Raises UserError if Gradio is missing; the message says how to install it."""
    if importlib.util.find_spec('gradio') is None:
        raise UserError("The page needs Gradio: pip install 'metastyle_jax[ui]'")


def run_ui() -> int:
    """The console script."""
    return command_line.run_command(main, define_flags, command='metastyle_jax.ui', usage=USAGE)
