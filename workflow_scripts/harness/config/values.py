"""Base class of the sections, types of single values, and words for messages."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

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


def check_distinct(key: str, values: Iterable[Any], remedy: str = "; keep one") -> None:
    if (twice := first_repeated(values)) is not None:
        raise ValueError(f"{key} has {twice} twice{remedy}")


def check_rising(key: str, values: Sequence[int] | Sequence[float]) -> None:
    if list(values) != sorted(set(values)):
        raise ValueError(f"{key} must rise and not repeat; write {sorted(set(values))}")


def check_known(key: str, name: str, what: str, known: Iterable[str]) -> None:
    if name not in known:
        raise ValueError(f"{key}: {name} is no {what}; known ones are {listed(known)}")


def listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
