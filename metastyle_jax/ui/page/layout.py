"""The components of the page and their layout. Their event handlers are in `events`."""

import dataclasses
from typing import Any

import gradio as gr

from metastyle_jax.ui.config import MOST_BLENDED, PaintOptions, RenderOptions, UiConfig

SIZES = [('as the photograph', 0), *((f'{side} pixels', side) for side in (512, 1024, 2048, 4096))]
INTRODUCTION = """# Paint a photograph in the style of a painting
Add a painting and a photograph, and press **Paint**. The first result uses a predicted style; each
step improves it."""
# Only fonts of the system: the page asks no other server for anything.
_FONTS = {'font': ['system-ui', 'sans-serif'], 'font_mono': ['ui-monospace', 'monospace']}
STYLE_SHEET = """
.gradio-container { max-width: min(1200px, 100vw) !important; margin: 0 auto; }
#status { min-height: 1.6em; font-size: 1.05em; }
#styles .caption-label, #styles .grid-wrap button span { max-width: 100%; }
footer { display: none !important; }
"""
# Screen readers read the status line aloud, and know the language of the page. On phones, the
# options are folded.
SCRIPT = """() => {
  document.documentElement.lang = 'en';
  for (const id of ['status', 'job-status']) {
    document.getElementById(id)?.setAttribute('role', 'status');
  }
  if (innerWidth < 700) document.querySelector('#options button')?.click();
}"""


class Page(dict[str, Any]):
    """Name -> component, for all components that event handlers read or change."""

    def add(self, name: str, part: Any) -> None:
        """Adds a component."""
        self[name] = part

    def pick(self, *names: str) -> list[Any]:
        """Returns several components."""
        return [self[name] for name in names]


def theme() -> gr.themes.Base:
    """Returns the colours and fonts of the page."""
    return gr.themes.Soft(primary_hue='indigo', **_FONTS)


def build(config: UiConfig) -> Page:
    """Adds all components to the open `gr.Blocks`."""
    page = Page()
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            _pictures(page)
            with gr.Row():
                page.add(
                    'paint', gr.Button('Paint', variant='primary', elem_id='paint', min_width=120)
                )
                page.add('stop', gr.Button('Stop', elem_id='stop', min_width=120))
            page.add('status', gr.Markdown('', elem_id='status'))
            with gr.Accordion('Options', elem_id='options'):
                _options(page)
        with gr.Column(scale=3, min_width=300):
            _result(page, config)
    with gr.Tabs():
        with gr.Tab('My styles'):
            _styles(page, config)
        with gr.Tab('Blend'):
            _blend(page)
        with gr.Tab('Mask'):
            _mask(page)
        with gr.Tab('Many files'):
            _jobs(page, config)
    return page


def _pictures(page: Page) -> None:
    with gr.Row():
        for role, label in (('painting', '1. The painting'), ('photo', '2. The photograph')):
            part = gr.Image(
                label=label, sources=['upload', 'webcam', 'clipboard'], height=240, min_width=140,
                type='filepath', elem_id=role, buttons=[],
            )  # fmt: skip
            # `limits` checks the file itself: Gradio would decode it, and its messages for files
            # that it cannot decode say little. A subclass would do the same, but Gradio writes a
            # .pyi file beside the module of each subclass.
            part.preprocess = lambda payload: payload and payload.path
            page.add(role, part)


def _options(page: Page) -> None:
    paint, rendering = PaintOptions(), RenderOptions()
    page.add('strength', _slider(RenderOptions, 'strength', 'Strength', rendering.strength, 0.05))
    page.add(
        'keep_colours',
        gr.Checkbox(rendering.keep_colours, label=_help(RenderOptions, 'keep_colours')),
    )
    page.add('steps', _slider(PaintOptions, 'steps', 'Steps', paint.steps, 1))
    page.add('style_size', _slider(PaintOptions, 'style_size', 'Strokes', paint.style_size, 32))
    page.add('whole', gr.Checkbox(paint.whole, label=_help(PaintOptions, 'whole')))
    page.add('size', gr.Dropdown(SIZES, value=0, label=_help(RenderOptions, 'max_size')))


def _result(page: Page, config: UiConfig) -> None:
    page.add(
        'result',
        gr.ImageSlider(
            label='3. The result', interactive=False, max_height=560,
            elem_id='result', buttons=['fullscreen'],
        ),
    )  # fmt: skip
    with gr.Row():
        for name, label in (('picture', 'Picture'), ('style_file', 'Style file')):
            part = gr.DownloadButton(
                f'Download: {label.lower()}', interactive=False, size='sm', min_width=120,
                elem_id=name,
            )  # fmt: skip
            page.add(name, part)
        page.add('onnx', gr.Button('Make an ONNX file', size='sm', min_width=120, elem_id='onnx'))
        page.add(
            'onnx_file',
            gr.DownloadButton(
                'Download: ONNX', visible=False, size='sm', min_width=120, elem_id='onnx_file'
            ),
        )
    if config.keep:
        page.add('keep', gr.Checkbox(False, label='Keep the styles that I paint on this computer'))
    page.add(
        'curve',
        gr.LinePlot(
            x='step', y='loss', title='Loss: lower is closer to the painting', show_label=False,
            height=240, elem_id='curve', buttons=[], x_axis_format='d',
        ),
    )  # fmt: skip


def _styles(page: Page, config: UiConfig) -> None:
    gr.Markdown('Choose a style to use it for the photograph.')
    page.add(
        'styles',
        gr.Gallery(
            label='My styles', show_label=False, columns=6, height=240, fit_columns=False,
            allow_preview=False, interactive=False, elem_id='styles',
            buttons=[], object_fit='cover',
        ),
    )  # fmt: skip
    with gr.Row():
        page.add('remove', gr.Button('Remove the chosen style from the list', size='sm'))
        page.add(
            'add_style',
            gr.UploadButton(
                'Add a style file or library', file_types=['.safetensors'], size='sm',
                type='filepath', elem_id='add_style',
            ),
        )  # fmt: skip


def _blend(page: Page) -> None:
    gr.Markdown(f'Mix two to {MOST_BLENDED} styles of the list.')
    page.add(
        'blend',
        gr.Dropdown(
            [], multiselect=True, max_choices=MOST_BLENDED, label='Styles', elem_id='blend'
        ),
    )
    with gr.Row():
        for i in range(MOST_BLENDED):
            slider = gr.Slider(
                0, 100, 50, step=5, label=f'Weight {i + 1}', visible=False, min_width=200
            )
            page.add(f'weight_{i}', slider)
    page.add('mix', gr.Button('Paint the blend', variant='primary'))


def _mask(page: Page) -> None:
    gr.Markdown('Brush over the parts of the photograph that should get the style.')
    page.add(
        'editor',
        gr.ImageEditor(
            label='Mask', sources=(), transforms=(), layers=False, type='numpy', elem_id='editor',
            brush=gr.Brush(default_size=60, colors=['#e0457b'], color_mode='fixed'),
            height=520, buttons=[],
        ),
    )  # fmt: skip
    page.add(
        'elsewhere',
        gr.Radio(
            [('the photograph', 'photograph'), ('the second style of the blend', 'second')],
            value='photograph', label='The rest shows',
        ),
    )  # fmt: skip
    with gr.Row():
        page.add('use_mask', gr.Button('Paint with the mask', variant='primary'))
        page.add('no_mask', gr.Button('Paint without a mask'))


def _jobs(page: Page, config: UiConfig) -> None:
    gr.Markdown(
        f'Apply the chosen style to up to {config.max_files} pictures, or to one film, with the '
        'strength, colours and size of the options.'
    )
    with gr.Row():
        with gr.Column(min_width=280):
            page.add('pictures', gr.File(label='Pictures', file_count='multiple', height=160))
            page.add('paint_pictures', gr.Button('Paint all pictures', variant='primary'))
        with gr.Column(min_width=280):
            page.add('film', gr.File(label='Film', height=160))
            page.add('paint_film', gr.Button('Paint the film', variant='primary'))
    page.add('job_status', gr.Markdown('', elem_id='job-status'))
    page.add('stop_job', gr.Button('Stop', size='sm'))
    page.add(
        'job_file',
        gr.File(label='Result to download', interactive=False, visible=False, elem_id='job-file'),
    )


def _slider(settings: type, name: str, label: str, value: float, step: float) -> gr.Slider:
    """Makes a slider for a setting, with the range and the help text of its field."""
    field = _field(settings, name)
    least, most = field.metadata['least'] or 0, field.metadata['most']
    help_text = field.metadata['help']
    return gr.Slider(least, most, value, step=step, label=label, info=help_text, elem_id=name)


def _help(settings: type, name: str) -> str:
    return _field(settings, name).metadata['help'].rstrip('.')


def _field(settings: type, name: str) -> dataclasses.Field:
    return {field.name: field for field in dataclasses.fields(settings)}[name]
