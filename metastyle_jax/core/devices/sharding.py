"""Divides the styles of one step among devices. Only this module uses `jax.pmap` and meshes.

One outer step uses S styles. Each of the D devices gets S / D of them and averages their
meta-gradients, and `mean` then averages over the devices. Everything else, such as the training
state and the loss network, is equal on all devices.

With several processes (see `processes`), the D devices belong to all processes together. Each
process reads only the styles of its own devices.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import numpy as np

from metastyle_jax.core import jax_compat
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import PyTree

_AXIS = 'devices'
_BARRIER_TIMEOUT = 24 * 3600 * 1000  # milliseconds
# Numbers the barriers: all processes reach the same barriers in the same order.
_barrier_numbers = itertools.count()


class PlacedBatch(NamedTuple):
    """A batch that `put` has begun to copy to the devices.

    Attributes:
        parts: leaves `[D, S / D, ...]`, one part for each of the D devices of this process.
    """

    parts: PyTree


def count(wanted: int = 0, *, name: str = 'outer.devices') -> int:
    """Returns the number of devices that a step runs on, over all processes together.

    Args:
        wanted: number of devices to use; 0 for all.
        name: name of the setting that holds `wanted`, for messages.

    Raises:
        UserError: there are fewer devices than `wanted`, `wanted` is a part of the devices of
            several processes, or the processes have different numbers of devices.
    """
    available, processes = jax.device_count(), jax.process_count()
    if not 0 <= wanted <= available:
        raise UserError(f'{name}={wanted}: there are {available} devices; 0 uses all of them')
    if processes > 1 and wanted not in (0, available):
        raise UserError(
            f'{name}={wanted}: {processes} processes always use all of their {available} devices; '
            'set it to 0'
        )
    if jax.local_device_count() * processes != available:
        raise UserError(
            f'process {jax.process_index()} of {processes} has {jax.local_device_count()} of the '
            f'{available} devices: give every process the same number of devices'
        )
    return wanted or available


def check_divisible(styles: int, devices: int) -> None:
    """Raises UserError unless every device gets the same number of styles."""
    if styles % devices:
        fitting = ', '.join(str(devices * i) for i in (1, 2, 3))
        raise UserError(
            f'{styles} styles a step cannot be shared out over {devices} devices: '
            f'set outer.styles to a multiple of {devices} ({fitting}, ...), or outer.devices'
        )


def replicate(tree: PyTree, devices: int | None = None) -> PyTree:
    """Copies a pytree to every device.

    `spread` returns its results in the same layout. A step whose first arguments come from
    `replicate` is therefore compiled only once.

    Args:
        tree: arrays that each device gets completely.
        devices: the same number as for `spread`.
    """
    # Each process puts its own copy on its own devices: this is the layout that `pmap` uses.
    mesh = jax.sharding.Mesh(jax.local_devices()[:devices], (_AXIS,))
    return jax.device_put(tree, jax.NamedSharding(mesh, jax.P()))


def put(batch: PyTree, devices: int | None = None) -> PlacedBatch:
    """Starts to copy a batch to the devices, while they still compute the step before.

    Args:
        batch: NumPy leaves `[S, ...]`, for the S styles of this process.
        devices: the same number as for `spread`.

    Returns:
        A `PlacedBatch`, which a function from `spread` accepts instead of the batch.

    Raises:
        UserError: S is not a multiple of the number of devices of this process.
    """
    chosen = [device for device in jax.devices()[:devices] if device in jax.local_devices()]
    sharding = jax.NamedSharding(jax.sharding.Mesh(chosen, (_AXIS,)), jax.P(_AXIS))
    parts = jax.tree.map(functools.partial(_split, devices=len(chosen)), batch)
    return PlacedBatch(jax.device_put(parts, sharding))


def mean(tree: PyTree) -> PyTree:
    """Computes the mean over all devices; to be called inside a step for `spread`.

    The result is bitwise equal for any number of processes, because each device adds up one part of
    the numbers in the order of the devices. An all-reduce would choose its own order, and rounding
    would differ. Where the exact gradient is zero, Adam would turn this difference into full steps.
    """
    devices = jax.lax.axis_size(_AXIS)
    if devices == 1:
        return jax.lax.pmean(tree, _AXIS)
    flat, unravel = jax.flatten_util.ravel_pytree(tree)
    parts = jax.numpy.pad(flat, (0, -flat.size % devices)).reshape(devices, -1)
    parts = jax.lax.all_to_all(parts, _AXIS, split_axis=0, concat_axis=0)
    return unravel(jax.lax.all_gather(parts.mean(0), _AXIS, tiled=True)[: flat.size])


def gather(tree: PyTree) -> PyTree:
    """Joins leaves `[S / D, ...]` of all devices to `[S, ...]`; to be called inside a step."""
    return jax.lax.all_gather(tree, _AXIS, tiled=True)


def spread(
    step: Callable[..., PyTree], *, shared: int, devices: int | None = None
) -> Callable[..., PyTree]:
    """Makes a function that runs a step on all devices; each device gets a part of the batch.

    Args:
        step: function `(*shared arguments, batch)` that runs on each device. The device gets the
            complete shared arguments and its part of the batch, leaves `[S / D, ...]`. Results must
            be equal on all devices, so `step` must call `mean` on everything that it averages over
            styles.
        shared: number of shared arguments. `replicate` copies them to the devices.
        devices: D, the number of devices; None for all.

    Returns:
        A function with the arguments of `step` for whole batches: leaves `[S, ...]` with S a
        multiple of D, or a `PlacedBatch`. With P processes, each process passes its own
        `[S / P, ...]`. The function is compiled once for each set of shapes. Its method `lower`
        works like that of a function from `jax.jit`. It raises UserError if S is not a multiple
        of D.
    """
    chosen = jax.devices()[:devices]
    local = sum(device.process_index == jax.process_index() for device in chosen)
    mapped = jax.pmap(
        step,
        axis_name=_AXIS,
        in_axes=(None,) * shared + (0,),
        out_axes=None,
        devices=chosen,
    )

    def split(batch: PyTree | PlacedBatch) -> PyTree:
        if isinstance(batch, PlacedBatch):
            return batch.parts
        return jax.tree.map(functools.partial(_split, devices=local), batch)

    compiled: list[Any] = []

    def run(*args: PyTree) -> PyTree:
        # Processes take different times to compile, and the first collective would not wait.
        if jax.process_count() > 1 and not compiled:
            compiled.append(lower(*args).compile())
            barrier()
        return mapped(*args[:shared], split(args[shared]))

    def lower(*args: PyTree) -> Any:
        return mapped.lower(*args[:shared], split(args[shared]))

    run.lower = lower  # type: ignore[attr-defined]
    return run


def divided(
    step: Callable[..., PyTree], *, shared: int, devices: int | None = None
) -> Callable[..., PyTree]:
    """Makes a function that runs a step on all devices, for styles that are independent.

    In contrast to `spread`, the results stay divided among the devices: each device returns the
    results of its own styles.

    Args:
        step: function `(*shared arguments, *others)` that runs on each device. The device gets the
            complete shared arguments, and its part of the others: leaves `[S / D, ...]`, and
            complete scalars. Its results have the same form as the others.
        shared: number of shared arguments. `replicate` copies them to the devices.
        devices: D, the number of devices, which divides S; None for all.

    Returns:
        A function with the arguments of `step` for whole batches: leaves `[S, ...]`. It is compiled
        once for each set of shapes, and it reuses the memory of the first argument that is not
        shared. Its attribute `cache_size` is a function that returns the number of compilations.
    """
    mesh = jax.sharding.Mesh(jax.devices()[:devices], (_AXIS,))

    def specs(tree: PyTree) -> PyTree:
        return jax.tree.map(_partition_spec, tree)

    @functools.partial(jax.jit, donate_argnums=shared)
    def compiled(*args: PyTree) -> PyTree:
        mapped = jax.shard_map(
            step,
            mesh=mesh,
            in_specs=(jax.P(),) * shared + specs(args[shared:]),
            out_specs=specs(jax.eval_shape(step, *args)),
            check_vma=False,  # JAX cannot prove that scalars come out equal on all devices
        )
        return mapped(*args)

    def run(*args: PyTree) -> PyTree:
        # JAX may describe the same layout differently for the first arguments and for results
        # that come back as arguments. One description avoids a second compilation; nothing moves.
        place = lambda leaf: jax.device_put(leaf, jax.NamedSharding(mesh, _partition_spec(leaf)))
        return compiled(*args[:shared], *jax.tree.map(place, args[shared:]))

    run.cache_size = functools.partial(jax_compat.compilations, compiled)  # type: ignore[attr-defined]
    return run


def largest_of_processes(number: int) -> int:
    """Returns the largest of the numbers that the processes pass; every process must call it."""
    barrier()
    return int(_compiled_maximum()(np.full(jax.local_device_count(), number, np.int32)))


def bytes_of_first_process(data: bytes) -> bytes:
    """Returns the bytes that the first process passes. Every process must call this function.

    Args:
        data: bytes of the same length in all processes; only those of the first process are used.
    """
    # One device of the first process holds the bytes, all others zeros: the sum is the bytes.
    buffer = np.zeros((jax.local_device_count(), len(data)), np.uint8)
    if jax.process_index() == 0:
        buffer[0] = np.frombuffer(data, np.uint8)
    barrier()
    return np.asarray(_compiled_sum()(buffer)).tobytes()


def barrier() -> None:
    """Waits until all processes have reached this point; needed before a collective on CPU.

    Gloo, the collectives library for CPUs, gives up if another process is 30 s late. A barrier of
    JAX's coordinator waits longer. If a process is lost, `watchdog` ends the wait.
    """
    if jax.process_count() > 1 and jax.default_backend() == 'cpu':
        name = f'metastyle/meet/{next(_barrier_numbers)}'
        jax_compat.coordinator_client().wait_at_barrier(name, _BARRIER_TIMEOUT)


@functools.cache
def _compiled_maximum() -> Callable[[np.ndarray], Any]:
    """Compiles `[devices] -> scalar`, the maximum over the devices of all processes."""
    return jax.pmap(lambda x: jax.lax.pmax(x, _AXIS), axis_name=_AXIS, out_axes=None)


@functools.cache
def _compiled_sum() -> Callable[[np.ndarray], Any]:
    """Compiles `[devices, ...] -> [...]`, the sum over the devices of all processes."""
    return jax.pmap(lambda x: jax.lax.psum(x, _AXIS), axis_name=_AXIS, out_axes=None)


def _split(leaf: Any, *, devices: int) -> Any:
    """Reshapes `[S, ...]` to `[D, S / D, ...]`."""
    check_divisible(leaf.shape[0], devices)
    return leaf.reshape(devices, len(leaf) // devices, *leaf.shape[1:])


def _partition_spec(leaf: Any) -> jax.P:
    """Returns the sharding of a leaf: divided along its first axis; a scalar is not divided."""
    return jax.P(_AXIS) if leaf.ndim else jax.P()
