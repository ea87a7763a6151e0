"""The command `metastyle evaluate`: measures how fast initializations adapt."""

import pathlib

from absl import flags, logging

from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.core import command_line
from metastyle_jax.core.devices import allocator
from metastyle_jax.core.errors import UserError
from metastyle_jax.evaluation.config import ADAPT_SETTINGS, RANDOM, EvaluationConfig

USAGE = """Measures how fast initializations adapt to style images.

  metastyle evaluate --theta=runs/coco --content=folder:photos \\
      --style=folder:paintings --workdir=runs/evaluation

It writes results.json, results.md, curves.png and one sheet_NAME.png for each initialization.
--theta takes several initializations, separated by commas, each with or without a name:
--theta=ours=runs/coco,other=theta.safetensors. A random initialization, which is training from
scratch, is measured too unless --random_steps=0. The same command continues a stopped evaluation,
or adds styles if --styles is larger.
"""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command."""
    add = command_line.Flags(values)
    add.path_list(
        'theta',
        [],
        'Initializations, [NAME=]PATH, separated by commas (default: the θ of the package).',
        schemes=('gs', 's3'),
    )
    add.text(
        'content', 'sample:', 'Data source of the photographs: sample:, folder:PATH or tfds:NAME.'
    )
    add.text(
        'style', 'sample:', 'Data source of the style images: sample:, folder:PATH or tfds:NAME.'
    )
    add.path('workdir', None, 'Folder for the results.', writes=True, schemes=('gs', 's3'))
    add.number('contents', 4, 'Number of held-out photographs, on which losses are measured.')
    add.number('styles', 8, 'Number of style images; 0 for all.')
    config = EvaluationConfig()
    add.settings(config.adapt, ADAPT_SETTINGS)
    add.settings(config)
    add.vgg()
    add.switch(
        'adam_alone',
        False,
        'Measure each θ that has learned rates also without them, as NAME-adam: Adam takes all '
        'steps.',
    )
    add.switch(
        'held_out',
        False,
        "Use only images that training left out: those whose file name's SHA-256 begins with 0.",
    )


def main(values: flags.FlagValues) -> None:
    """Runs the evaluation that the flags describe."""
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
    from metastyle_jax.evaluation import evaluate, initializations, report
    from metastyle_jax.models import vgg
    from metastyle_jax.storage import theta_files

    report.require_matplotlib()
    given = initializations.parse(values.theta) or {'theta': theta_files.load_theta()}
    if values.adam_alone:
        given = initializations.with_adam_alone(given)
    starts = dict(given)
    if config.random_steps:
        starts[RANDOM] = johnson.initial(config.adapt.seed)
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
    print(report.markdown_tables(results))
    logging.info('results.json, results.md, curves.png and contact sheets are in %s', folder)


def run_evaluate() -> int:
    """Runs the command `metastyle evaluate`; returns the exit code."""
    allocator.keep_freed_memory()
    return command_line.run_command(
        main, define_flags, command='metastyle_jax.evaluate', usage=USAGE, output='workdir'
    )
