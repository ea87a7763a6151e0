"""What an evaluation has found so far, in a folder, from which it goes on after a stop."""

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

MOST_ROWS = 16  # styles that a contact sheet shows
MOST_COLUMNS = 3  # contents that it shows
CELL = 128  # pixels
_RESULTS = 'results.json'
_CELLS = 'cells.safetensors'
_UNUSABLE = (
    *(OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError),
    safetensors.SafetensorError,
)


class Record:
    """Results of an evaluation, in memory and in a folder.

    `results.json`, `results.md` and `curves.png`, for each initialization `sheet_NAME.png`, and
    `cells.safetensors`, which holds the pictures of the sheets.

    Attributes:
        results: what `results.json` holds: the facts, and in `styles` an entry for each style.
    """

    def __init__(self, folder: pathlib.Path, facts: Mapping[str, Any]) -> None:
        """Begins anew, or goes on where the folder holds results with the same facts.

        Args:
            folder: it must exist.
            facts: what makes this evaluation another than others; JSON types.

        Raises:
            UserError: the folder holds results of another evaluation, or damaged ones.
        """
        self._folder = folder
        self.results: dict[str, Any] = {**facts, 'styles': []}
        self._cells: dict[str, np.ndarray] = {}  # 'style/ROW', 'INITIALIZATION/ROW/STEP/COLUMN'
        if (folder / _RESULTS).exists():
            self._read(facts)

    def __contains__(self, name: str) -> bool:
        """Whether the style of this name is there."""
        return any(entry['name'] == name for entry in self.results['styles'])

    def add(
        self,
        entry: dict[str, Any],
        painting: np.ndarray,
        outputs: Mapping[str, Mapping[int, np.ndarray]],
        contents: np.ndarray,
    ) -> None:
        """Adds one style and writes all files, each at once.

        Args:
            entry: for `results['styles']`; JSON types.
            painting: `[H, W, 3]` float32 in 0..1.
            outputs: of each initialization by step, `[M, H, W, 3]` float32 in 0..1.
            contents: that they were made of, `[M, H, W, 3] uint8`.

        Raises:
            UserError: a file cannot be written.
        """
        row = len(self.results['styles'])
        if row < MOST_ROWS:  # what the sheets show; all of them would fill the memory
            self._cells[f'style/{row}'] = _cell(painting)
            for name, by_step in outputs.items():
                for step, made in by_step.items():
                    for column, picture in enumerate(made[:MOST_COLUMNS]):
                        self._cells[f'{name}/{row}/{step}/{column}'] = _cell(picture)
        self.results['styles'].append(entry)
        for name, by_step in outputs.items():
            pixels = self._sheet(name, list(by_step), contents)
            image_writing.write(self._folder / f'sheet_{name}.png', pixels, overwrite=True)
        # Results are last: what they tell of is in the other files already.
        outputs_by_name = {
            _CELLS: safetensors.numpy.save(self._cells),
            'results.md': report.table(self.results).encode(),
            'curves.png': report.plot(self.results),
            _RESULTS: json.dumps(self.results, indent=1).encode(),
        }
        for name, content in outputs_by_name.items():
            files.write_whole(self._folder / name, content, UserError)

    def _read(self, facts: Mapping[str, Any]) -> None:
        """Takes over what the folder holds."""
        path = self._folder / _RESULTS
        remedy = 'choose another --workdir, or remove it'
        try:
            found = json.loads(path.read_text('utf-8'))
            cells = safetensors.numpy.load((self._folder / _CELLS).read_bytes())
            styles = list(found['styles'])
            report.table({**found, 'styles': styles})
            _ = [style['name'] for style in styles]
            _ = [cells[f'style/{row}'] for row in range(min(len(styles), MOST_ROWS))]
        except _UNUSABLE as error:
            raise UserError(f'{path} holds no results to go on from ({error}): {remedy}') from error
        del found['styles']
        now, then = (_flat(json.loads(json.dumps(part))) for part in (facts, found))
        for name in sorted(now.keys() | then.keys()):
            if then.get(name) != now.get(name):
                raise UserError(
                    f'{path} is of another evaluation: its {name} is {then.get(name)}, and now '
                    f'{now.get(name)}: {remedy}'
                )
        self.results['styles'], self._cells = styles, cells

    def _sheet(self, name: str, steps: list[int], contents: np.ndarray) -> np.ndarray:
        """Styles down, and for each content across what one initialization makes of it, by step."""
        blank = np.ones((1, 1, 3), np.uint8) * 255
        shown = [_cell(content) for content in contents[:MOST_COLUMNS]]
        pictures, captions = [[blank]], [['']]
        for content in shown:
            pictures[0] += [content, *[blank] * (len(steps) - 1)]
            captions[0] += ['content', *[''] * (len(steps) - 1)]
        for row in range(min(len(self.results['styles']), MOST_ROWS)):
            made = (f'{name}/{row}/{s}/{column}' for column in range(len(shown)) for s in steps)
            pictures.append([self._cells[key] for key in (f'style/{row}', *made)])
            captions.append(['style', *(f'{step} steps' for _ in shown for step in steps)])
        floats = [[picture / np.float32(255) for picture in row] for row in pictures]
        return contact_sheet.contact_sheet(floats, captions=captions, cell=CELL)


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts by name, those within others by a name with a dot."""
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            flat |= {f'{name}.{key}': part for key, part in value.items()}
        else:
            flat[name] = value
    return flat


def _cell(picture: np.ndarray) -> np.ndarray:
    """A picture, floats or bytes, at the size of its cell, as bytes."""
    height, width = picture.shape[:2]
    scale = CELL / max(height, width)
    small = resizing.resize(picture, *(max(1, round(side * scale)) for side in (height, width)))
    return small if small.dtype == np.uint8 else np.round(small * 255).astype(np.uint8)
