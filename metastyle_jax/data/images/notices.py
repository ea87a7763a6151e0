"""Warnings about pictures: each kind is told once in a run, with a count."""

from absl import logging

_SHOWN = 3  # most names in a warning


class PictureNotices:
    """Collects warnings about the pictures of a run."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, None]] = {}  # text -> names, in their order

    def add(self, text: str, name: str) -> None:
        """Notes a warning about a picture; the same one twice counts once.

        Args:
            text: the warning without the name, worded for one picture or several.
            name: of the picture.
        """
        self._names.setdefault(text, {})[name] = None

    def report(self, total: int) -> None:
        """Logs the warnings, one line for each kind.

        Args:
            total: number of the run's pictures.
        """
        for text, names in self._names.items():
            shown = ', '.join([*names][:_SHOWN]) + (', …' if len(names) > _SHOWN else '')
            who = shown if total == 1 else f'{len(names)} of {total} pictures ({shown})'
            logging.warning('%s: %s', who, text)
