"""Collects warnings about pictures, so that a run logs each kind once with a count."""

from absl import logging

_SHOWN = 3  # most names in a warning


class PictureNotices:
    """Collects the warnings about the pictures of a run, and logs them at its end."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, None]] = {}  # text -> names, in their order

    def add(self, text: str, name: str) -> None:
        """Adds a warning about a picture; the same warning about the same picture counts once.

        Args:
            text: the warning without the name of the picture; it must fit one picture and several.
            name: name of the picture.
        """
        self._names.setdefault(text, {})[name] = None

    def report(self, total: int) -> None:
        """Logs the warnings, one line for each kind.

        Args:
            total: number of all pictures of the run.
        """
        for text, names in self._names.items():
            shown = ', '.join([*names][:_SHOWN]) + (', …' if len(names) > _SHOWN else '')
            who = shown if total == 1 else f'{len(names)} of {total} pictures ({shown})'
            logging.warning('%s: %s', who, text)
