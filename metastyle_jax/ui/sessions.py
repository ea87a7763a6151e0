"""Sessions: the temporary folder, the pictures and the styles of each visitor of the page.

A session begins with the first request of a page. It ends some time after the page is closed, or
when the server stops. Then its folder is deleted.
"""

import contextlib
import pathlib
import shutil
import tempfile
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from metastyle_jax.core.errors import UserError
from metastyle_jax.storage import style_files


class ListedStyle(NamedTuple):
    """One style in the list of a visitor.

    Attributes:
        style: the style.
        thumbnail: `[H, W, 3]` uint8: the painting, or a sample photograph in the style.
    """

    style: style_files.Style
    thumbnail: np.ndarray


class Session:
    """Files, styles and choices of one visitor.

    Attributes:
        folder: temporary folder of the visitor's files.
        painting: the uploaded painting, or None.
        photo: the uploaded photograph, or None.
        mask: `[H, W]` float32 in 0..1, where the style is used; None for everywhere.
        elsewhere: content of the picture outside the mask: 'photograph', or 'second' for the second
            style of the blend.
        styles: name -> style, in the order in which they were added.
        chosen: name -> weight of the styles that are used now; the sum of the weights is 1.
        stop: set when the visitor stops the current work.
        uploads: files of the server's upload folder that belong to the visitor.
        closed: whether the session has ended, so that its files are deleted.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.painting: pathlib.Path | None = None
        self.photo: pathlib.Path | None = None
        self.mask: np.ndarray | None = None
        self.elsewhere = 'photograph'
        self.styles: dict[str, ListedStyle] = {}
        self.chosen: dict[str, float] = {}
        self.stop = threading.Event()
        self.uploads: set[pathlib.Path] = set()
        self.closed = False
        self._lock = threading.Lock()  # no folder is made while all of them are deleted

    def add_style(self, name: str, listed: ListedStyle, most: int) -> str:
        """Adds a style to the list.

        Args:
            name: name of the style; a number is added if the name is taken.
            listed: the style.
            most: largest number of styles in a list.

        Returns:
            The name in the list.

        Raises:
            UserError: the list is full.
        """
        self.check_room(most)
        chosen, number = name, 1
        while chosen in self.styles:
            number += 1
            chosen = f'{name} {number}'
        self.styles[chosen] = listed
        return chosen

    def check_room(self, most: int) -> None:
        """Raises UserError if the list of styles is full.

        Args:
            most: the most styles that a list may hold.
        """
        if len(self.styles) >= most:
            raise UserError(f'The list has {most} styles, which is the limit: remove one first')

    def choose(self, weights: dict[str, float]) -> None:
        """Chooses the styles that are used from now on.

        Args:
            weights: name -> weight, at least 0. They are scaled so that their sum is 1.

        Raises:
            UserError: no style has a weight above 0, or a name is unknown.
        """
        for name in weights:
            if name not in self.styles:
                raise UserError(f'There is no style {name!r} in the list: choose another one')
        positive = {name: weight for name, weight in weights.items() if weight > 0}
        if not positive:
            raise UserError(
                'No style has a weight above 0: raise a weight, or choose a style in the list'
            )
        total = sum(positive.values())
        self.chosen = {name: weight / total for name, weight in positive.items()}

    def chosen_styles(self) -> tuple[list[style_files.Style], list[float]]:
        """Returns the styles that are used now, and their weights.

        Raises:
            UserError: no style is chosen.
        """
        if not self.chosen:
            raise UserError('There is no style yet: add a painting, and press Paint')
        chosen = self.chosen
        return [self.styles[name].style for name in chosen], [*chosen.values()]

    def new_folder(self, name: str) -> pathlib.Path:
        """Makes an empty folder for results; an existing folder of this name is deleted first.

        Raises:
            UserError: the session has ended. The folder would otherwise stay on the disk.
        """
        folder = self.folder / name
        with self._lock:
            if self.closed:
                raise UserError('This page was closed: open it again')
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        return folder

    def new_folder_beside(self, name: str, earlier: pathlib.Path | None) -> pathlib.Path:
        """Makes an empty folder for a file that replaces another one, which may be in use.

        The replaced file stays, and the one that it had replaced is deleted.

        Args:
            name: the folder has this name and a number, 1 or 2.
            earlier: the file that is replaced, in a folder from this function; or None.
        """
        first = f'{name}-1'
        is_used = earlier is not None and earlier.parent.name == first
        return self.new_folder(f'{name}-2' if is_used else first)

    def close(self) -> None:
        """Ends the current work, and deletes all files of the visitor."""
        self.stop.set()
        with self._lock:
            self.closed = True
            shutil.rmtree(self.folder, ignore_errors=True)
        for path in [*self.uploads]:
            with contextlib.suppress(OSError):
                path.unlink()
        self.styles.clear()
        self.chosen.clear()


class Sessions:
    """The sessions of all visitors. Several threads may call its methods.

    Args:
        most: largest number of sessions at the same time.
        linger: seconds after a page is closed until its session ends.
        begun: called with each new session.
        ended: called after a session has ended; the argument is whether it was the last one.
    """

    def __init__(
        self,
        most: int,
        linger: float,
        begun: Callable[[Session], None] = lambda session: None,
        ended: Callable[[bool], None] = lambda is_last: None,
    ) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix='metastyle-ui-'))
        self._most, self._linger = most, linger
        self._begun, self._ended = begun, ended
        self._open: dict[str, Session] = {}
        self._timers: dict[str, threading.Timer] = {}
        self._lock = threading.RLock()

    def get(self, key: str) -> Session:
        """Returns the session of a page; a new page gets a new session.

        Args:
            key: identifier of the page in the server.

        Raises:
            UserError: too many pages are open.
        """
        with self._lock:
            if timer := self._timers.pop(key, None):
                timer.cancel()
            if key not in self._open:
                if len(self._open) >= self._most:
                    raise UserError(
                        f'{self._most} pages are open, which is the limit: try again later'
                    )
                session = Session(pathlib.Path(tempfile.mkdtemp(dir=self.folder)))
                self._begun(session)
                self._open[key] = session
            return self._open[key]

    def stop(self, key: str) -> None:
        """Stops the current work of a session.

        Args:
            key: see `get`. A page that never sent a request has no session.
        """
        with self._lock:
            if session := self._open.get(key):
                session.stop.set()

    def leave(self, key: str) -> None:
        """Ends a session after `linger` seconds, unless its page sends another request.

        Args:
            key: see `get`. A page that never sent a request has no session.
        """
        with self._lock:
            if key not in self._open:
                return
            self._open[key].stop.set()
            timer = threading.Timer(self._linger, lambda: self._expire(key, timer))
            timer.daemon = True
            if earlier := self._timers.pop(key, None):
                earlier.cancel()
            self._timers[key] = timer
            timer.start()

    def close(self) -> None:
        """Ends all sessions, and deletes their folder."""
        with self._lock:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()
            for key in [*self._open]:
                self._end(key)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _expire(self, key: str, timer: threading.Timer) -> None:
        """Ends a session, unless its page sent a request just before the timer ended."""
        with self._lock:
            if self._timers.get(key) is timer:
                self._end(key)

    def _end(self, key: str) -> None:
        with self._lock:
            self._timers.pop(key, None)
            if session := self._open.pop(key, None):
                session.close()
                self._ended(not self._open)

    def __len__(self) -> int:
        return len(self._open)
