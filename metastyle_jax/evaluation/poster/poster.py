"""Measures the times and the quality of the poster's systems, and writes the files of results."""

import dataclasses
import datetime
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from metastyle_jax.baselines import feature_matching
from metastyle_jax.core import files
from metastyle_jax.core.errors import UserError
from metastyle_jax.evaluation.poster import poster_tables, quality, timing, trade_off_plot
from metastyle_jax.evaluation.poster.config import PEER, PosterConfig
from metastyle_jax.models import vgg


def run(
    folder: pathlib.Path,
    *,
    config: PosterConfig | None = None,
    weights: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Measures all systems, and writes `results.json`, `results.md` and `trade_off.png`.

    The files are written after each size and after the quality of each system, so the results of a
    stopped run are kept.

    Args:
        folder: folder of the files; it is made if it does not exist.
        config: settings; None for the defaults.
        weights: system -> file of its weights; None for those of the package.

    Returns:
        The contents of `results.json`: 'machine', 'date', 'settings', 'counts', 'footnotes',
        'times' (size -> system -> see `timing.measure`) and 'quality' (system -> see
        `quality.measure`). For a system without weights, 'quality' has only 'reason'.

    Raises:
        UserError: a setting, an image or the folder cannot be used.
    """
    config = config or PosterConfig()
    config.validate()
    images = quality.read_images(config) if config.quality else None
    try:  # before the measurements, which take long
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f'workdir={folder} cannot be made ({files.reason(error)}): choose another folder'
        ) from error
    counts, footnotes = poster_tables.describe(config.systems, config.encoder)
    results: dict[str, Any] = {
        'machine': describe_machine(),
        'date': datetime.date.today().isoformat(),
        'settings': dataclasses.asdict(config),
        'counts': counts,
        'footnotes': footnotes,
        'times': {},
        'quality': {},
    }
    peer = feature_matching.load() if feature_matching.is_installed() else None
    for size in config.pixels():
        results['times'][str(size)] = timing.measure(size, config, peer=peer)
        _write(folder, results)
    if images is not None:
        vgg_params = vgg.load()
        for name, painter in _painters(config, images, weights or {}):
            if isinstance(painter, UserError):
                results['quality'][name] = {'reason': str(painter)}
            else:
                results['quality'] |= quality.measure([(name, painter)], images, vgg_params)
            _write(folder, results)
    return results


def _painters(
    config: PosterConfig, images: quality.TestImages, weights: Mapping[str, str]
) -> Iterator[tuple[str, quality.Painter | UserError]]:
    """Loads one system after the other; yields an error for a system that cannot be loaded."""
    for name in config.systems:
        try:
            yield (
                name,
                quality.load_painter(name, config, weights=weights.get(name), unseen=images.names),
            )
        except UserError as error:
            yield name, error
    if feature_matching.is_installed():
        yield PEER, quality.load_peer(config.size)


def _write(folder: pathlib.Path, results: Mapping[str, Any]) -> None:
    """Writes the files of the results so far."""
    contents = {
        'results.json': json.dumps(results, indent=1).encode(),
        'results.md': poster_tables.render(results).encode(),
    }
    if any('reason' not in entry for entry in results['quality'].values()):
        contents['trade_off.png'] = trade_off_plot.plot(results)
    for name, data in contents.items():
        files.write_whole(folder / name, data, UserError)


def describe_machine() -> dict[str, Any]:
    """Returns the name of the device, the number of cores and the version of JAX."""
    device = jax.devices()[0].device_kind
    if jax.default_backend() == 'cpu':
        device = _processor() or device
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return {'device': device, 'cores': cores, 'jax': jax.__version__}


def _processor() -> str:
    """Returns the name of the processor; '' if it is unknown."""
    try:
        text = pathlib.Path('/proc/cpuinfo').read_text('utf-8', 'replace')
    except OSError:
        return ''
    names = [line.split(':')[1] for line in text.splitlines() if line.startswith('model name')]
    return names[0].strip() if names else ''
