"""The loop of training: steps, the log, checkpoints, and whatever ends it early."""

import functools
import pathlib
import signal
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from metastyle_jax.core import command_line
from metastyle_jax.core.devices import processes, sharding
from metastyle_jax.core.errors import UserError
from metastyle_jax.data import batching, contact_sheet, sources
from metastyle_jax.storage import checkpoints
from metastyle_jax.training import gram_cache, metric_log, outer_step
from metastyle_jax.training.configuration.schema import TrainConfig

_FAILED = 256  # stands for data that cannot be read, among the numbers of signals


class RunningMean(NamedTuple):
    """Of the outer loss, over the steps since the last checkpoint that was due."""

    total: float = 0.0
    steps: int = 0


class Fetched(NamedTuple):
    """What a step needs of the data.

    Attributes:
        batch: as it was read.
        given: what the step gets of it, on its way to the devices.
        data_state: of the data, to go on after it.
    """

    batch: batching.MetaBatch
    given: sharding.PlacedBatch
    data_state: dict[str, Any]


class Checkpoint(NamedTuple):
    """A state on its way to disk."""

    step: int
    state: outer_step.TrainState
    data_state: dict[str, Any]
    metric: float | None


class Loop:
    """The steps between a restored state and the last one.

    Args:
        config: see `training.configuration`.
        folder: the run's folder.
        vgg_params: weights of the loss network.
        manager: of the checkpoints.
        batches: iterator of `batching.MetaBatch`.
        origins: sources of contents and styles, to name files.
        mean: of the outer loss, of the steps before that count for the next checkpoint.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: pathlib.Path,
        vgg_params: Any,
        manager: checkpoints.Manager | checkpoints.Elsewhere,
        batches: batching.Batches,
        origins: tuple[sources.Source, sources.Source],
        mean: RunningMean,
    ) -> None:
        self._config = config
        self._devices = sharding.count(config.outer.devices)
        self._folder = folder
        self._vgg = vgg_params
        self._manager = manager
        self._batches = batches
        self._origins = origins
        self._data_state: dict[str, Any] = {}  # after the last step
        self._mean = mean
        self._pending: Checkpoint | None = None
        self._step_fn = sharding.spread(
            functools.partial(outer_step.train_step, config=config),
            shared=2,
            devices=self._devices,
        )
        self._kept = (
            gram_cache.Kept(vgg_params, config.data.keep_grams) if config.data.keep_grams else None
        )
        self._preview = jax.jit(functools.partial(outer_step.preview, config=config))

    def run(self, state: outer_step.TrainState, stop: command_line.Stop) -> int:
        """Trains; returns the exit code."""
        config = self._config
        start = done = int(state.step)
        log = self._open_log(start)
        try:
            fetched = self._fetch() if done < config.steps else None
            # What stops one process stops all of them after the same step.
            while done < config.steps and not (number := self._why_to_stop(stop, fetched)):
                assert isinstance(fetched, Fetched)
                begun, (batch, given, self._data_state) = time.monotonic(), fetched
                state, found = self._step_fn(state, self._vgg, given)
                if done + 1 < config.steps:
                    fetched = self._fetch()  # while the devices work on the step
                scalars = metric_log.scalars(jax.device_get(found))
                if done == start:
                    logging.info('first step, with compilation: %.1f s', time.monotonic() - begun)
                self._check_finite(scalars, batch, done + 1)
                done += 1
                log.add(done, scalars)
                with log.paused():
                    self._keep(done, state, scalars['outer'])
                if done % config.log.every == 0:
                    self._flush(log, done, state)
                with log.paused():
                    due = config.log.pictures and done % config.log.pictures == 0
                    if due and processes.is_first():
                        log.picture(done, 'inner_loop', self._sheet(state, batch))
            if done > start:
                self._keep(done, state, force=True)
            log.flush(done)
        finally:
            log.close()
        if done >= config.steps:
            logging.info('trained %d steps; θ is in %s', done, self._folder)
            return 0
        if number == _FAILED:
            processes.wait_for_all()  # the first process has saved a checkpoint
            if isinstance(fetched, UserError):
                raise fetched
            # The process that failed skips this barrier; its exit stops the others.
            processes.wait_for_all()
        name = signal.Signals(number).name
        logging.info('%s: stopped after step %d; the same command resumes', name, done)
        return 128 + number

    def _why_to_stop(self, stop: command_line.Stop, fetched: Fetched | UserError | None) -> int:
        """Number of a signal, `_FAILED` where data cannot be read, else 0; of any process."""
        failed = isinstance(fetched, UserError)
        return processes.agree(_FAILED if failed else stop.signal or 0)

    def _flush(self, log: metric_log.Logger | metric_log.Silent, step: int, state: Any) -> None:
        """Writes to the log; where that fails, the steps until then are kept."""
        try:
            log.flush(step)
        except UserError:
            self._keep(step, state, force=True)
            raise

    def _fetch(self) -> Fetched | UserError:
        """The next batch, sent to the devices; or why there is none."""
        try:
            batch = next(self._batches)
        except UserError as error:
            return error
        given = self._kept(batch) if self._kept else batch
        return Fetched(batch, sharding.put(given, self._devices), self._batches.get_state())

    def _open_log(self, start: int) -> metric_log.Logger | metric_log.Silent:
        """The log, which the first process writes."""
        if not processes.is_first():
            return metric_log.Silent()
        return metric_log.Logger(
            self._folder,
            total=self._config.steps,
            start=start,
            images=images_per_step(self._config),
        )

    def _keep(
        self,
        step: int,
        state: outer_step.TrainState,
        outer: float | None = None,
        *,
        force: bool = False,
    ) -> None:
        """Takes a checkpoint when it is time, and writes it once the step after it was finite.

        The mean outer loss of all steps since the last one that was due ranks checkpoints; one that
        is taken early, on a signal, has no rank, and keeps what the mean is of so far.
        """
        if outer is not None:
            self._mean = RunningMean(self._mean.total + outer, self._mean.steps + 1)
        if self._pending and (force or step > self._pending.step):
            self._write(self._pending)
            self._pending = None
        every = self._config.checkpoint.every
        due = step % every == 0
        if not (due or force):
            return
        total, steps = self._mean
        metric = total / steps if due and steps == every else None
        if due:
            self._mean = RunningMean()
        data_state = {**self._data_state, 'outer_loss': self._mean._asdict()}
        taken = Checkpoint(step, state, data_state, metric)
        if force:
            self._write(taken)
            self._manager.wait()
        else:
            self._pending = taken

    def _write(self, taken: Checkpoint) -> None:
        """Starts to write a checkpoint; does nothing if that step is on disk."""
        self._manager.save(
            taken.step,
            taken.state,
            data_state=taken.data_state,
            metric=taken.metric,
            force=True,
        )

    def _check_finite(
        self, scalars: dict[str, float], batch: batching.MetaBatch, step: int
    ) -> None:
        """Stops at the first number that is not finite, and says where it was."""
        if all(np.isfinite(value) for value in scalars.values()):
            return
        self._manager.wait()
        names = [self._origins[1].name(i) for i in np.ravel(batch.style_index)]
        photos = [
            self._origins[0].name(i)
            for index in (batch.inner_index, batch.outer_index)
            for i in np.ravel(index)
        ]
        kept = processes.from_first(self._manager.latest_step)  # all processes come here at once
        raise UserError(
            f'step {step}: the outer loss is {scalars["outer"]}, the gradient norm '
            f'{scalars["gradient_norm"]}, the norm of θ {scalars["params_norm"]}, on styles '
            f'{names} and contents {photos}. '
            + (
                f'The checkpoint of step {kept} is kept. '
                if kept
                else 'No checkpoint is kept yet. '
            )
            + 'Lower config.inner.rate or config.outer.rate or set config.outer.clip, in another '
            '--workdir if there is a checkpoint; or remove these images'
        )

    def _sheet(self, state: outer_step.TrainState, batch: batching.MetaBatch) -> np.ndarray:
        """A picture of style, content, and θ's output before and after the inner loop."""
        style, content = batching.as_float(batch.style[0]), batching.as_float(batch.outer[0, :1])
        before, after = self._preview(state, self._vgg, content, style)
        steps = self._config.inner.steps
        return contact_sheet.contact_sheet(
            [[style, content[0], np.asarray(before[0]), np.asarray(after[0])]],
            captions=[['style', 'content', 'θ', f'after {steps} inner step(s)']],
            cell=max(128, self._config.data.size),
        )


def images_per_step(config: TrainConfig) -> int:
    """Content images that one outer step processes."""
    return config.outer.styles * config.outer.contents * (config.inner.steps + 1)
