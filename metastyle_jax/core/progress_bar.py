"""Progress bars on a terminal, lines elsewhere."""

import sys
from collections.abc import Iterable
from typing import Any

import tqdm


def show(
    iterable: Iterable[Any] | None = None, *, description: str, unit: str, **options: Any
) -> tqdm.tqdm:
    """A progress bar with ETA on the standard error stream.

    Off a terminal it prints a line every ten seconds instead of redrawing one.
    """
    interactive = sys.stderr.isatty()
    return tqdm.tqdm(
        iterable,
        desc=description,
        unit=unit,
        dynamic_ncols=interactive,
        mininterval=0.2 if interactive else 10.0,
        maxinterval=1.0 if interactive else 15.0,
        file=sys.stderr if interactive else _Lines(sys.stderr),
        **options,
    )


class _Lines:
    """A stream on which a bar's redrawings become lines of a log."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        text = text.strip('\r\n ')
        if text:
            self._stream.write(text + '\n')

    def flush(self) -> None:
        self._stream.flush()
