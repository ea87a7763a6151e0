"""The folder of an evaluation, which holds the results so far; an evaluation can be resumed."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from metastyle_jax.core import files
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import contact_sheet, image_writing, resizing
from metastyle_jax.evaluation import report

MOST_ROWS = 16  # styles on a contact sheet
MOST_COLUMNS = 3  # contents on a contact sheet
CELL = 128  # longest side of a picture on a contact sheet, in pixels
_RESULTS = 'results.json'
_CELLS = 'cells.safetensors'
_UNUSABLE = (
    *(OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError),
    safetensors.SafetensorError,
)


class ResultsFolder:
    """Results of an evaluation, in memory and in files.

    The files are `results.json`, `results.md`, `curves.png`, one `sheet_NAME.png` for each
    initialization, and `cells.safetensors`, which holds the pictures of the sheets.

    Attributes:
        results: the contents of `results.json`: the facts of the evaluation, and under 'styles' one
            entry for each measured style.
    """

    def __init__(self, folder: pathlib.Path, facts: Mapping[str, Any]) -> None:
        """Reads the results in a folder, or starts without results.

        Args:
            folder: an existing folder.
            facts: facts that identify the evaluation, such as its settings, as JSON types.

        Raises:
            UserError: the folder holds damaged results, or results with other facts.
        """
        self._folder = folder
        self.results: dict[str, Any] = {**facts, 'styles': []}
        # By 'style/ROW' and 'INITIALIZATION/ROW/STEP/COLUMN'.
        self._cells: dict[str, np.ndarray] = {}
        if (folder / _RESULTS).exists():
            self._read(facts)

    def __contains__(self, name: str) -> bool:
        """Whether the style of this name has been measured."""
        return any(entry['name'] == name for entry in self.results['styles'])

    def add(
        self,
        entry: dict[str, Any],
        painting: np.ndarray,
        outputs: Mapping[str, Mapping[int, np.ndarray]],
        contents: np.ndarray,
    ) -> None:
        """Adds the results of one style, and writes all files.

        Args:
            entry: results of the style, as JSON types.
            painting: `[H, W, 3]` float32 in 0..1, the style image.
            outputs: initialization -> step -> stylized contents, `[M, H, W, 3]` float32 in 0..1.
            contents: `[M, H, W, 3]` uint8, the held-out contents.

        Raises:
            UserError: a file cannot be written.
        """
        row = len(self.results['styles'])
        if row < MOST_ROWS:  # the pictures of all styles would fill the memory
            self._cells[f'style/{row}'] = _cell(painting)
            for name, by_step in outputs.items():
                for step, images in by_step.items():
                    for column, image in enumerate(images[:MOST_COLUMNS]):
                        self._cells[f'{name}/{row}/{step}/{column}'] = _cell(image)
        self.results['styles'].append(entry)
        for name, by_step in outputs.items():
            pixels = self._sheet(name, list(by_step), contents)
            image_writing.write(self._folder / f'sheet_{name}.png', pixels, overwrite=True)
        # results.json comes last: after an interruption it names no style whose pictures are
        # missing from the other files.
        contents_of = {
            _CELLS: safetensors.numpy.save(self._cells),
            'results.md': report.markdown_tables(self.results).encode(),
            'curves.png': report.plot(self.results),
            _RESULTS: json.dumps(self.results, indent=1).encode(),
        }
        for name, data in contents_of.items():
            files.write_whole(self._folder / name, data, UserError)

    def _read(self, facts: Mapping[str, Any]) -> None:
        """Reads the results in the folder; raises UserError if they are damaged or facts differ."""
        path = self._folder / _RESULTS
        remedy = 'choose another folder for the results, or remove this one'
        try:
            saved = json.loads(path.read_text('utf-8'))
            cells = safetensors.numpy.load((self._folder / _CELLS).read_bytes())
            styles = list(saved['styles'])
            # Whatever a later call of `add` reads is read here once, so that damage shows now.
            report.markdown_tables({**saved, 'styles': styles})
            _ = [style['name'] for style in styles]
            _ = [cells[f'style/{row}'] for row in range(min(len(styles), MOST_ROWS))]
        except _UNUSABLE as error:
            raise UserError(
                f'{path} holds damaged results, from which no evaluation can continue '
                f'({files.first_line(error)}): {remedy}'
            ) from error
        del saved['styles']
        now, then = (_flat(json.loads(json.dumps(part))) for part in (facts, saved))
        for name in sorted(now.keys() | then.keys()):
            if then.get(name) != now.get(name):
                raise UserError(
                    f'{path} is of another evaluation: its {name} is {then.get(name)}, and now '
                    f'{now.get(name)}: {remedy}'
                )
        self.results['styles'], self._cells = styles, cells

    def _sheet(self, name: str, steps: list[int], contents: np.ndarray) -> np.ndarray:
        """Draws the contact sheet of one initialization.

        Each row shows a style image and then, for each content, the outputs at the given steps. The
        first row shows the contents.
        """
        blank = np.ones((1, 1, 3), np.uint8) * 255
        shown = [_cell(content) for content in contents[:MOST_COLUMNS]]
        pictures, captions = [[blank]], [['']]
        for content in shown:
            pictures[0] += [content, *[blank] * (len(steps) - 1)]
            captions[0] += ['content', *[''] * (len(steps) - 1)]
        for row in range(min(len(self.results['styles']), MOST_ROWS)):
            keys = [f'{name}/{row}/{s}/{column}' for column in range(len(shown)) for s in steps]
            pictures.append([self._cells[key] for key in (f'style/{row}', *keys)])
            captions.append(['style', *(f'{step} steps' for _ in shown for step in steps)])
        floats = [[picture / np.float32(255) for picture in row] for row in pictures]
        return contact_sheet.contact_sheet(floats, captions=captions, cell=CELL)


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens facts by one level: {'a': {'b': 1}} becomes {'a.b': 1}."""
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            flat |= {f'{name}.{key}': part for key, part in value.items()}
        else:
            flat[name] = value
    return flat


def _cell(picture: np.ndarray) -> np.ndarray:
    """Resizes a picture, float or uint8, to the size of a cell; returns uint8."""
    height, width = picture.shape[:2]
    scale = CELL / max(height, width)
    small = resizing.resize(picture, *(max(1, round(side * scale)) for side in (height, width)))
    return small if small.dtype == np.uint8 else np.round(small * 255).astype(np.uint8)
