"""Markdown of the cards."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a bar in a cell is written so that it ends none."""
    body = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in [list(head), *body]]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def quoted(text: str) -> str:
    """A name in the form of code."""
    return f"`{text}`"


def number(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}".replace("-", "−")


def joined(words: Iterable[str]) -> str:
    """Words as a list in a sentence: "a, b and c", or "none"."""
    *most, last = list(words) or ["none"]
    return f"{', '.join(most)} and {last}" if most else last
