"""The base class of errors that the user can fix, and a test for out-of-memory errors.

This module imports only `sys`, so that a command can report an error without loading JAX.
"""

import sys


class UserError(ValueError):
    """An error that the user can fix.

    The message names the offending value and the remedy in one or two sentences. Commands print it
    without a traceback and end with exit code 2.
    """


def is_out_of_memory(error: BaseException) -> bool:
    """Whether JAX raised the error because the memory of a device is full."""
    jax = sys.modules.get('jax')
    if jax is None or not isinstance(error, jax.errors.JaxRuntimeError):
        return False
    return any(phrase in str(error) for phrase in ('RESOURCE_EXHAUSTED', 'Out of memory'))
