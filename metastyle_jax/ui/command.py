"""The command `metastyle ui`: serves a web page on which people stylize photographs.

The modules that load JAX and Gradio are imported inside the functions, so that `--help` and errors
on the command line appear at once.
"""

import contextlib
import importlib.util
import signal
import threading
from collections.abc import Iterator
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
    with signals_as_ctrl_c(), app.serving(config) as address:
        print(f'The page is at {address} (Ctrl-C stops the server)', flush=True)
        wait()
    return 0


@contextlib.contextmanager
def signals_as_ctrl_c() -> Iterator[None]:
    """Lets SIGTERM, and SIGHUP of a terminal that is closed, raise KeyboardInterrupt in the block.

    They would otherwise end the program at once, and leave the files of the visitors. A signal that
    is ignored, as SIGHUP is by `nohup`, stays ignored.
    """

    def end(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, 'SIGHUP') else [])]
    before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait() -> None:
    """Waits until the user stops the command by Ctrl-C or a signal, see `signals_as_ctrl_c`."""
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # the terminal may be closed
            print('The page is closed, and the files of its visitors are deleted.', flush=True)


def require_gradio() -> None:
    """Raises UserError if Gradio is missing; the message says how to install it."""
    if importlib.util.find_spec('gradio') is None:
        raise UserError("The page needs Gradio: pip install 'metastyle_jax[ui]'")


def run_ui() -> int:
    """The console script."""
    return command_line.run_command(main, define_flags, command='metastyle_jax.ui', usage=USAGE)
