"""Describes the machine, and writes the weights that all workers load."""

import importlib.metadata
import importlib.util
import os
import pathlib
import platform
from typing import Any

from benchmarks import process, tasks, worker
from metastyle_jax.core.errors import UserError

MISSING = "PyTorch is missing: pip install '.[bench]'"
_LIMIT = 600.0  # seconds to import JAX and to write the weights


def describe(
    out: pathlib.Path, weights: pathlib.Path, network: tasks.Network = tasks.STANDARD
) -> dict[str, Any]:
    """Writes the weights of a network in another process, and describes the machine.

    Args:
        out: folder of the log.
        weights: file for the weights.
        network: sizes of the network.

    Returns:
        Facts about the machine and versions of packages, as JSON types.

    Raises:
        UserError: the other process failed.
    """
    job = worker.Job('describe', str(weights), network=network)
    started = process.Worker(job, out / 'weights.log', _LIMIT)
    try:
        found = started.answer()
    except process.WorkerError as error:
        raise UserError(
            f'the weights could not be written: {error}; see {out / "weights.log"}'
        ) from error
    finally:
        started.close()
    return found | {
        'cpu': cpu(),
        'cores': cores(),
        'memory': free_memory(),
        'load': os.getloadavg()[0] if hasattr(os, 'getloadavg') else 0.0,
        'python': platform.python_version(),
        **versions(),
    }


def versions() -> dict[str, str | None]:
    """Returns the versions of JAX, jaxlib and PyTorch; None for a missing package."""
    return {name: _version(name) for name in ('jax', 'jaxlib', 'torch')}


def has_torch() -> bool:
    """Whether PyTorch is installed; it is not imported."""
    return importlib.util.find_spec('torch') is not None


def free_memory() -> int:
    """Returns the bytes of free main memory; 0 if the system does not tell."""
    try:
        lines = pathlib.Path('/proc/meminfo').read_text('ascii').splitlines()
        (line,) = (line for line in lines if line.startswith('MemAvailable'))
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return 0


def cpu() -> str:
    """Returns the name of the processor."""
    try:
        text = pathlib.Path('/proc/cpuinfo').read_text('utf-8', 'replace')
    except OSError:
        text = ''
    names = [line.split(':')[1] for line in text.splitlines() if line.startswith('model name')]
    return (names[0].strip() if names else '') or platform.processor() or platform.machine()


def cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(package: str) -> str | None:
    """Returns the version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
