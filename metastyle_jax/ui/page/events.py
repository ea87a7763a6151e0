"""Event handlers of the page: they call `studio` and `jobs`, and show the results."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd

from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import pixel_values
from metastyle_jax.ui import jobs
from metastyle_jax.ui.config import MOST_BLENDED, PaintOptions, RenderOptions
from metastyle_jax.ui.page.answers import LIGHT, Answers, Updates, progress_of
from metastyle_jax.ui.page.layout import Page
from metastyle_jax.ui.sessions import Session, Sessions
from metastyle_jax.ui.studio import Studio

_RENDERING = ('strength', 'keep_colours', 'size')
_PAINTING = ('steps', 'style_size', 'whole')
_WEIGHTS = tuple(f'weight_{i}' for i in range(MOST_BLENDED))
_SHOWN = ('status', 'result', 'picture', 'style_file', 'onnx_file', 'curve', 'styles', 'blend')


class Events:
    """The event handlers. Each takes the session and values of components, and yields updates.

    Args:
        page: the components.
        studio: the actions of visitors.
        answers: connects the events.
    """

    def __init__(self, page: Page, studio: Studio, answers: Answers) -> None:
        self._page, self._studio, self._answers = page, studio, answers

    def connect(self, blocks: gr.Blocks, sessions: Sessions) -> None:
        """Connects all components; call it in the open `gr.Blocks`."""
        page, on = self._page, self._answers.connect
        for role in ('painting', 'photo'):
            outputs = ('status', role, *(('editor',) if role == 'photo' else ()))
            take = functools.partial(self._take, role)
            forget = functools.partial(self._forget, role)
            on(page[role].upload, take, (role,), outputs, concurrency_id=LIGHT)
            on(page[role].clear, forget, (), outputs, concurrency_id=LIGHT)
        keep = ('keep',) if 'keep' in page else ()
        inputs = (*_PAINTING, *_RENDERING, *keep)
        on(page['paint'].click, self._paint, inputs, _SHOWN, begins=True)
        for listener in (page['strength'].release, page['keep_colours'].input, page['size'].input):
            on(listener, self._render_again, _RENDERING, _SHOWN, trigger_mode='always_last')
        self._connect_styles(blocks)
        on(page['use_mask'].click, self._use_mask, ('editor', 'elsewhere', *_RENDERING), _SHOWN)
        on(page['no_mask'].click, self._no_mask, _RENDERING, _SHOWN)
        on(page['onnx'].click, self._make_onnx, _RENDERING, ('status', 'onnx_file'))
        for name, work in (('pictures', jobs.stylize_pictures), ('film', jobs.stylize_film)):
            job = functools.partial(self._job, name, work)
            inputs = (name, *_RENDERING)
            on(page[f'paint_{name}'].click, job, inputs, ('job_status', 'job_file'), begins=True)

        def stop(request: gr.Request) -> None:
            sessions.stop(str(request.session_hash))

        def leave(request: gr.Request) -> None:
            sessions.leave(str(request.session_hash))

        for name in ('stop', 'stop_job'):
            page[name].click(stop, queue=False, api_visibility='private')
        blocks.unload(leave)

    def _connect_styles(self, blocks: gr.Blocks) -> None:
        page, on = self._page, self._answers.connect
        on(blocks.load, self._welcome, (), _SHOWN, concurrency_id=LIGHT)
        on(page['remove'].click, self._remove, (), _SHOWN, concurrency_id=LIGHT)
        on(page['add_style'].upload, self._add_style, ('add_style',), _SHOWN)
        shown = ('status', *_WEIGHTS)
        on(page['blend'].change, self._show_weights, ('blend',), shown, concurrency_id=LIGHT)
        on(page['mix'].click, self._mix, ('blend', *_WEIGHTS, *_RENDERING), _SHOWN)
        on(page['styles'].select, self._choose, _RENDERING, _SHOWN, selecting=True)
        if 'keep' in page:
            on(page['keep'].input, self._keep, ('keep',), ('status',), concurrency_id=LIGHT)

    # Uploads. -------------------------------------------------------------------------------------

    def _take(self, role: str, session: Session, upload: str | None) -> Iterator[Updates]:
        if upload is None:
            return
        try:
            preview, notes = self._studio.take_picture(session, role, upload)
        except UserError as error:  # the page shows the earlier picture again
            earlier = self._studio.preview(session, role)
            yield {'status': self._answers.told(error), role: earlier}
            return
        for note in notes:
            gr.Info(self._answers.shortened(note))
        status = ' '.join(map(self._answers.shortened, notes)) or self._ready(session)
        yield {'status': status, role: preview, 'editor': _canvas(preview)}

    def _forget(self, role: str, session: Session) -> Iterator[Updates]:
        self._studio.forget_picture(session, role)
        yield {'status': self._ready(session), 'editor': None}

    def _ready(self, session: Session) -> str:
        missing = [
            f'a {word}'
            for word, path in (('painting', session.painting), ('photograph', session.photo))
            if path is None
        ]
        return f'Now add {" and ".join(missing)}.' if missing else 'Ready: press **Paint**.'

    # Painting. ------------------------------------------------------------------------------------

    def _paint(
        self, session: Session, steps: float, style_size: float, whole: bool, *values: Any
    ) -> Iterator[Updates]:
        *rendering, keep = values if len(values) > len(_RENDERING) else (*values, False)
        options = PaintOptions(steps=int(steps), style_size=int(style_size), whole=bool(whole))
        yield {'status': 'Reading the painting …', 'curve': _curve([], options.steps)}
        for live in self._studio.paint(session, options, _rendering(*rendering)):
            pair = tuple(map(pixel_values.to_bytes, (live.before, live.after)))
            loss = f', loss {live.losses[-1]:.3g}' if live.losses else ': the predicted style'
            status = f'Step {live.step} of {live.steps}{loss}'
            yield {'result': pair, 'status': status, 'curve': _curve(live.losses, live.steps)}
        yield {'status': 'Painting the photograph in full size …', **_listed(session)}
        yield from self._show(session, _rendering(*rendering))
        if keep:
            yield from self._keep(session, True)

    def _render_again(self, session: Session, *values: Any) -> Iterator[Updates]:
        if session.chosen and session.photo is not None:
            yield from self._show(session, _rendering(*values))

    def _show(self, session: Session, rendering: RenderOptions) -> Iterator[Updates]:
        """Renders the photograph in its full size, and shows the list and what to download."""
        result = self._studio.render(session, rendering)
        single = len(session.chosen) == 1
        styles = ' + '.join(
            f'{100 * weight:.0f} % {name}' if not single else name
            for name, weight in session.chosen.items()
        )
        masked = '' if session.mask is None else ', within the mask'
        width, height = result.size
        file = self._studio.style_file(session) if single else None
        yield {
            'status': f'Done: {width} × {height} pixels, style: {styles}{masked}.',
            'result': (result.before, result.after),
            'picture': gr.DownloadButton(value=str(result.file), interactive=True),
            'style_file': gr.DownloadButton(value=file and str(file), interactive=single),
            'onnx_file': gr.DownloadButton(visible=False),
            **_listed(session),
        }

    # Styles. --------------------------------------------------------------------------------------

    def _welcome(self, session: Session) -> Iterator[Updates]:
        yield {'status': self._ready(session), **_listed(session)}

    def _choose(self, session: Session, selected: Any, *values: Any) -> Iterator[Updates]:
        name = selected['caption'] if isinstance(selected, dict) else str(selected)
        session.choose({name: 1.0})
        if session.photo is None:
            yield {'status': f'Style: {name}. Now add a photograph.'}
        else:
            yield from self._show(session, _rendering(*values))

    def _remove(self, session: Session) -> Iterator[Updates]:
        if len(session.chosen) != 1:
            raise UserError('No single style is chosen: choose one in the list first')
        name = next(iter(session.chosen))
        self._studio.remove_style(session, name)
        yield {'status': f'{name} is no longer in the list.', **_listed(session)}

    def _add_style(self, session: Session, upload: str | None) -> Iterator[Updates]:
        if upload is not None:
            names = self._studio.add_style_file(session, upload)
            yield {'status': f'Added to the list: {", ".join(names)}.', **_listed(session)}

    def _keep(self, session: Session, wanted: bool) -> Iterator[Updates]:
        if wanted and len(session.chosen) == 1:
            yield {'status': f'Done. The style is kept in {self._studio.keep_style(session)}.'}
        elif wanted:
            yield {'status': 'The styles that you paint from now on are kept.'}
        else:
            yield {'status': 'No further style is kept.'}

    def _show_weights(self, session: Session, names: Sequence[str]) -> Iterator[Updates]:
        shown = [*(names or ()), *[None] * MOST_BLENDED]
        yield {
            slider: gr.Slider(label=f'Weight of {name}', visible=name is not None)
            for slider, name in zip(_WEIGHTS, shown, strict=False)
        }

    def _mix(self, session: Session, names: Sequence[str], *values: Any) -> Iterator[Updates]:
        if len(names or ()) < 2:
            raise UserError('A blend needs at least two styles: choose more')
        weights = values[:MOST_BLENDED]
        session.choose(dict(zip(names, map(float, weights), strict=False)))
        yield {'status': 'Painting the blend …'}
        yield from self._show(session, _rendering(*values[MOST_BLENDED:]))

    def _use_mask(
        self, session: Session, drawing: Any, elsewhere: str, *values: Any
    ) -> Iterator[Updates]:
        self._studio.set_mask(session, drawing, elsewhere)
        yield {'status': 'Painting with the mask …'}
        yield from self._show(session, _rendering(*values))

    def _no_mask(self, session: Session, *values: Any) -> Iterator[Updates]:
        session.mask = None
        yield from self._show(session, _rendering(*values))

    def _make_onnx(self, session: Session, *values: Any) -> Iterator[Updates]:
        yield {'status': 'Making the ONNX file …'}
        path = self._studio.onnx_file(session, _rendering(*values))
        button = gr.DownloadButton(value=str(path), visible=True)
        yield {'status': f'{path.name} is ready to download.', 'onnx_file': button}

    # Jobs. ----------------------------------------------------------------------------------------

    def _job(
        self, name: str, work: Callable[..., jobs.JobResult], session: Session, given: Any,
        *values: Any,
    ) -> Iterator[Updates]:  # fmt: skip
        unit = 'pictures' if name == 'pictures' else 'frames'
        if not given:
            raise UserError(
                f'No {"picture" if name == "pictures" else "film"} is chosen: add one first'
            )
        yield {'job_status': 'Starting …', 'job_file': gr.File(value=None, visible=False)}
        start = functools.partial(work, self._studio, session, given, _rendering(*values))
        for found in progress_of(start):
            if isinstance(found, jobs.JobResult):
                lines = [f'{"Stopped" if found.stopped else "Done"}: {found.done} {unit}.']
                lines += map(self._answers.shortened, found.left_out.values())
                file = gr.File(value=str(found.file), visible=True)
                yield {'job_status': '\n\n'.join(lines), 'job_file': file}
            else:
                yield {'job_status': f'{found[0]} of {found[1] or "?"} {unit}'}


def _rendering(strength: float, keep_colours: bool, size: int | None) -> RenderOptions:
    """Returns the values of the components as options."""
    return RenderOptions(
        strength=float(strength), keep_colours=bool(keep_colours), max_size=size or None
    )


def _curve(losses: list[float], steps: int) -> gr.LinePlot:
    """Plots the loss before each step; the axis covers all steps."""
    frame = pd.DataFrame({'step': range(1, len(losses) + 1), 'loss': losses})
    return gr.LinePlot(frame, x_lim=[1, max(steps, 2)])


def _listed(session: Session) -> Updates:
    """Returns the list of styles for the gallery and for the menu of the blend."""
    gallery = [(listed.thumbnail, name) for name, listed in session.styles.items()]
    return {'styles': gallery, 'blend': gr.Dropdown(choices=[*session.styles])}


def _canvas(preview: np.ndarray) -> dict[str, Any]:
    """Returns an empty drawing on the photograph, for the mask editor."""
    return {'background': preview, 'layers': [], 'composite': None}
