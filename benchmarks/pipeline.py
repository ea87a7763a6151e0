"""Measures the input pipeline alone, and how long a training step waits for it.

`batching.meta_batches` decodes, crops and batches generated JPEG files. A step does what
`training.loop` does: it takes the next batch, runs the compiled step, and copies the metrics to the
host.
"""

import os
import pathlib
import statistics
import tempfile
import time
from typing import Any

from PIL import Image

from benchmarks import inputs, ours, tasks
from metastyle_jax.data import batch_iterator, batching, sources

PHOTOS, STYLES = 48, 16
PAIRS = 10
_SECONDS = 5.0  # longest measurement of the pipeline alone
_BATCHES = 20


def measure(
    task: tasks.Task,
    theta: inputs.Arrays,
    loss_network: inputs.Arrays,
    *,
    workers: tuple[int, ...] = (),
    pairs: int = PAIRS,
) -> dict[str, Any]:
    """Times the pipeline with several numbers of workers, then steps with and without it.

    Args:
        task: sizes of the batches.
        theta: parameters of the transformer by name.
        loss_network: weights of the loss network by name.
        workers: numbers of workers to measure; the last one also feeds the steps. If empty: 0, 2
            and the number of cores, at most 8.
        pairs: number of pairs of a step with the pipeline and a step on a cached batch.

    Returns:
        `alone`: batches and images per second, by number of workers. `workers`: number of workers
        that fed the steps. `fed` and `cached`: seconds of each step with and without pipeline.
    """
    workers = workers or tuple(sorted({0, 2, min(8, os.cpu_count() or 1)}))
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        write_pictures(root / 'photos', PHOTOS, seed=4)
        write_pictures(root / 'styles', STYLES, seed=5)
        alone = {str(count): _alone(_batches(root, task, count), task) for count in workers}
        step = ours.MetaStep(task, ours.from_names(theta), ours.from_names(loss_network))
        with _batches(root, task, workers[-1]) as batches:
            fed, cached = _steps(step, batches, workers[-1], pairs)
    return {'alone': alone, 'workers': workers[-1], 'fed': fed, 'cached': cached}


def write_pictures(folder: pathlib.Path, count: int, *, seed: int) -> None:
    """Writes JPEG files of 480 by 360 pixels."""
    folder.mkdir()
    for i, image in enumerate(inputs.images(count, 480, seed=seed)):
        Image.fromarray(image[:360]).save(folder / f'{i:03d}.jpg', quality=90)


def _batches(
    root: pathlib.Path, task: tasks.Task, workers: int
) -> batch_iterator.BatchIterator[batching.MetaBatch]:
    """Opens the pipeline."""
    return batching.meta_batches(
        sources.open_source(f'folder:{root / "photos"}', kind='content'),
        sources.open_source(f'folder:{root / "styles"}', kind='style'),
        styles_per_step=task.styles,
        inner_steps=task.steps,
        contents_per_style=task.batch,
        size=task.size,
        style_size=task.size,
        val_fraction=0.25,
        seed=0,
        workers=workers,
    )


def _alone(
    batches: batch_iterator.BatchIterator[batching.MetaBatch], task: tasks.Task
) -> dict[str, float]:
    """Returns batches and images per second, without those read before the clock started."""
    with batches:
        for _ in range(5):
            next(batches)
        begun, done = time.perf_counter(), 0
        while done < _BATCHES and time.perf_counter() - begun < _SECONDS:
            next(batches)
            done += 1
        rate = done / (time.perf_counter() - begun)
    images = task.styles * (task.batch * (task.steps + 1) + 1)
    return {'batches': rate, 'images': rate * images}


def _steps(
    step: ours.MetaStep,
    batches: batch_iterator.BatchIterator[batching.MetaBatch],
    workers: int,
    pairs: int,
) -> tuple[list[float], list[float]]:
    """Returns the seconds of steps with the pipeline and of steps on one batch, in turn."""

    def timed(cached: batching.MetaBatch | None) -> float:
        begun = time.perf_counter()
        step.call(next(batches) if cached is None else cached)
        step.metrics()
        return time.perf_counter() - begun

    batch = next(batches)
    timed(batch)
    fed, cached = [], []
    for _ in range(pairs):
        # The workers read ahead during the steps on the cached batch. Use these batches up, so that
        # the timed step has to wait as in training.
        for _ in range(2 * workers or 2):
            timed(None)
        fed.append(timed(None))
        timed(batch)  # lets the workers fill their buffers again
        cached.append(timed(batch))
    return fed, cached


def ratio(found: dict[str, Any]) -> float:
    """Returns the median ratio of a step with the pipeline to a step on a cached batch."""
    pairs = zip(found['fed'], found['cached'], strict=True)
    return statistics.median(fed / cached for fed, cached in pairs)
