"""Shows progress as a bar on a terminal, and as lines of text elsewhere."""

import sys
from collections.abc import Iterable
from typing import Any

import tqdm


def show(
    iterable: Iterable[Any] | None = None, *, description: str, unit: str, **options: Any
) -> tqdm.tqdm:
    """Shows progress, with the estimated time left, on the standard error stream.

    On a terminal the bar is redrawn in place. Elsewhere, such as in a log file, a line is printed
    about every ten seconds.

    Args:
        iterable: the bar counts its elements; None if the caller counts with `update`.
        description: text before the bar.
        unit: name of one counted thing, such as 'frame'.
        **options: further arguments of `tqdm.tqdm`.
    """
    interactive = sys.stderr.isatty()
    return tqdm.tqdm(
        iterable,
        desc=description,
        unit=unit,
        dynamic_ncols=interactive,
        mininterval=0.2 if interactive else 10.0,
        maxinterval=1.0 if interactive else 15.0,
        file=sys.stderr if interactive else _LineStream(sys.stderr),
        **options,
    )


class _LineStream:
    """A text stream that writes each update of a bar as a new line."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        text = text.strip('\r\n ')
        if text:
            self._stream.write(text + '\n')

    def flush(self) -> None:
        self._stream.flush()
