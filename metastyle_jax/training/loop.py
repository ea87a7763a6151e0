"""The training loop: runs the steps, logs metrics, saves checkpoints, and may stop early."""

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
from metastyle_jax.data import batch_iterator, batching, image_source
from metastyle_jax.data.images import contact_sheet
from metastyle_jax.storage import checkpoints
from metastyle_jax.training import gram_cache, training_state
from metastyle_jax.training.configuration.schema import TrainConfig
from metastyle_jax.training.logs import metric_log
from metastyle_jax.training.recipes import recipe_step

# Processes agree on one number: that of a signal, or this one if data cannot be read.
_DATA_FAILED = 256


class RunningMean(NamedTuple):
    """Running mean of the outer loss since the last scheduled checkpoint.

    Attributes:
        total: sum of the losses.
        steps: number of losses.
    """

    total: float = 0.0
    steps: int = 0


class FetchedBatch(NamedTuple):
    """A batch that is ready for a step.

    Attributes:
        batch: the batch as it was read.
        placed: the same batch on the devices; it may have Gram matrices instead of style images.
        data_state: state of the data iterator after this batch.
    """

    batch: batching.MetaBatch
    placed: sharding.PlacedBatch
    data_state: dict[str, Any]


class PendingCheckpoint(NamedTuple):
    """A checkpoint that waits to be written.

    Attributes:
        step: number of finished outer steps.
        state: training state after that step.
        data_state: state of the data iterator, and the running mean of the outer loss.
        metric: mean outer loss, by which the checkpoint is ranked; None if it is not ranked.
    """

    step: int
    state: training_state.TrainingState
    data_state: dict[str, Any]
    metric: float | None


class TrainingLoop:
    """Runs the outer steps from a state to the last step.

    Args:
        config: the configuration.
        folder: folder of the run.
        vgg_params: weights of the loss network, or the fixed parameters of a recipe.
        manager: writes the checkpoints.
        batches: iterator of `batching.MetaBatch`.
        origins: sources of the content images and the style images, for names in messages.
        loss_mean: running mean of the outer loss at the start.
        method: what is trained; None for the initialization θ.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: pathlib.Path,
        vgg_params: Any,
        manager: checkpoints.Manager | checkpoints.NoCheckpoints,
        batches: batch_iterator.BatchIterator,
        origins: tuple[image_source.ImageSource, image_source.ImageSource],
        loss_mean: RunningMean,
        method: recipe_step.TrainingMethod | None = None,
    ) -> None:
        self._config = config
        self._devices = sharding.count(config.outer.devices)
        self._folder = folder
        self._vgg = vgg_params
        self._manager = manager
        self._batches = batches
        self._origins = origins
        self._data_state: dict[str, Any] = {}  # after the last step
        self._loss_mean = loss_mean
        self._pending: PendingCheckpoint | None = None
        method = method or recipe_step.method_of(config, None)
        self._step = sharding.spread(method.train_step, shared=2, devices=self._devices)
        self._captions = method.captions
        self._gram_cache = (
            gram_cache.GramCache(vgg_params, config.data.keep_grams)
            if config.data.keep_grams
            else None
        )
        self._preview = jax.jit(method.preview)

    def run(self, state: training_state.TrainingState, stop: command_line.Stop) -> int:
        """Trains to the last step, or until a signal stops the run; returns the exit code.

        Raises:
            UserError: images or the log cannot be used, or a metric is no longer finite.
        """
        start = done = int(state.step)
        steps = self._config.steps
        log = self._open_log(start)
        reason = 0
        try:
            fetched = self._fetch() if done < steps else None
            # If one process has to stop, all processes stop after the same step.
            while done < steps and not (reason := self._reason_to_stop(stop, fetched)):
                assert isinstance(fetched, FetchedBatch)
                begin, used = time.monotonic(), fetched
                state, metrics = self._step(state, self._vgg, used.placed)
                self._data_state = used.data_state
                done += 1
                # The next batch is read while the devices compute this step.
                fetched = self._fetch() if done < steps else None
                scalars = metric_log.scalars(jax.device_get(metrics))
                if done == start + 1:
                    logging.info('first step, with compilation: %.1f s', time.monotonic() - begin)
                self._check_finite(scalars, used.batch, done)
                self._record(log, done, state, used.batch, scalars)
            if done > start:
                self._save_now(done, state)
            log.flush(done)
        finally:
            log.close()
        return self._end(done, reason, fetched)

    def _end(self, done: int, reason: int, fetched: FetchedBatch | UserError | None) -> int:
        """Reports the end of the run; returns the exit code, or raises the error of the data."""
        if done >= self._config.steps:
            logging.info('trained %d steps; the result is in %s', done, self._folder)
            return 0
        if reason == _DATA_FAILED:
            processes.wait_for_all()  # until the first process has saved
            if isinstance(fetched, UserError):
                raise fetched
            # The process that failed skips this barrier; its exit stops the others, with its error.
            processes.wait_for_all()
        name = signal.Signals(reason).name
        logging.info('%s: stopped after step %d; the same command resumes', name, done)
        return 128 + reason

    def _reason_to_stop(
        self, stop: command_line.Stop, fetched: FetchedBatch | UserError | None
    ) -> int:
        """Returns why all processes must stop: a signal number or `_DATA_FAILED`; 0 to continue."""
        failed = isinstance(fetched, UserError)
        return processes.agree(_DATA_FAILED if failed else stop.signal or 0)

    def _fetch(self) -> FetchedBatch | UserError:
        """Reads the next batch and sends it to the devices; returns the error if that fails."""
        try:
            batch = next(self._batches)
        except UserError as error:
            return error
        ready = self._gram_cache(batch) if self._gram_cache else batch
        placed = sharding.put(ready, self._devices)
        return FetchedBatch(batch, placed, self._batches.get_state())

    def _open_log(self, start: int) -> metric_log.MetricLog | metric_log.SilentMetricLog:
        """Opens the metric log, which the first process writes."""
        if not processes.is_first():
            return metric_log.SilentMetricLog()
        return metric_log.MetricLog(
            self._folder,
            total=self._config.steps,
            start=start,
            images=images_per_step(self._config),
        )

    def _record(
        self,
        log: metric_log.MetricLog | metric_log.SilentMetricLog,
        step: int,
        state: training_state.TrainingState,
        batch: batching.MetaBatch,
        scalars: dict[str, float],
    ) -> None:
        """Logs a step; makes a checkpoint and a sample picture if they are scheduled."""
        log.add(step, scalars)
        with log.paused():
            self._schedule_checkpoint(step, state, scalars['outer'])
        if step % self._config.log.every == 0:
            try:
                log.flush(step)
            except UserError:  # the run ends, but its steps are not lost
                self._save_now(step, state)
                raise
        pictures = self._config.log.pictures
        if pictures and step % pictures == 0 and processes.is_first():
            with log.paused():
                log.picture(step, 'inner_loop', self._sample_picture(state, batch))

    def _schedule_checkpoint(
        self, step: int, state: training_state.TrainingState, outer_loss: float
    ) -> None:
        """Prepares a checkpoint if it is scheduled, and writes the one before it.

        A checkpoint is written only after the metrics of the next step were finite, because finite
        parameters can already be useless.
        """
        self._loss_mean = RunningMean(self._loss_mean.total + outer_loss, self._loss_mean.steps + 1)
        self._write_pending()
        every = self._config.checkpoint.every
        if step % every:
            return
        total, steps = self._loss_mean
        self._loss_mean = RunningMean()
        self._take(step, state, metric=total / steps if steps == every else None)

    def _save_now(self, step: int, state: training_state.TrainingState) -> None:
        """Writes a checkpoint of this step, and waits until it is on the disk.

        If no checkpoint was scheduled at this step, it is not ranked, and a resumed run continues
        the running mean.
        """
        if self._pending is None:
            self._take(step, state, metric=None)
        self._write_pending()
        self._manager.wait()

    def _take(
        self, step: int, state: training_state.TrainingState, *, metric: float | None
    ) -> None:
        """Prepares a checkpoint that is written later."""
        data_state = {**self._data_state, 'outer_loss': self._loss_mean._asdict()}
        self._pending = PendingCheckpoint(step, state, data_state, metric)

    def _write_pending(self) -> None:
        """Starts to write the pending checkpoint, if there is one."""
        if self._pending is None:
            return
        step, state, data_state, metric = self._pending
        self._pending = None
        self._manager.save(step, state, data_state=data_state, metric=metric, force=True)

    def _check_finite(
        self, scalars: dict[str, float], batch: batching.MetaBatch, step: int
    ) -> None:
        """Raises UserError if a metric is not finite; the message names the images of the step."""
        if all(np.isfinite(value) for value in scalars.values()):
            return
        self._manager.wait()
        contents, styles = self._origins
        style_names = [styles.name(i) for i in np.ravel(batch.style_index)]
        content_names = [
            contents.name(i)
            for index in (batch.inner_index, batch.outer_index)
            for i in np.ravel(index)
        ]
        # All processes come here together, because metrics are the same on all of them.
        saved = processes.from_first(self._manager.latest_step)
        kept = f'The checkpoint of step {saved} is kept' if saved else 'No checkpoint is kept yet'
        raise UserError(
            f'step {step}: the outer loss is {scalars["outer"]}, the gradient norm '
            f'{scalars["gradient_norm"]}, the norm of θ {scalars["params_norm"]}, on styles '
            f'{style_names} and contents {content_names}. {kept}. Lower '
            'config.inner.rate or config.outer.rate, or set config.outer.clip, in another workdir '
            'if there is a checkpoint; or remove these images'
        )

    def _sample_picture(
        self, state: training_state.TrainingState, batch: batching.MetaBatch
    ) -> np.ndarray:
        """Draws a style, a content image, and its stylization before and after the inner loop."""
        style, content = batching.as_float(batch.style[0]), batching.as_float(batch.outer[0, :1])
        before, after = self._preview(state, self._vgg, content, style)
        return contact_sheet.contact_sheet(
            [[style, content[0], np.asarray(before[0]), np.asarray(after[0])]],
            captions=[['style', 'content', *self._captions]],
            cell=max(128, self._config.data.size),
        )


def images_per_step(config: TrainConfig) -> int:
    """Returns the number of content images that one outer step processes."""
    return config.outer.styles * config.outer.contents * (config.inner.steps + 1)
