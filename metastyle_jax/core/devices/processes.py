"""Connects several processes that compute one training run together, on one machine or many.

All processes run the same program. Each reads its share of a batch, and only the first process
writes files. If a process fails, it informs the others; if a process dies or hangs, `watchdog`
detects it. In both cases all processes end with a message that names the process, and the same
command can resume from the last checkpoint.
"""

import contextlib
import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from metastyle_jax.core import checks, files, jax_compat, trees
from metastyle_jax.core.devices import sharding, watchdog
from metastyle_jax.core.errors import UserError, is_out_of_memory
from metastyle_jax.core.types import PyTree

_watch: watchdog.Watch | None = None  # set while this process belongs to a run of several


class Place(NamedTuple):
    """Describes how one process finds the other processes of a run.

    Attributes:
        coordinator: HOST:PORT at which the first process can be reached; '' if JAX can find the
            other processes by itself (under Slurm, Open MPI, or on a TPU slice).
        processes: number of processes.
        process: index of this process, from 0.
        heartbeat: seconds without a sign of life after which a process counts as lost.
    """

    coordinator: str = ''
    processes: int = 0
    process: int = 0
    heartbeat: int = watchdog.HEARTBEAT


@contextlib.contextmanager
def joined(place: Place | None) -> Iterator[None]:
    """Connects this process with the others of its run, for the duration of a `with` block.

    It must be called before any other use of JAX. At the end of the block, the process waits for
    the others. If the block raises an error, the other processes end with the same message within
    seconds. After that, the caller must end this process by `leave`.

    Args:
        place: the place of this process; None for a run of one process.

    Raises:
        UserError: the place is invalid, or the other processes cannot be reached.
    """
    global _watch
    if place is None:
        yield
        return
    _check_place(place)
    _initialize(place)
    client = jax_compat.coordinator_client()
    _watch = watchdog.Watch(client, *share(), patience=place.heartbeat)
    try:
        yield
        wait_for_all()  # so that nobody waits long in the shutdown below
    except UserError as error:
        _watch.tell(str(error), code=2)
        raise
    except BaseException as error:
        if is_out_of_memory(error):
            _watch.tell(f'out of memory ({str(error).splitlines()[0]})', code=2)
            raise
        if isinstance(error, jax.errors.JaxRuntimeError):
            # A collective also fails when another process is lost. The watch finds out which one,
            # and then ends this process with a better message than the error has.
            _watch.wait()
        traceback.print_exc()
        _watch.tell(f'{type(error).__name__}: {error}', code=watchdog.EXIT_LOST)
        leave(130 if isinstance(error, KeyboardInterrupt) else 1)
    _watch.close()
    _watch = None
    jax.distributed.shutdown()


def leave(code: int, *, stuck: bool = False) -> int:
    """Returns an exit code; or ends the process at once if a normal exit could hang.

    After a failure in a run of several processes, JAX's own shutdown would wait forever for the
    other processes.

    Args:
        code: the exit code.
        stuck: whether threads of this process may never end.
    """
    if _watch is None and not stuck:
        return code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def is_first() -> bool:
    """Whether this is the first process, the only one that writes files."""
    return jax.process_index() == 0


def share() -> tuple[int, int]:
    """Returns the index of this process and the number of processes; they select its data."""
    return jax.process_index(), jax.process_count()


def agree(number: int) -> int:
    """Returns the largest of the numbers that the processes pass.

    Every process must call `agree`, and each call waits for the others. For example, all processes
    stop after the same step if one of them has received a signal.
    """
    return number if jax.process_count() == 1 else sharding.largest_of_processes(number)


def wait_for_all() -> None:
    """Waits until every process has called this function."""
    agree(0)


def from_first(make: Callable[[], Any]) -> Any:
    """Calls a function in the first process and returns its result in all processes.

    Every process must call `from_first`.

    Args:
        make: called without arguments in the first process only; its result must consist of JSON
            types.
    """
    if jax.process_count() == 1:
        return make()
    encoded = json.dumps(make()).encode() if is_first() else b''
    size = agree(len(encoded))
    return json.loads(sharding.bytes_of_first_process(encoded or bytes(size)))


def copy_of_first(tree: PyTree) -> PyTree:
    """Returns an exact copy of the first process's pytree in all processes.

    Every process must call `copy_of_first`.

    Args:
        tree: pytree of arrays and typed PRNG keys, with the same shapes and types in all processes.

    Raises:
        UserError: shapes or types differ between processes.
    """
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    _check_same_shapes(leaves)
    arrays = [
        np.asarray(jax.random.key_data(leaf) if trees.is_key(leaf) else leaf) for leaf in leaves
    ]
    data = sharding.bytes_of_first_process(b''.join(array.tobytes() for array in arrays))
    copies, offset = [], 0
    for leaf, array in zip(leaves, arrays, strict=True):
        copy = jax.numpy.array(np.frombuffer(data, array.dtype, array.size, offset))
        copy = copy.reshape(array.shape)
        offset += array.nbytes
        if trees.is_key(leaf):
            copy = jax.random.wrap_key_data(copy, impl=jax.random.key_impl(leaf))
        copies.append(copy)
    return jax.tree.unflatten(structure, copies)


def _check_same_shapes(leaves: list[Any]) -> None:
    """Raises UserError if shapes or types differ from those of the first process."""
    shapes = [f'{leaf.dtype}{list(leaf.shape)}' for leaf in leaves]
    first = from_first(lambda: shapes)
    if shapes == first:
        return
    expected, actual = next(
        pair for pair in itertools.zip_longest(first, shapes) if pair[0] != pair[1]
    )
    raise UserError(
        f'the state of process {share()[0]} has {actual} where process 0 has {expected}: start all '
        'processes with the same configuration, data and θ'
    )


def _check_place(place: Place) -> None:
    """Raises UserError if the settings of a place are incomplete or contradict each other."""
    checks.whole_number('heartbeat', place.heartbeat, 2)
    if not place.coordinator and not place.processes:
        return
    if not place.coordinator or not place.processes:
        raise UserError(
            'to run several processes, pass coordinator=HOST:PORT of the first process and '
            'processes=NUMBER to each of them, and to each its own process=INDEX, from 0'
        )
    checks.whole_number('process', place.process, 0, place.processes - 1)
    if not place.coordinator.rpartition(':')[2].isdecimal():
        raise UserError(
            f'coordinator={place.coordinator}: it must be HOST:PORT of the first process'
        )


def _initialize(place: Place) -> None:
    """Connects JAX with the other processes.

    Raises:
        UserError: the other processes cannot be reached.
    """
    # JAX would handle SIGTERM itself. Here `command_line.Stop` does, and `agree` lets all
    # processes stop after the same step.
    jax.config.update('jax_enable_preemption_service', False)
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    given: dict[str, Any] = {}
    if place.coordinator:
        given = {
            'coordinator_address': place.coordinator,
            'num_processes': place.processes,
            'process_id': place.process,
            'cluster_detection_method': 'deactivate',
        }
    # The watchdog must be faster than JAX's own heartbeat, which ends the process without naming
    # the lost one. JAX acts after about two thirds of its timeout.
    timeout = 3 * place.heartbeat + 30
    try:
        jax.distributed.initialize(
            **given,
            initialization_timeout=max(place.heartbeat, 300),
            heartbeat_timeout_seconds=timeout,
            shutdown_timeout_seconds=timeout,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f'the processes of this run did not find each other ({files.first_line(error)}): make '
            'sure that all are started and that the port of the first one is open; if JAX cannot '
            'find them by itself, pass coordinator=HOST:PORT, processes=NUMBER and process=INDEX'
        ) from error
    logging.info(
        'process %d of %d: %d of %d devices',
        *share(),
        jax.local_device_count(),
        jax.device_count(),
    )
