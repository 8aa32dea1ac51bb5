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
    first_token: Literal["drawn", "bos", "fixed"] = Field(
        "drawn",
        description="What stands at position 0. drawn: an ordinary token, which varies. bos: the model's BOS, which is the "
        "end-of-text token of models trained here. fixed: one ordinary token, the same in every sequence. Position 0 has no "
        "variance with bos and fixed. Text of models trained with first_token begins with the end-of-text token under drawn too.",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_bos(cls, raw):
        if isinstance(raw, dict) and "bos" in raw:
            raise ValueError("bos is no key of prompts; write first_token: bos, or first_token: drawn for bos: false")
        return raw
