"""The exception for everything that a user can cause and fix, and functions for the sentences that it says."""

import errno
from collections.abc import Iterable
from itertools import islice
from typing import Any
from unicodedata import category

_LONGEST = 300  # characters of what a library says; a damaged name may have any number

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors of the system that a full disk causes."""


class SinkoriginError(Exception):
    """A mistake outside the program, or something that it lacks.

    The message is one sentence for the user: what is wrong, where (file, key, model, value), and what to do. Scripts print it without a
    traceback and exit with status 1. Of several sentences, such as those on a config, each has a line.
    """

    def __init__(self, *sentences: str):
        super().__init__("\n".join(map(printable, sentences)))


def printable(sentence: str) -> str:
    """A sentence in which characters that end a line, steer a terminal or cannot be printed are escaped: it may have names of a damaged file."""
    return "".join(
        one if one.isprintable() or category(one) == "Zs" else one.encode("unicode_escape").decode() for one in sentence
    )


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
    """First line of an exception's message, cut off after 300 characters, or its type where it has none."""
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
