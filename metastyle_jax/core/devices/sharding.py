"""Styles over all devices of all processes: the only file that names these, `pmap` or meshes.

One outer step sees S styles. They are shared out evenly over the devices, each device averages
the meta-gradients of its own, and one mean over devices follows. Everything else, the state
included, is the same on every device.

Several processes, on one machine or many, run the same program. Each reads its share of a batch;
the first alone writes. Whoever fails tells the others, and one that dies or hangs is missed: all
end, with a message that names it, so that the same command can go on from the last checkpoint.
"""

import contextlib
import functools
import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import numpy as np
from absl import logging
from jax._src import distributed

from metastyle_jax.core.devices import watchdog
from metastyle_jax.core.errors import UserError, is_out_of_memory
from metastyle_jax.core.types import PyTree

HEARTBEAT = 60  # seconds of silence after which a process counts as lost
_AXIS = 'devices'
_meetings = itertools.count()  # all processes come to them in one order
_watch: watchdog.Watch | None = None  # while this process is one of several


class Place(NamedTuple):
    """Where a process stands among those of a run.

    Attributes:
        coordinator: HOST:PORT at which the first process can be reached; '' to let JAX find out
            (Slurm, Open MPI, TPU).
        processes: how many there are.
        process: which one this is, from 0.
        heartbeat: seconds after which a silent process counts as lost.
    """

    coordinator: str = ''
    processes: int = 0
    process: int = 0
    heartbeat: int = HEARTBEAT


@contextlib.contextmanager
def joined(place: Place | None) -> Iterator[None]:
    """Makes this process one of several while the block runs; call it before any use of JAX.

    Where the block raises, the other processes end with the same message within some seconds;
    where it succeeds, they are waited for. After a failure the process must end by `leave`.

    Args:
        place: of this process; None for a program of one process.

    Raises:
        UserError: the place is impossible, or the others cannot be reached.
    """
    global _watch
    if place is None:
        yield
        return
    _initialize(place)
    _watch = watchdog.Watch(distributed.global_state.client, *share(), patience=place.heartbeat)
    try:
        yield
        agree(0)  # from here on nobody has to wait long for anybody
    except UserError as error:
        _watch.tell(str(error), code=2)
        raise
    except BaseException as error:
        if is_out_of_memory(error):
            _watch.tell(f'out of memory ({str(error).splitlines()[0]})', code=2)
            raise
        if isinstance(error, jax.errors.JaxRuntimeError):
            # Where a neighbour's connection breaks, a collective fails; the watch knows whose.
            _watch.wait()
        traceback.print_exc()
        _watch.tell(f'{type(error).__name__}: {error}', code=watchdog.EXIT_LOST)
        leave(130 if isinstance(error, KeyboardInterrupt) else 1)
    _watch.close()
    _watch = None
    jax.distributed.shutdown()


def leave(code: int, *, stuck: bool = False) -> int:
    """Returns an exit code; ends the process at once where others may never come to say goodbye.

    Args:
        code: the exit code.
        stuck: the same for threads of this process.
    """
    if _watch is None and not stuck:
        return code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def share() -> tuple[int, int]:
    """Number of this process, and how many there are."""
    return jax.process_index(), jax.process_count()


def count(wanted: int = 0, *, name: str = 'outer.devices') -> int:
    """Number of devices that a step is spread over, those of all processes.

    Args:
        wanted: how many to use; 0 for all there are.
        name: of the setting, for errors.

    Raises:
        UserError: there are fewer, or they are not shared evenly by several processes.
    """
    there, processes = jax.device_count(), jax.process_count()
    if not 0 <= wanted <= there:
        raise UserError(f'{name}={wanted}: there are {there}; 0 takes them all')
    if processes > 1 and wanted not in (0, there):
        raise UserError(
            f'{name}={wanted}: {processes} processes use all of their {there} devices; set it to 0'
        )
    if jax.local_device_count() * processes != there:
        raise UserError(
            f'{jax.local_device_count()} of {there} devices are in process {jax.process_index()} '
            f'of {processes}: give each process as many'
        )
    return wanted or there


def agree(number: int) -> int:
    """The largest of a number over processes; all must call it, and it waits for them."""
    if jax.process_count() == 1:
        return number
    _meet()
    return int(_largest()(np.full(jax.local_device_count(), number, np.int32)))


def from_first(make: Callable[[], Any]) -> Any:
    """What the first process makes, for all of them; all must call it.

    Args:
        make: called in the first process alone; returns what JSON can hold.
    """
    if jax.process_count() == 1:
        return make()
    made = json.dumps(make()).encode() if is_first() else b''
    size = agree(len(made))
    return json.loads(_broadcast(made or bytes(size)))


def copy_of_first(tree: PyTree) -> PyTree:
    """The tree of the first process, bit for bit, for all of them; all must call it.

    Args:
        tree: arrays and typed keys, of the same shapes and types everywhere.

    Raises:
        UserError: they are not.
    """
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    shapes = [f'{leaf.dtype}{list(leaf.shape)}' for leaf in leaves]
    if shapes != (first := from_first(lambda: shapes)):
        differing = next(pair for pair in itertools.zip_longest(first, shapes) if len({*pair}) > 1)
        raise UserError(
            f'process {share()[0]} has a state of another form than process 0 ({differing[1]} for '
            f'{differing[0]}): start all with the same configuration, data and θ'
        )
    is_key = [jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    arrays = [
        np.asarray(jax.random.key_data(leaf) if key else leaf)
        for leaf, key in zip(leaves, is_key, strict=True)
    ]
    sent = _broadcast(b''.join(array.tobytes() for array in arrays))
    found, offset = [], 0
    for leaf, key, array in zip(leaves, is_key, arrays, strict=True):
        copy = jax.numpy.array(np.frombuffer(sent, array.dtype, array.size, offset))
        copy = copy.reshape(array.shape)
        offset += array.nbytes
        if key:
            copy = jax.random.wrap_key_data(copy, impl=jax.random.key_impl(leaf))
        found.append(copy)
    return jax.tree.unflatten(structure, found)


def check_divisible(styles: int, devices: int) -> None:
    """Raises UserError unless the styles of a step can be shared out evenly."""
    if styles % devices:
        fitting = ', '.join(str(devices * i) for i in (1, 2, 3))
        raise UserError(
            f'{styles} styles a step cannot be shared out over {devices} devices: '
            f'set outer.styles to a multiple of {devices} ({fitting}, ...), or outer.devices'
        )


def replicate(tree: PyTree, devices: int | None = None) -> PyTree:
    """Puts a tree on every device, as `spread` returns it, so that a step is compiled once.

    Args:
        tree: arrays that a step gets whole.
        devices: as given to `spread`.
    """
    # Each process puts its own copy on its own devices: that is what `pmap` gives and takes.
    mesh = jax.sharding.Mesh(jax.local_devices()[:devices], (_AXIS,))
    return jax.device_put(tree, jax.NamedSharding(mesh, jax.P()))


class Sent(NamedTuple):
    """A batch on its way to the devices: leaves `[D, S / D, ...]`, see `put`."""

    parts: PyTree


def put(batch: PyTree, devices: int | None = None) -> Sent:
    """Starts to copy a batch to the devices that `spread` shares it out over.

    Args:
        batch: NumPy leaves `[S, ...]`, of S styles of this process.
        devices: as given to `spread`.

    Returns:
        What `spread` takes in place of the batch, which it would else copy when it is called.

    Raises:
        UserError: S is no multiple of the number of devices of this process.
    """
    chosen = [device for device in jax.devices()[:devices] if device in jax.local_devices()]
    sharding = jax.NamedSharding(jax.sharding.Mesh(chosen, (_AXIS,)), jax.P(_AXIS))
    parts = jax.tree.map(functools.partial(_split, devices=len(chosen)), batch)
    return Sent(jax.device_put(parts, sharding))


def _split(leaf: Any, *, devices: int) -> Any:
    """`[S, ...]` to `[D, S / D, ...]`."""
    check_divisible(leaf.shape[0], devices)
    return leaf.reshape(devices, len(leaf) // devices, *leaf.shape[1:])


def _part(leaf: Any) -> jax.P:
    """How a leaf lies on the devices: parted along its first axis, or whole if it has none."""
    return jax.P(_AXIS) if leaf.ndim else jax.P()


def mean(tree: PyTree) -> PyTree:
    """Mean over devices, inside a function given to `spread`.

    Each device adds up one part of the numbers, in the order of the devices: the sum is the same
    bit for bit however many processes the devices belong to. An all-reduce adds in an order of
    its own, and Adam makes steps of such differences where a gradient is zero but for them.
    """
    devices = jax.lax.axis_size(_AXIS)
    if devices == 1:
        return jax.lax.pmean(tree, _AXIS)
    flat, unravel = jax.flatten_util.ravel_pytree(tree)
    parts = jax.numpy.pad(flat, (0, -flat.size % devices)).reshape(devices, -1)
    parts = jax.lax.all_to_all(parts, _AXIS, split_axis=0, concat_axis=0)
    return unravel(jax.lax.all_gather(parts.mean(0), _AXIS, tiled=True)[: flat.size])


def gather(tree: PyTree) -> PyTree:
    """Leaves `[S / D, ...]` of all devices as `[S, ...]`, inside a function given to `spread`."""
    return jax.lax.all_gather(tree, _AXIS, tiled=True)


def spread(
    step: Callable[..., PyTree], *, shared: int, devices: int | None = None
) -> Callable[..., PyTree]:
    """Runs a step on all devices at once, its last argument shared out over them.

    Args:
        step: called on each device with `shared` arguments that all devices get whole, and with
            its slice of the batch: leaves `[S / D, ...]`. It calls `mean` on what it sums over
            styles, so that its results are equal on all devices.
        shared: number of leading arguments that all devices get whole; put there by `replicate`.
        devices: D; all there are if None.

    Returns:
        `step` for whole batches: leaves `[S, ...]`, S a multiple of D, or what `put` made of them;
        of P processes each gives its share, `[S / P, ...]`. It is compiled once for each set of
        shapes. Its attribute `lower` is that of `jax.jit`'s functions.

    Raises:
        UserError: when called with S no multiple of D.
    """
    chosen = jax.devices()[:devices]
    here = sum(device.process_index == jax.process_index() for device in chosen)
    mapped = jax.pmap(
        step,
        axis_name=_AXIS,
        in_axes=(None,) * shared + (0,),
        out_axes=None,
        devices=chosen,
    )

    def split(batch: PyTree | Sent) -> PyTree:
        if isinstance(batch, Sent):
            return batch.parts
        return jax.tree.map(functools.partial(_split, devices=here), batch)

    compiled: list[Any] = []

    def run(*args: PyTree) -> PyTree:
        if jax.process_count() > 1 and not compiled:  # some take longer to compile than others
            compiled.append(lower(*args).compile())
            _meet()
        return mapped(*args[:shared], split(args[shared]))

    def lower(*args: PyTree) -> Any:
        return mapped.lower(*args[:shared], split(args[shared]))

    run.lower = lower  # type: ignore[attr-defined]
    return run


def divided(
    step: Callable[..., PyTree], *, shared: int, devices: int | None = None
) -> Callable[..., PyTree]:
    """Compiles a step whose styles know nothing of each other, and shares them out over devices.

    Args:
        step: called on each device with `shared` arguments that all devices get whole, then with
            its part of the others: leaves `[S / D, ...]`, scalars whole. It returns the like.
        shared: number of leading arguments that all devices get whole; put there by `replicate`.
        devices: D, which divides S; all there are if None.

    Returns:
        `step` for whole batches: leaves `[S, ...]`. It is compiled once for each set of shapes,
        and reuses the buffers of the first argument that is not shared. Its attribute `cache_size`
        counts the compilations.
    """
    mesh = jax.sharding.Mesh(jax.devices()[:devices], (_AXIS,))

    def specs(tree: PyTree) -> PyTree:
        return jax.tree.map(_part, tree)

    @functools.partial(jax.jit, donate_argnums=shared)
    def compiled(*args: PyTree) -> PyTree:
        mapped = jax.shard_map(
            step,
            mesh=mesh,
            in_specs=(jax.P(),) * shared + specs(args[shared:]),
            out_specs=specs(jax.eval_shape(step, *args)),
            check_vma=False,  # scalars come out equal on all devices, which it cannot know
        )
        return mapped(*args)

    def run(*args: PyTree) -> PyTree:
        # What a step returns can be laid out in other words than what the first one gets; put
        # into the same ones, which moves nothing, it is no reason to compile anew.
        place = lambda leaf: jax.device_put(leaf, jax.NamedSharding(mesh, _part(leaf)))
        return compiled(*args[:shared], *jax.tree.map(place, args[shared:]))

    run.cache_size = compiled._cache_size  # type: ignore[attr-defined]
    return run


def _initialize(place: Place) -> None:
    """Finds the other processes."""
    known = {'--coordinator': place.coordinator, '--processes': place.processes}
    if place.coordinator or place.processes:
        missing = [name for name, value in known.items() if not value]
        if missing:
            raise UserError(
                f'{" and ".join(missing)} must be given too, and --process from 0 on: the same '
                'command for each process but for that number'
            )
        if not 0 <= place.process < place.processes:
            raise UserError(
                f'--process={place.process}: with --processes={place.processes} it must be from 0 '
                f'to {place.processes - 1}'
            )
        if not place.coordinator.rpartition(':')[2].isdecimal():
            raise UserError(
                f'--coordinator={place.coordinator}: write HOST:PORT of the first process'
            )
    if place.heartbeat < 2:
        raise UserError(f'--heartbeat={place.heartbeat}: it must be at least 2 seconds')
    # JAX would take SIGTERM for itself; `command_line.Stop` has it, and `agree` tells the others.
    jax.config.update('jax_enable_preemption_service', False)
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    chosen: dict[str, Any] = {}
    if place.coordinator:
        chosen = {
            'coordinator_address': place.coordinator,
            'num_processes': place.processes,
            'process_id': place.process,
            'cluster_detection_method': 'deactivate',
        }
    try:
        jax.distributed.initialize(
            **chosen,
            initialization_timeout=max(place.heartbeat, 300),
            # The watch is to speak first: it knows who is lost. JAX takes about two thirds of this.
            heartbeat_timeout_seconds=3 * place.heartbeat + 30,
            shutdown_timeout_seconds=3 * place.heartbeat + 30,
        )
    except (RuntimeError, ValueError) as error:
        line = str(error).strip().splitlines()[0]
        raise UserError(
            f'the processes of this run did not find each other ({line}): see that all are '
            'started and that the port of --coordinator is open; give --coordinator, --processes '
            'and --process where --distributed alone finds nothing'
        ) from error
    logging.info(
        'process %d of %d: %d of %d devices',
        *share(),
        jax.local_device_count(),
        jax.device_count(),
    )


@functools.cache
def _largest() -> Callable[[np.ndarray], Any]:
    """Compiles the largest of a number on each device."""
    return jax.pmap(lambda x: jax.lax.pmax(x, _AXIS), axis_name=_AXIS, out_axes=None)


@functools.cache
def _sum() -> Callable[[np.ndarray], Any]:
    """Compiles the sum over devices."""
    return jax.pmap(lambda x: jax.lax.psum(x, _AXIS), axis_name=_AXIS, out_axes=None)


def _broadcast(sent: bytes) -> bytes:
    """The bytes of the first process, for all; those of the others are as many."""
    # One device holds them, and all others zeros.
    buffer = np.zeros((jax.local_device_count(), len(sent)), np.uint8)
    if is_first():
        buffer[0] = np.frombuffer(sent, np.uint8)
    _meet()
    return np.asarray(_sum()(buffer)).tobytes()


def _meet() -> None:
    """Waits for the other processes at JAX's coordinator.

    Gloo, which CPUs use, gives up on a process that comes to a collective 30 s after another one.
    The watch ends the wait for one that is lost.
    """
    if jax.process_count() > 1 and jax.default_backend() == 'cpu':
        name = f'metastyle/meet/{next(_meetings)}'
        store: Any = distributed.global_state.client
        store.wait_at_barrier(name, 24 * 3600 * 1000)
