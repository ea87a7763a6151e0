"""Wraps event handlers for Gradio; an error becomes a sentence on the page."""

import concurrent.futures
import functools
import pathlib
import queue
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gradio as gr
from absl import logging

from metastyle_jax.core import errors
from metastyle_jax.core.errors import UserError
from metastyle_jax.ui import limits
from metastyle_jax.ui.jobs import JobResult, Report
from metastyle_jax.ui.page.layout import Page
from metastyle_jax.ui.sessions import Session, Sessions

Updates = dict[str, Any]  # name of a component -> its new value
COMPUTE, LIGHT = 'compute', 'light'
_UPLOADS_AT_ONCE = 4
_FULL = 'The picture is too large for the memory: choose a smaller size of the result'
_BROKEN = 'This failed because of an error in the program: see its log on the server'


class Answers:
    """Connects events of the page with their handlers.

    Args:
        page: the components.
        sessions: the sessions of the visitors.
        roots: folders of the server; messages do not show them.
    """

    def __init__(self, page: Page, sessions: Sessions, roots: tuple[pathlib.Path, ...]) -> None:
        self._page, self._sessions, self._roots = page, sessions, roots
        self._computing: Session | None = None  # the session whose `COMPUTE` event runs

    def connect(
        self,
        listener: Callable[..., Any],
        work: Callable[..., Iterable[Updates]],
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        *,
        concurrency_id: str = COMPUTE,
        selecting: bool = False,
        begins: bool = False,
        **options: Any,
    ) -> None:
        """Connects one event.

        Args:
            listener: the event of a component, such as `page['paint'].click`.
            work: the handler. It is called with the session and the values of the inputs, and
                yields new values of the outputs.
            inputs: names of components.
            outputs: names of components; the first one shows error messages.
            concurrency_id: `COMPUTE` or `LIGHT`. The server runs one `COMPUTE` event at a time;
                `LIGHT` is for events without computation.
            selecting: whether `work` also takes the selected item, after the session.
            begins: whether the work is long. Then the status line says at once that the work
                starts, or that it waits.
            **options: further arguments of the listener.
        """
        if begins:
            begin = functools.partial(self._begin, outputs[0])
            self.connect(listener, begin, (), outputs[:1], concurrency_id=LIGHT)
        answer = self._answering(work, outputs, is_compute=concurrency_id == COMPUTE)

        def answer_plain(request: gr.Request, *values: Any) -> Iterator[Any]:
            yield from answer(request, *values)

        def answer_selection(
            request: gr.Request, selection: gr.SelectData, *values: Any
        ) -> Iterator[Any]:
            yield from answer(request, selection.value, *values)

        listener(
            answer_selection if selecting else answer_plain,
            self._page.pick(*inputs),
            self._page.pick(*outputs),
            concurrency_id=concurrency_id,
            concurrency_limit=1 if concurrency_id == COMPUTE else _UPLOADS_AT_ONCE,
            show_progress='hidden',
            api_visibility='private',
            **options,
        )

    def _answering(
        self, work: Callable[..., Iterable[Updates]], outputs: tuple[str, ...], is_compute: bool
    ) -> Callable[..., Iterator[Any]]:
        """Returns a function for Gradio, which finds the session and shows errors."""

        def answer(request: gr.Request, *values: Any) -> Iterator[Any]:
            session = None
            try:
                session = self._sessions.get(str(request.session_hash))
                if is_compute:
                    self._computing = session
                for updates in work(session, *values):
                    yield _in_order([updates.get(name, gr.skip()) for name in outputs])
            except Exception as error:  # no error may stop the queue
                text = self._told(error, session)
                yield _in_order([text, *(gr.skip() for _ in outputs[1:])])
            finally:
                if is_compute and session is not None:
                    session.stop.clear()  # the wish to stop concerned this work alone
                # A page that was closed may leave its work unfinished, and this line is then
                # reached only while the work of another visitor runs.
                if self._computing is session:
                    self._computing = None

        return answer

    def _begin(self, status: str, session: Session) -> Iterator[Updates]:
        """Shows that work starts or waits, and clears an earlier request to stop.

        While an event of the same session runs, this function does nothing, because Gradio ignores
        the second click.
        """
        if self._computing is None:
            session.stop.clear()
            yield {status: 'Starting …'}
        elif self._computing is not session:
            session.stop.clear()
            yield {status: 'Waiting: the server paints the picture of another visitor …'}

    def _told(self, error: Exception, session: Session | None) -> str:
        """Shows an error as a warning, and returns its sentence."""
        if session is not None and session.closed:
            return ''  # the visitor has left, and the files are deleted
        if isinstance(error, MemoryError) or errors.is_out_of_memory(error):
            error = UserError(_FULL)
        elif not isinstance(error, UserError):
            logging.exception('an event of the page failed')
            error = UserError(_BROKEN)
        text = limits.sentence(error, *self._roots)
        gr.Warning(text)
        return text

    def told(self, error: Exception) -> str:
        """Shows an error that the visitor can fix, and returns its sentence."""
        return self._told(error, None)

    def shortened(self, text: str) -> str:
        """Returns a sentence without paths of the server."""
        return limits.sentence(UserError(text), *self._roots)


def _in_order(values: list[Any]) -> Any:
    """Returns the values of the outputs in the form for Gradio: one value without a list."""
    return values[0] if len(values) == 1 else values


def progress_of(work: Callable[[Report], JobResult]) -> Iterator[tuple[int, int] | JobResult]:
    """Runs a job in a thread.

    Args:
        work: the job; it is called with a function to which it reports its progress.

    Yields:
        The number of finished pictures or frames and their total number; at the end, the result.
    """
    reports: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(work, lambda done, total: reports.put((done, total)))
        future.add_done_callback(lambda _: reports.put((-1, -1)))
        while (report := reports.get())[0] >= 0:
            yield report
        yield future.result()
