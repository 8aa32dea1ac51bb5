"""Base class of the sections, types of single values, and words for messages."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Letters, digits, '_', '.', '-'; it becomes a folder."),
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def first_repeated(values) -> Any:
    values = list(values)
    return next(value for i, value in enumerate(values) if value in values[:i])


def listed(names) -> str:
    return ", ".join(sorted(names)) or "none"
