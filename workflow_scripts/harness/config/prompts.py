"""The section ``prompts``: the sets of prompts that models read."""

from typing import Literal

from pydantic import Field, model_validator

from harness.config.values import Name, Strict


class Prompts(Strict):
    """A set of prompts that every model reads."""

    name: Name = Field(description="How paths, tables and figures call the set.")
    kind: Literal["random_tokens", "natural_text"] = Field(
        description="random_tokens: ids drawn uniformly without special ones. natural_text: windows of held-out text, of the "
        "study's corpus for fetched models and of its own data for a model trained here."
    )
    sequences: int = Field(ge=2, description="Number of sequences; a variance needs at least 2.")
    length: int = Field(ge=4, description="Tokens in each sequence.")
    seed: int = Field(0, ge=0, description="Seed of the draw.")
    bos: bool = Field(
        False,
        description="natural_text: begin each sequence with the tokenizer's BOS. Position 0 then has no variance. "
        "Models trained here follow their run's first_token instead.",
    )

    @model_validator(mode="after")
    def _bos_for_text(self):
        if self.bos and self.kind != "natural_text":
            raise ValueError("bos: true is for natural_text; random tokens have none, set it to false")
        return self
