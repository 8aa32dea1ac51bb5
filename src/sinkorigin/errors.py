"""The exception for everything that a user can cause and fix, and functions for the sentences that it says."""

import errno
from collections.abc import Iterable
from itertools import islice
from typing import Any

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors of the system that a full disk causes."""


class SinkoriginError(Exception):
    """A mistake outside the program, or something that it lacks.

    The message is one sentence for the user: what is wrong, where (file, key, model, value), and what to do.
    Scripts print it without a traceback and exit with status 1.
    """


class DivergedError(SinkoriginError):
    """A training whose loss is not a number any more; a sweep of learning rates records it and continues."""


class NotApplicableError(SinkoriginError):
    """Something that a model or its prompts lack, so that one measurement is not defined there, and all others are.

    The message is the reason, as a table has it: no place and no remedy, since nobody made a mistake.
    """


def listed(names: Iterable[Any], most: int = 8) -> str:
    """The first ``most`` names and the number of further ones, or "none"."""
    names = list(map(str, names))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(islice(names, most)) + more) or "none"


def first_line(error: BaseException) -> str:
    """First line of an exception's message, or its type where it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)
