"""Memory that was freed, given back to the operating system."""

import ctypes
from collections.abc import Callable
from functools import cache


@cache
def _trim() -> Callable[[int], int] | None:
    """The C library's ``malloc_trim``; None where it has none, as outside glibc."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None


def give_back_freed_memory() -> None:
    """Give freed memory back, where the C library can.

    glibc keeps what a thread frees in blocks of up to 32 MB, in pieces that do not fit the next layer's vectors, so that a pass over a long
    prompt would end with the vectors of all layers in memory although nothing refers to them.
    """
    trim = _trim()
    if trim is not None:
        trim(0)
