"""The command `metastyle_jax.flicker`."""

import itertools
import pathlib
from collections.abc import Iterator

import numpy as np
from absl import flags

from metastyle_jax.core import command_line, progress_bar
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import resizing
from metastyle_jax.evaluation import flicker
from metastyle_jax.stylization.video import reader

USAGE = """Measures how much a stylized video flickers, beside the video it was made from.

  python -m metastyle_jax.flicker --input=film.mp4 --output=stylized.mp4
"""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    add = command_line.Flags(values)
    add.text('input', None, 'The original video.')
    add.text('output', None, 'The stylized one.')
    add.number('frames', 100, 'At most so many frames.')


def main(values: flags.FlagValues) -> int:
    """Prints what `flicker` finds."""
    command_line.require(values, 'input', 'output')
    if values.frames < 2:
        raise UserError(f'--frames={values.frames}: at least two are needed')
    with (
        reader.open_video(pathlib.Path(values.input)) as before,
        reader.open_video(pathlib.Path(values.output)) as after,
        progress_bar.show(description='measuring', unit='frame', total=None) as bar,
    ):

        def first(clip: reader.VideoReader) -> Iterator[np.ndarray]:
            for frame in itertools.islice(clip.frames(), values.frames):
                pixels = frame.pixels
                if pixels.shape[:2] != after.size:
                    pixels = resizing.fit(pixels, max(after.size))
                yield pixels.astype(np.float32) / 255
                if clip is after:
                    bar.update(1)

        found = flicker.flicker(first(before), first(after))
    print(
        f'flicker {found.output:.4f}, {found.ratio:.2f} times the {found.input:.4f} of the input; '
        f'sharpness {found.sharpness:.4f}; {100 * found.compared:.1f} % of the pixels of '
        f'{found.frames} frames'
    )
    return 0


def run() -> int:
    """Runs the command."""
    return command_line.run(
        main,
        define_flags,
        command='metastyle_jax.flicker',
        usage=USAGE,
        positional='input',
        output='output',
    )
