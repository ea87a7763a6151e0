"""The command `metastyle_jax.evaluate`."""

import pathlib

from absl import flags, logging

from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.core import allocator, command_line
from metastyle_jax.core.errors import UserError
from metastyle_jax.evaluation.config import ADAPT_SETTINGS, EvaluationConfig

USAGE = """Measures how fast initializations adapt to styles that they never saw.

  python -m metastyle_jax.evaluate --theta=runs/coco --content=folder:photos \\
      --style=folder:paintings --workdir=runs/evaluation

writes results.json, results.md, curves.png and, for each initialization, sheet_NAME.png. --theta
takes several, separated by commas, each with a name in front if you like:
ours=runs/coco,other=theta.safetensors. A random initialization, which is to train one network for
one style, is always among them. The same command goes on after a stop, and with more --styles.
"""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command."""
    add = command_line.Flags(values)
    add.words(
        'theta', [], 'Initializations, [NAME=]PATH (default: the one that comes with the package).'
    )
    add.text('content', 'sample:', 'Photographs: sample:, folder:PATH or tfds:NAME.')
    add.text('style', 'sample:', 'Style images: the same.')
    add.text('workdir', None, 'Folder for the results.')
    add.number('contents', 4, 'Photographs that are set aside to take losses on.')
    add.number('styles', 8, 'Style images to take; 0 for all.')
    config = EvaluationConfig()
    add.settings(config.adapt, ADAPT_SETTINGS)
    add.settings(config)
    add.vgg()
    add.switch(
        'held_out',
        False,
        "Take only images whose file name's SHA-256 begins with 0, which training left out.",
    )


def main(values: flags.FlagValues) -> None:
    """Evaluates as the flags say."""
    command_line.require(values, 'workdir')
    adapt = AdaptConfig.for_evaluation(**{name: getattr(values, name) for name in ADAPT_SETTINGS})
    config = EvaluationConfig(adapt=adapt, **command_line.given_settings(values, EvaluationConfig))
    config.validate()
    if values.styles < 0:
        raise UserError(f'styles={values.styles}: it must be at least 0')
    if '://' in values.workdir:
        raise UserError(f'workdir={values.workdir}: name a folder of this machine, not a bucket')
    # JAX is loaded here, so that `--help` and a mistake in the flags are answered at once.
    from metastyle_jax.baselines import johnson
    from metastyle_jax.data import sources
    from metastyle_jax.evaluation import evaluate, report
    from metastyle_jax.models import vgg
    from metastyle_jax.storage import theta_files

    report.require()
    given = evaluate.parse_thetas(values.theta) or {'theta': theta_files.load_theta()}
    starts = {**given, evaluate.RANDOM: johnson.initial(config.adapt.seed)}
    contents = sources.open_source(values.content, kind='content')
    paintings = sources.open_source(values.style, kind='style')
    if values.held_out:
        contents, paintings = (sources.held_out(source) for source in (contents, paintings))
    folder = pathlib.Path(values.workdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'workdir={folder} cannot be made ({error.strerror})') from error
    results = evaluate.evaluate(
        starts, contents, paintings,
        held_out=values.contents, styles=values.styles, config=config, folder=folder,
        vgg_params=vgg.load(values.vgg),
    )  # fmt: skip
    print(report.table(results))
    logging.info('results.json, results.md, curves.png and contact sheets are in %s', folder)


def run() -> int:
    """The command."""
    allocator.keep_freed_memory()
    return command_line.run(
        main, define_flags, command='metastyle_jax.evaluate', usage=USAGE, output='workdir'
    )
