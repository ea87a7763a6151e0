"""Measures how fast initializations adapt to style images.

Each initialization is adapted to each style as `adapt` does it. Its loss on held-out contents,
which the adaptation does not use, is measured after 0, 1, 2, 5, 10, … steps. Adaptation from random
weights is the method of Johnson et al. The method of Gatys et al. can be measured too.
"""

import contextlib
import functools
import pathlib
from collections.abc import Iterator
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
from metastyle_jax.evaluation.config import RANDOM, EvaluationConfig
from metastyle_jax.models import perceptual_loss, vgg
from metastyle_jax.storage import tensor_files, theta_files


def open_held_out(
    contents: image_source.ImageSource, *, count: int, size: int, seed: int
) -> tuple[image_source.ImageSource, np.ndarray]:
    """Splits photographs into held-out contents and contents to adapt on.

    Args:
        contents: photographs.
        count: M, the number of held-out contents.
        size: width and height of the held-out contents, which are centre squares of photographs.
        seed: seed of the random choice.

    Returns:
        The source of the other photographs, and the held-out contents, `[M, H, W, 3]` uint8.

    Raises:
        UserError: no photograph would be held out, or none would remain.
    """
    if not 0 < count < len(contents):
        raise UserError(
            f'held_out={count} of {len(contents)} photographs: at least one must be held out, '
            'and at least one must remain to adapt on'
        )
    chosen = np.random.default_rng(seed).permutation(len(contents))[:count]
    squares = [resizing.center_square(contents.decode(int(i), size), size) for i in chosen]
    others = np.setdiff1d(np.arange(len(contents)), chosen)
    return sources.subset(contents, others.tolist()), np.stack(squares)


class _Inputs(NamedTuple):
    """Inputs of the measurement of every style.

    Attributes:
        starts: name -> initialization.
        config: settings of the evaluation.
        vgg_params: weights of the loss network.
        contents: photographs for the adaptation.
        held_out: `[M, H, W, 3]` uint8, held-out contents.
        pool: crops of `contents` on the device; None if batches are read step by step.
        lpips_params: weights of LPIPS; None if LPIPS and SSIM are not measured.
        matcher: the networks of `feature_matching`, and the held-out contents at their size; None
            if they are not measured.
    """

    starts: dict[str, theta_files.Theta]
    config: EvaluationConfig
    vgg_params: Params
    contents: image_source.ImageSource
    held_out: np.ndarray
    pool: adaptation_curve.ContentPool | None
    lpips_params: lpips_ssim.LpipsParams | None
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
    """Evaluates initializations, and writes the results after each style.

    A later call with the same arguments continues from the results in the folder.

    Args:
        starts: name -> initialization. The one named `RANDOM` takes `config.random_steps` steps.
        contents: photographs.
        paintings: style images.
        held_out: number of photographs on which losses are measured; the adaptation uses the
            others.
        styles: number of style images, chosen by the seed; 0 for all. Styles whose results are in
            the folder are not measured again.
        config: settings of the evaluation.
        folder: folder of the results, see `results_folder.ResultsFolder`.
        vgg_params: weights of the loss network.

    Returns:
        The contents of `results.json`.

    Raises:
        UserError: an image or the folder cannot be used, the folder holds results of another
            evaluation, `inner_steps` is above 0 and a θ has no learned rates, or an adaptation
            diverges.
    """
    for name, theta in starts.items():
        if config.adapt.inner_steps and name != RANDOM and theta.rates is None:
            raise UserError(
                f'inner_steps={config.adapt.inner_steps}: the θ {name!r} has no learned rates, '
                'leave it out'
            )
    facts = _facts(starts, contents, paintings, held_out, config)
    results = results_folder.ResultsFolder(folder, {**facts, 'vgg': vgg.digest(vgg_params)})
    order = np.random.default_rng(config.adapt.seed).permutation(len(paintings))
    chosen = [int(i) for i in order[: styles or len(order)]]
    missing = [i for i in chosen if paintings.name(i) not in results]
    if not missing:
        return results.results
    inputs = _prepare(starts, contents, held_out, config, vgg_params)
    for index in progress_bar.show(missing, description='evaluating', unit='style'):
        painting = batching.as_float(paintings.decode(index, config.adapt.style_size))
        painting = style_image.fit(painting, config.adapt.style_size)
        entry, outputs = _measure(inputs, painting)
        results.add({'name': paintings.name(index), **entry}, painting, outputs, inputs.held_out)
    return results.results


def _facts(
    starts: dict[str, theta_files.Theta],
    contents: image_source.ImageSource,
    paintings: image_source.ImageSource,
    held_out: int,
    config: EvaluationConfig,
) -> dict[str, Any]:
    """Collects the facts that identify an evaluation, as JSON types."""
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
        'learned_steps': {
            name: adaptation_start.inner_steps(_config_of(name, config), theta)
            for name, theta in starts.items()
        },
        'device': jax.devices()[0].device_kind,
        'contents': held_out,
        'sources': {'content': contents.digest(), 'style': paintings.digest()},
    }


def _config_of(name: str, config: EvaluationConfig) -> AdaptConfig:
    """Returns the settings with which an evaluation adapts one of the compared initializations."""
    return config.for_random() if name == RANDOM else config.adapt


def _prepare(
    starts: dict[str, theta_files.Theta],
    contents: image_source.ImageSource,
    held_out: int,
    config: EvaluationConfig,
    vgg_params: Params,
) -> _Inputs:
    """Splits the contents, and loads the networks that the settings need."""
    split = functools.partial(open_held_out, contents, count=held_out, seed=config.adapt.seed)
    others, squares = split(size=config.adapt.size)
    pool = matcher = None
    if config.pool:
        pool = adaptation_curve.read_pool(
            others, count=config.pool, size=config.adapt.size, seed=config.adapt.seed
        )
    if config.matching:
        matcher = feature_matching.load(), split(size=feature_matching.SIDE)[1]
    lpips_params = lpips_ssim.load() if config.quality else None
    return _Inputs(starts, config, vgg_params, others, squares, pool, lpips_params, matcher)


@contextlib.contextmanager
def _batches(inputs: _Inputs) -> Iterator[adaptation_curve.ContentBatchesOrPool]:
    """Opens the content batches, which are the same for each initialization and style."""
    if inputs.pool is not None:
        yield inputs.pool
        return
    config = inputs.config
    with batching.content_batches(
        inputs.contents, batch=config.adapt.batch, size=config.adapt.size, seed=config.adapt.seed
    ) as batches:
        yield batches


def _measure(
    inputs: _Inputs, painting: np.ndarray
) -> tuple[dict[str, Any], dict[str, dict[int, np.ndarray]]]:
    """Measures one style.

    Returns:
        The entry of the style in `results.json`, and stylized contents by initialization and step.
    """
    config = inputs.config
    grams = style_image.grams(inputs.vgg_params, painting)
    last = config.adapt.steps or 50
    shown = {0, min(50, last), last}
    entry: dict[str, Any] = {'curves': {}}
    outputs_of: dict[str, adaptation_curve.CurveOutputs] = {}
    for name, theta in inputs.starts.items():
        adapt_config = _config_of(name, config)
        steps = adaptation_start.step_count(adapt_config, theta)
        with _batches(inputs) as batches:
            curve, outputs_of[name] = adaptation_curve.adaptation_curve(
                theta, grams, inputs.vgg_params, batches, inputs.held_out,
                config=adapt_config, keep=sorted({*shown, steps}),
            )  # fmt: skip
        entry['curves'][name] = curve._asdict()
        if inputs.lpips_params is not None:
            entry.setdefault('quality', {})[name] = {
                str(step): lpips_ssim.mean_similarity(
                    inputs.lpips_params, batching.as_float(inputs.held_out), outputs
                )
                for step, outputs in outputs_of[name].by_step.items()
            }
    if inputs.matcher is not None:
        engine, large = inputs.matcher
        outputs = feature_matching.stylize(engine, large, painting, size=config.adapt.size)
        loss = _picture_loss(outputs, inputs.vgg_params, batching.as_float(inputs.held_out), grams)
        entry['matching'] = {part: float(getattr(loss, part)) for part in perceptual_loss.PARTS}
    if config.gatys:
        params = outputs_of[next(iter(inputs.starts))].params
        entry['gatys'] = _gatys(inputs.held_out[0], grams, inputs.vgg_params, params, config)
    return entry, {name: outputs.by_step for name, outputs in outputs_of.items()}


@jax.jit
def _picture_loss(
    pictures: Array, vgg_params: Params, contents: Array, grams: tuple[Array, ...]
) -> perceptual_loss.Loss:
    """Computes the perceptual loss of stylized contents `[N, H, W, 3]` from any method."""
    targets = perceptual_loss.compute_targets(vgg_params, contents, grams)
    return perceptual_loss.of_images(vgg_params, pictures, targets)


def _gatys(
    content: np.ndarray,
    grams: tuple[Array, ...],
    vgg_params: Params,
    params: Params,
    config: EvaluationConfig,
) -> dict[str, Any]:
    """Measures losses and seconds of L-BFGS on one content, from three starting images."""
    pixels = batching.as_float(content)
    adapted = np.asarray(adaptation_curve.apply(params, jnp.asarray(pixels)[None])[0])
    noise = np.random.default_rng(config.adapt.seed).uniform(size=pixels.shape).astype(np.float32)
    curves = {}
    for name, start in {'content': pixels, 'noise': noise, 'adapted': adapted}.items():
        result = gatys.optimize(pixels, grams, vgg_params, start=start, iterations=config.gatys)
        curves[name] = {'losses': result.losses.tolist(), 'seconds': result.seconds.tolist()}
    return curves
