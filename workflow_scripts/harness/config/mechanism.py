"""The section ``mechanism``: which edits are followed through the chain, link by link."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from harness.config.interventions import FEWEST_SEQUENCES, Index
from harness.config.values import Strict, refuse, repeated


class Mechanism(Strict):
    """Mediation of edits, interchange of positions, and removals from position 0 (docs/science.md)."""

    causes: list[str] = Field(
        [],
        description="Interventions whose effect is followed, by name: of those models and prompt sets that they edit. None leaves all of "
        "this out.",
    )
    strength: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        8.0, description="Strength at which causes that have one are made."
    )
    position: Index = Field(10, description="Position that the causes edit, and that exchanges with position 0.")
    prompts: list[str] | None = Field(
        None,
        min_length=1,
        description="Prompt sets, by name; null takes all on which a cause is made and that are long and many enough.",
    )
    sequences: int = Field(24, ge=FEWEST_SEQUENCES, description="Run the first so many sequences of the prompt set.")
    seed: int = Field(0, ge=0, description="Seed of the random neurons and dims that removals are held against.")

    @model_validator(mode="after")
    def _consistent(self):
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[str]:
        yield from repeated("causes", self.causes)
        if self.position < 2:
            yield f"position is {self.position}, but it is to be later than positions 0 and 1, which are looked at beside it; write 2 or above"
