"""The private and unstable parts of JAX that this package needs, in one place.

No other module imports `jax._src`, `jax.interpreters` or `jax.extend`, or reads attributes of JAX
that its documentation does not promise. When a new release of JAX breaks something, the repair
belongs here. Supported are the releases 0.10.2 to 0.12.
"""

from typing import Any

from jax._src import distributed


def coordinator_client() -> Any:
    """Client of the key-value store and the barriers of JAX's coordinator.

    The coordinator runs in the first process after `jax.distributed.initialize`; before that call
    there is no client, and the result is None.
    """
    return distributed.global_state.client


def compilations(jitted: Any) -> int:
    """Number of programs that a function returned by `jax.jit` has compiled so far."""
    return jitted._cache_size()
