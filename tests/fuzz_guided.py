"""Lets atheris look for files that lead into parts of the package that others do not reach.

    pip install atheris
    python tests/fuzz_guided.py png -max_total_time=60    # or jpeg, webp, gif, tiff, style, theta

Options are libFuzzer's. Anything but a result or a `UserError` is a crash, and its file is kept;
`python tests/fuzz_guided.py png crash-…` repeats it. `fuzz.py` tries more kinds of files, blindly.
"""

import os
import pathlib
import sys
import tempfile

import atheris

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
sys.path[:0] = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parent)]

import fuzz  # noqa: E402

with atheris.instrument_imports(include=['metastyle_jax']):
    for name in [name for name in sys.modules if name.startswith('metastyle_jax')]:
        del sys.modules[name]  # those that fuzz has imported are not instrumented
    from metastyle_jax.core import errors
    from metastyle_jax.data.images import image_files
    from metastyle_jax.storage import style_files, theta_files


def target(kind: str, folder: pathlib.Path):
    """What is done with the bytes of a case."""
    file = folder / 'case.safetensors'

    def run(data: bytes) -> None:
        try:
            if kind in ('style', 'theta'):
                file.write_bytes(data)
                (style_files.load_style if kind == 'style' else theta_files.load_theta)(file)
            else:
                image_files.read_uint8(data, min_side=16)
                image_files.read(data)
        except errors.UserError:
            pass

    return run


def main() -> None:
    """The command."""
    kind, *options = sys.argv[1:] or ['png']
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        corpus = folder / 'corpus'
        corpus.mkdir()
        world = fuzz.World(folder)
        files = {'style': world.style_file, 'theta': world.theta_file}
        seeds = [files[kind].read_bytes()] if kind in files else fuzz.picture_seeds(kind)
        for i, seed in enumerate(seeds):
            (corpus / str(i)).write_bytes(seed)
        limits = ['-timeout=5', '-rss_limit_mb=4096', '-max_len=65536']
        repeated = any(not option.startswith('-') for option in options)
        arguments = [sys.argv[0], *limits, *options, *([] if repeated else [str(corpus)])]
        atheris.Setup(arguments, target(kind, folder))
        atheris.Fuzz()


if __name__ == '__main__':
    main()
