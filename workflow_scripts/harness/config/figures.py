"""The section ``figures``: how figures are drawn."""

from typing import Annotated, Literal

from pydantic import Field

from harness.config.values import Strict


class Figures(Strict):
    """How figures are drawn."""

    formats: list[Literal["svg", "png", "pdf"]] = Field(["svg", "png"], min_length=1, description="File formats.")
    variance_layers: list[Annotated[int, Field(ge=0)]] = Field(
        [0, 1, 2], min_length=1, description="Layers shown in the figure of variance by position."
    )
