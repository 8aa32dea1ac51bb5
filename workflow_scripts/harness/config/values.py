"""Base class of the sections, types of single values, and words for messages."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sinkorigin.errors import printable

Name = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Letters, digits, '_', '.', '-'; it becomes a folder."),
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def first_repeated(values: Iterable[Any]) -> Any:
    """The first value that was there before, or None."""
    values = list(values)
    return next((value for i, value in enumerate(values) if value in values[:i]), None)


def refuse(sentences: Iterable[str]) -> None:
    """Raise a ValueError that lists these sentences, one a line, if there are any."""
    if lines := list(dict.fromkeys(sentences)):
        raise ValueError("\n".join(map(printable, lines)))


def repeated(key: str, values: Iterable[Any], remedy: str = "; keep one") -> list[str]:
    """A sentence if a value is there twice."""
    twice = first_repeated(values)
    return [] if twice is None else [f"{key} has {twice} twice{remedy}"]


def not_rising(key: str, values: Sequence[int] | Sequence[float]) -> list[str]:
    """A sentence if values fall or repeat."""
    rising = sorted(set(values))
    return [] if list(values) == rising else [f"{key} must rise and not repeat; write {rising}"]


def unknown(key: str, names: Iterable[str], what: str, known: Iterable[str]) -> list[str]:
    """A sentence for each name that is none of the known ones."""
    known = list(known)
    return [f"{key}: {name} is no {what}; known ones are {listed(known)}" for name in names if name not in known]


def listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
