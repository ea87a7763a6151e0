"""Measures styles per hour: adapting to a folder of pictures in groups, or one after another.

    python -m benchmarks.many --style=folder:paintings --content=folder:photographs

A group, as in `metastyle-adapt --style=FOLDER`, and single adaptations with `--params=norm` take
turns in one process, with their default settings, after both have been compiled. Their losses are
compared on eight photographs of `--content` that were not used for adaptation.
"""

import argparse
import json
import pathlib
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import metastyle_jax
from metastyle_jax.adaptation import style_image
from metastyle_jax.adaptation.config import STYLES_AT_ONCE
from metastyle_jax.core.devices import allocator
from metastyle_jax.data import image_source, sources
from metastyle_jax.data.images import image_files, resizing
from metastyle_jax.models import gram, perceptual_loss, vgg
from metastyle_jax.storage import style_files, style_library, theta_files

SIZE = 128  # height and width of the photographs on which losses are compared


def total_loss(
    style: style_files.Style, grams: tuple[jax.Array, ...], contents: jax.Array
) -> float:
    """Returns the perceptual loss of a style on photographs."""
    params = style_files.merge_style(style, theta_files.load_theta())
    loss_network = vgg.load(None)
    targets = perceptual_loss.compute_targets(loss_network, contents, grams)
    return float(perceptual_loss.of_network(params, loss_network, contents, targets).total)


def copy(source: image_source.ImageSource, indices: list[int], folder: pathlib.Path) -> None:
    """Copies pictures of a source into a folder."""
    folder.mkdir(exist_ok=True)
    for i in indices:
        Image.fromarray(image_files.read_uint8(source[i])).save(folder / f'{i:05d}.png')


def held_out_photographs(word: str) -> jax.Array:
    """Returns eight photographs of a source, `[8, SIZE, SIZE, 3]` in 0..1."""
    source = sources.open_source(word, kind='content')
    indices = np.linspace(0, len(source) - 1, 8).astype(int)
    squares = [resizing.center_square(image_files.read(source[i]).rgb, SIZE) for i in indices]
    return jnp.asarray(np.stack(squares))


def measure(
    source: image_source.ImageSource, contents: jax.Array, *, groups: int, singles: int
) -> tuple[list[float], list[float], list[float]]:
    """Times groups and single adaptations in turn.

    Args:
        source: style images.
        contents: photographs on which losses are compared.
        groups: number of timed groups.
        singles: number of single adaptations after each group.

    Returns:
        Seconds for each style in a group; seconds for each single style; ratios of the loss after
        adaptation in a group to the loss after a single adaptation.
    """
    order = np.random.default_rng(0).permutation(len(source)).tolist()
    first, others = order[:STYLES_AT_ONCE], order[STYLES_AT_ONCE : STYLES_AT_ONCE * (1 + groups)]
    together, alone, loss_ratios = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        pictures, out = folder / 'pictures', folder / 'library.safetensors'
        copy(source, first, pictures)
        # Compiles both before the clock starts.
        metastyle_jax.adapt_many(pictures, out=out)
        metastyle_jax.adapt(pictures / f'{first[0]:05d}.png', params='norm')
        for start in range(0, len(others), STYLES_AT_ONCE):
            part = others[start : start + STYLES_AT_ONCE]
            copy(source, part, pictures)
            begin = time.perf_counter()
            done = metastyle_jax.adapt_many(pictures, out=out)
            together.append((time.perf_counter() - begin) / done.done)
            for i in part[:singles]:
                file = pictures / f'{i:05d}.png'
                begin = time.perf_counter()
                single = metastyle_jax.adapt(file, params='norm')
                alone.append(time.perf_counter() - begin)
                painting = jnp.asarray(style_image.fit(image_files.read(file).rgb, 256))
                grams = gram.of_image(vgg.load(None), painting)
                losses = [
                    total_loss(style, grams, contents)
                    for style in (style_library.pick(done.library, file.name), single)
                ]
                loss_ratios.append(losses[0] / losses[1])
    return together, alone, loss_ratios


def main() -> None:
    """Runs the command and prints the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--style', default='sample:', help='Source of the style images.')
    parser.add_argument(
        '--content', required=True, help='Source of the photographs on which losses are compared.'
    )
    parser.add_argument(
        '--groups', type=int, default=3, help='Number of timed groups of eight styles.'
    )
    parser.add_argument(
        '--singles', type=int, default=2, help='Number of single adaptations after each group.'
    )
    options = parser.parse_args()
    allocator.keep_freed_memory()
    together, alone, loss_ratios = measure(
        sources.open_source(options.style, kind='style'),
        held_out_photographs(options.content),
        groups=options.groups,
        singles=options.singles,
    )
    print(
        json.dumps({
            'seconds_a_style_together': together,
            'seconds_a_style_alone': alone,
            'styles_an_hour': [3600 / float(np.median(x)) for x in (together, alone)],
            'ratio': float(np.median(alone) / np.median(together)),
            'loss_together_over_alone': loss_ratios,
            'device': jax.devices()[0].device_kind,
        })
    )  # fmt: skip


if __name__ == '__main__':
    main()
