"""Logs at the end of a command which pictures were done, skipped or left out, and why."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

SHOWN_NAMES = 10


def tell(
    done: str,
    *,
    skipped: Sequence[str | os.PathLike[str]],
    why_skipped: str,
    left_out: Mapping[Any, str],
    others: Sequence[str | os.PathLike[str]],
    place: str | os.PathLike[str],
) -> None:
    """Logs the reason for each file that could not be used, the skipped files, and the totals.

    Args:
        done: what was done, such as '12 stylized'.
        skipped: files that needed no work.
        why_skipped: why they needed no work, such as 'done before'.
        left_out: file that could not be used -> message with its name and the reason.
        others: files that are not pictures.
        place: file or folder of the results.
    """
    for message in left_out.values():
        logging.warning('%s', message)
    if skipped:
        logging.info('skipped (%s): %s', why_skipped, _names(skipped))
    if others:
        verb = 'file is no picture' if len(others) == 1 else 'files are no pictures'
        logging.info('%d %s: %s', len(others), verb, _names(others))
    logging.info('%s', totals(done, skipped=len(skipped), why_skipped=why_skipped,
                              left_out=list(left_out), place=place))  # fmt: skip


def totals(
    done: str,
    *,
    skipped: int,
    why_skipped: str,
    left_out: Sequence[str | os.PathLike[str]],
    place: str | os.PathLike[str],
) -> str:
    """Makes the line with all numbers; for the arguments see `tell`."""
    parts = [f'{place}: {done}']
    if skipped:
        parts.append(f'{skipped} skipped ({why_skipped})')
    if left_out:
        parts.append(f'{len(left_out)} not usable: {_names(left_out)}')
    return ', '.join(parts)


def _names(files: Sequence[str | os.PathLike[str]]) -> str:
    """Lists the first `SHOWN_NAMES` names of files, and the number of the others."""
    shown = ', '.join(pathlib.PurePath(file).name for file in files[:SHOWN_NAMES])
    more = len(files) - SHOWN_NAMES
    return f'{shown} and {more} more' if more > 0 else shown
