"""Settings of the process that have nothing to do with JAX, and import none of it."""

import ctypes


def keep() -> None:
    """Keeps freed memory within the process, for programs that run one step again and again.

    By default the GNU allocator gives a step's gigabytes back to the system, which then has to
    hand them out anew, zeroed, page by page: up to a fifth of a step. Call it before JAX starts
    its backend; with other allocators it does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    # M_ARENA_MAX: one arena for all threads; M_MMAP_MAX: nothing apart; M_TRIM_THRESHOLD: off.
    for option, value in ((-8, 1), (-4, 0), (-1, -1)):
        mallopt(option, value)
