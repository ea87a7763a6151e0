"""The command `metastyle flicker`: prints how much a stylized video flickers."""

from absl import flags

from metastyle_jax.core import command_line

USAGE = """Measures how much a stylized video flickers, and how much its original does.

  metastyle flicker --input=film.mp4 --output=stylized.mp4
"""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command."""
    add = command_line.Flags(values)
    add.path('input', None, 'Original video.')
    add.path('output', None, 'Stylized video.')
    add.number('frames', 100, 'Largest number of frames to read.')


def main(values: flags.FlagValues) -> int:
    """Prints the result of `flicker.measure_videos`."""
    command_line.require(values, 'input', 'output')
    # JAX is loaded here, so that `--help` and a mistake in the flags are answered at once.
    from metastyle_jax.evaluation.films import flicker

    result = flicker.measure_videos(values.input, values.output, frames=values.frames)
    print(
        f'flicker {result.output:.4f}, {result.ratio:.2f} times the {result.input:.4f} of the '
        f'input; sharpness {result.sharpness:.4f}; {100 * result.compared:.1f} % of the pixels of '
        f'{result.frames} frames'
    )
    return 0


def run_flicker() -> int:
    """Runs the command `metastyle flicker`; returns the exit code."""
    return command_line.run_command(
        main,
        define_flags,
        command='metastyle_jax.flicker',
        usage=USAGE,
        positional='input',
        output='output',
    )
