"""Settings of the C memory allocator. This module does not import JAX."""

import ctypes

# Options of `mallopt` in the GNU C library, and their values.
_OPTIONS = (
    (-8, 1),  # M_ARENA_MAX: one memory pool for all threads
    (-4, 0),  # M_MMAP_MAX: no block gets a mapping of its own, which freeing would give back
    (-1, -1),  # M_TRIM_THRESHOLD: free memory at the end of the heap is never given back
)


def keep_freed_memory() -> None:
    """Makes the process keep freed memory for itself, for programs that repeat one large step.

    By default the GNU allocator returns large freed blocks to the operating system. In the next
    step the system must provide them again and fill them with zeros, page by page, which takes a
    noticeable part of the step. Call this function before JAX starts its backend. With other
    allocators it does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for option, value in _OPTIONS:
        mallopt(option, value)
