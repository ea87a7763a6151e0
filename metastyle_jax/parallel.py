"""Styles over the devices of one process: the only file that names devices, `pmap` or meshes.

One outer step sees S styles. They are shared out evenly over the devices, each device averages
the meta-gradients of its own, and one mean over devices follows. Everything else, the state
included, is the same on every device.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax

from metastyle_jax.types import PyTree, UserError

_AXIS = 'devices'


def count(wanted: int = 0, *, name: str = 'outer.devices') -> int:
    """Number of devices that a step is spread over.

    Args:
        wanted: how many to use; 0 for all there are.
        name: of the setting, for errors.

    Raises:
        UserError: there are fewer, or the program runs in several processes.
    """
    if jax.process_count() > 1:
        raise UserError(f'{jax.process_count()} processes: styles are shared out within one only')
    there = jax.device_count()
    if not 0 <= wanted <= there:
        raise UserError(f'{name}={wanted}: there are {there}; 0 takes them all')
    return wanted or there


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
    mesh = jax.sharding.Mesh(jax.devices()[:devices], (_AXIS,))
    return jax.device_put(tree, jax.NamedSharding(mesh, jax.P()))


def _part(leaf: Any) -> jax.P:
    """How a leaf lies on the devices: parted along its first axis, or whole if it has none."""
    return jax.P(_AXIS) if leaf.ndim else jax.P()


def mean(tree: PyTree) -> PyTree:
    """Mean over devices, inside a function given to `spread`."""
    return jax.lax.pmean(tree, _AXIS)


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
        `step` for whole batches: leaves `[S, ...]`, S a multiple of D. It is compiled once for
        each set of shapes. Its attribute `lower` is that of `jax.jit`'s functions.

    Raises:
        UserError: when called with S no multiple of D.
    """
    chosen = jax.devices()[:devices]
    mapped = jax.pmap(
        step,
        axis_name=_AXIS,
        in_axes=(None,) * shared + (0,),
        out_axes=None,
        devices=chosen,
    )

    def split(leaf: Any) -> Any:
        check_divisible(leaf.shape[0], len(chosen))
        return leaf.reshape(len(chosen), len(leaf) // len(chosen), *leaf.shape[1:])

    def run(*args: PyTree) -> PyTree:
        return mapped(*args[:shared], jax.tree.map(split, args[shared]))

    def lower(*args: PyTree) -> Any:
        return mapped.lower(*args[:shared], jax.tree.map(split, args[shared]))

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
