"""Measures how fast initializations adapt, on styles and contents that θ never saw.

For each style, each initialization is adapted as `metastyle-adapt` does it, and its loss on
held-out contents is taken after 0, 1, 2, 5, 10, … steps. A random initialization is Johnson et
al.: one network trained for one style. Gatys et al. optimize the pixels of the same contents.
"""

import contextlib
import functools
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.adaptation import adaptation_start, style_image
from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.baselines import feature_matching, gatys
from metastyle_jax.core import progress_bar
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params
from metastyle_jax.data import batching, image_source, sources
from metastyle_jax.data.images import resizing
from metastyle_jax.evaluation import adaptation_curve, lpips_ssim, results_folder
from metastyle_jax.evaluation.config import EvaluationConfig
from metastyle_jax.models import perceptual_loss, vgg
from metastyle_jax.storage import tensor_files, theta_files

RANDOM = 'random'
_NAME = r'[\w.+-]+'


def open_held_out(
    contents: image_source.ImageSource, *, count: int, size: int, seed: int
) -> tuple[image_source.ImageSource, np.ndarray]:
    """Sets some contents aside.

    Args:
        contents: photographs.
        count: M, how many to set aside.
        size: H and W of their middle squares.
        seed: of the choice.

    Returns:
        The others, to adapt on, and `[M, H, W, 3] uint8`.

    Raises:
        UserError: too few would remain.
    """
    if not 0 < count < len(contents):
        raise UserError(
            f'held_out={count} of {len(contents)} photographs: at least one must be set aside, '
            'and at least one must remain to adapt on'
        )
    chosen = np.random.default_rng(seed).permutation(len(contents))[:count]
    squares = [resizing.center_square(contents.decode(int(i), size), size) for i in chosen]
    rest = np.setdiff1d(np.arange(len(contents)), chosen)
    return sources.subset(contents, rest.tolist()), np.stack(squares)


class _Means(NamedTuple):
    """What every style is measured with.

    Attributes:
        starts: initializations by name.
        config: settings of the evaluation.
        vgg_params: weights of the loss network.
        rest: photographs to adapt on.
        squares: `[M, H, W, 3] uint8`, those that were set aside.
        pool: crops of `rest`, or None where batches are read.
        judge: of likeness, or None.
        matcher: the any-style network, and those set aside at its size; or None.
    """

    starts: dict[str, theta_files.Theta]
    config: EvaluationConfig
    vgg_params: Params
    rest: image_source.ImageSource
    squares: np.ndarray
    pool: adaptation_curve.Pool | None
    judge: lpips_ssim.Judge | None
    matcher: tuple[Any, np.ndarray] | None


def evaluate(
    starts: dict[str, theta_files.Theta],
    contents: image_source.ImageSource,
    paintings: image_source.ImageSource,
    *,
    held_out: int,
    styles: int,
    config: EvaluationConfig,
    folder: pathlib.Path,
    vgg_params: Params,
) -> dict[str, Any]:
    """Evaluates initializations; writes results after each style, and goes on from them.

    Args:
        starts: initializations by name; `RANDOM` takes `config.random_steps`.
        contents: photographs.
        paintings: style images.
        held_out: photographs that are set aside to take losses on.
        styles: style images to take, chosen by the seed; 0 for all. Those that the folder holds
            are not measured again.
        config: settings of the evaluation.
        folder: for what `results_folder.Record` writes.
        vgg_params: weights of the loss network.

    Returns:
        What `results.json` holds.

    Raises:
        UserError: a picture or the folder is not usable, the folder holds results of another
            evaluation, a θ lacks the inner loop that is asked for, or adaptation diverges.
    """
    for name, theta in starts.items():
        if config.adapt.inner_steps and name != RANDOM and theta.rates is None:
            raise UserError(
                f'inner_steps={config.adapt.inner_steps}: the θ {name!r} has no learned rates, '
                'leave it out'
            )
    facts = _facts(starts, contents, paintings, held_out, config)
    found = results_folder.Record(folder, {**facts, 'vgg': vgg.digest(vgg_params)})
    order = np.random.default_rng(config.adapt.seed).permutation(len(paintings))
    chosen = [int(i) for i in order[: styles or len(order)]]
    missing = [i for i in chosen if paintings.name(i) not in found]
    if not missing:
        return found.results
    means = _prepare(starts, contents, held_out, config, vgg_params)
    for index in progress_bar.show(missing, description='evaluating', unit='style'):
        painting = batching.as_float(paintings.decode(index, config.adapt.style_size))
        painting = style_image.fit(painting, config.adapt.style_size)
        entry, outputs = _measure(means, painting)
        found.add({'name': paintings.name(index), **entry}, painting, outputs, means.squares)
    return found.results


def _facts(
    starts: dict[str, theta_files.Theta],
    contents: image_source.ImageSource,
    paintings: image_source.ImageSource,
    held_out: int,
    config: EvaluationConfig,
) -> dict[str, Any]:
    """What tells an evaluation from others, as JSON has it."""
    return {
        'settings': config.to_record(),
        'thetas': {name: theta.fingerprint for name, theta in starts.items()},
        'with': {
            name: tensor_files.fingerprint((theta.predictor, theta.rates))[:16]
            for name, theta in starts.items()
        },
        'rates': {
            name: adaptation_start.learning_rate(_config_of(name, config), theta)
            for name, theta in starts.items()
        },
        'device': jax.devices()[0].device_kind,
        'contents': held_out,
        'sources': {'content': contents.digest(), 'style': paintings.digest()},
    }


def _config_of(name: str, config: EvaluationConfig) -> AdaptConfig:
    """The settings of the adaptation of one initialization."""
    return config.for_random() if name == RANDOM else config.adapt


def _prepare(
    starts: dict[str, theta_files.Theta],
    contents: image_source.ImageSource,
    held_out: int,
    config: EvaluationConfig,
    vgg_params: Params,
) -> _Means:
    """Sets contents aside, and loads what the config ask for."""
    aside = functools.partial(open_held_out, contents, count=held_out, seed=config.adapt.seed)
    rest, squares = aside(size=config.adapt.size)
    pool = matcher = None
    if config.pool:
        pool = adaptation_curve.read_pool(
            rest, count=config.pool, size=config.adapt.size, seed=config.adapt.seed
        )
    if config.matching:
        matcher = feature_matching.load(), aside(size=feature_matching.SIDE)[1]
    judge = lpips_ssim.load() if config.quality else None
    return _Means(starts, config, vgg_params, rest, squares, pool, judge, matcher)


@contextlib.contextmanager
def _batches(means: _Means) -> Iterator[adaptation_curve.Batches]:
    """Contents to adapt on, the same for each initialization and style."""
    if means.pool is not None:
        yield means.pool
        return
    config = means.config
    with batching.content_batches(
        means.rest, batch=config.adapt.batch, size=config.adapt.size, seed=config.adapt.seed
    ) as batches:
        yield batches


def _measure(
    means: _Means, painting: np.ndarray
) -> tuple[dict[str, Any], dict[str, dict[int, np.ndarray]]]:
    """What `results.json` says of one style, and outputs of each initialization by step."""
    config = means.config
    grams = style_image.grams(means.vgg_params, painting)
    shown = {0, min(50, config.adapt.steps), config.adapt.steps}
    entry: dict[str, Any] = {'curves': {}}
    made: dict[str, adaptation_curve.Outputs] = {}
    for name, theta in means.starts.items():
        own = _config_of(name, config)
        with _batches(means) as batches:
            curve, made[name] = adaptation_curve.adaptation_curve(
                theta, grams, means.vgg_params, batches, means.squares,
                config=own, keep=sorted({*shown, own.steps}),
            )  # fmt: skip
        entry['curves'][name] = curve._asdict()
        if means.judge is not None:
            entry.setdefault('quality', {})[name] = {
                str(step): lpips_ssim.compare(
                    means.judge, batching.as_float(means.squares), outputs
                )
                for step, outputs in made[name].by_step.items()
            }
    if means.matcher is not None:
        engine, large = means.matcher
        outputs = feature_matching.stylize(engine, large, painting, size=config.adapt.size)
        loss = _picture_loss(outputs, means.vgg_params, batching.as_float(means.squares), grams)
        entry['matching'] = {part: float(getattr(loss, part)) for part in perceptual_loss.PARTS}
    if config.gatys:
        params = made[next(iter(means.starts))].params
        entry['gatys'] = _gatys(means.squares[0], grams, means.vgg_params, params, config)
    return entry, {name: outputs.by_step for name, outputs in made.items()}


@jax.jit
def _picture_loss(
    pictures: Array, vgg_params: Params, contents: Array, grams: tuple[Array, ...]
) -> perceptual_loss.Loss:
    """Loss of pictures, whoever made them."""
    targets = perceptual_loss.compute_targets(vgg_params, contents, grams)
    return perceptual_loss.of_images(vgg_params, pictures, targets)


def _gatys(
    content: np.ndarray,
    grams: tuple[Array, ...],
    vgg_params: Params,
    params: Params,
    config: EvaluationConfig,
) -> dict[str, Any]:
    """Losses and seconds of L-BFGS on one content, from three starts."""
    pixels = batching.as_float(content)
    adapted = np.asarray(adaptation_curve.apply(params, jnp.asarray(pixels)[None])[0])
    noise = np.random.default_rng(config.adapt.seed).uniform(size=pixels.shape).astype(np.float32)
    found = {}
    for name, start in {'content': pixels, 'noise': noise, 'adapted': adapted}.items():
        result = gatys.optimize(pixels, grams, vgg_params, start=start, iterations=config.gatys)
        found[name] = {'losses': result.losses.tolist(), 'seconds': result.seconds.tolist()}
    return found


def parse_thetas(words: Sequence[str]) -> dict[str, theta_files.Theta]:
    """Reads initializations from `[NAME=]PATH` words, by name.

    Raises:
        UserError: a name occurs twice or is taken, or a file is not usable.
    """
    thetas: dict[str, theta_files.Theta] = {}
    for word in words:
        given = re.fullmatch(f'({_NAME})=(.+)', word)  # a path may hold '=' too
        name, path = given.groups() if given else (pathlib.PurePath(word).stem, word)
        if not re.fullmatch(_NAME, name):
            raise UserError(
                f'theta={word}: {name!r} is no name: write NAME=PATH, the name of letters, '
                'digits, . _ + and -'
            )
        if name in thetas or name == RANDOM:
            raise UserError(f'theta={word}: the name {name!r} is taken; write NAME={path}')
        thetas[name] = theta_files.load_theta(path)
    return thetas
