"""The one exception type for everything that a user can cause and fix, and what its sentences are made of."""

from collections.abc import Iterable
from itertools import islice
from typing import Any


class SinkoriginError(Exception):
    """A mistake or a lack outside the program.

    The message is one sentence for the user: what is wrong, where (file, key, model, value), and what to do.
    Scripts print it without a traceback and exit with status 1.
    """


class DivergedError(SinkoriginError):
    """A training whose loss is no number any more: a sweep of learning rates records it and goes on."""


def listed(names: Iterable[Any], most: int = 8) -> str:
    """The first ``most`` names and how many more there are, or "none"."""
    names = list(map(str, names))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(islice(names, most)) + more) or "none"


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its type where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)
