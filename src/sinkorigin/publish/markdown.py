"""Markdown of the cards."""

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"[\\`*_\[\]<>|#]")
_BAR = re.compile(r"(?<!\\)\|")  # that of escaped text has its backslash


def escaped(text: str) -> str:
    """Text of a user, such as a label, on one line, so that Markdown shows it as it is and makes no link, tag or emphasis of it."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.splitlines()))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a bar in a cell is written so that it ends none."""
    body = [[_BAR.sub(r"\\|", str(cell)).replace("\n", " ") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in [list(head), *body]]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def quoted(text: str) -> str:
    """A name in the form of code."""
    return f"`{text}`"


def joined(words: Iterable[str]) -> str:
    """Words as a list in a sentence: "a, b and c", or "none"."""
    *most, last = list(words) or ["none"]
    return f"{', '.join(most)} and {last}" if most else last
