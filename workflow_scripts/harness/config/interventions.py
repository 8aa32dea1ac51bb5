"""The section ``interventions``: edits of a model's forward pass."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from harness.config.values import Name, Strict, first_repeated

FEWEST_SEQUENCES = 8  # sequences of an intervention: with fewer, its intervals among many comparisons mean nothing


class Intervention(Strict):
    """One kind of edit at some layers, at one or more positions and strengths."""

    name: Name = Field(description="How paths, tables and figures call the intervention.")
    kind: Literal[
        "mask",
        "variance_amplification",
        "norm_control",
        "mean_and_deviation",
        "random_directions",
        "mean_shift",
        "shuffled_deviations",
        "variance_matching",
        "value_averaging",
        "super_neuron_ablation",
        "dominating_dims",
    ] = Field(description="The edit, see docs/science.md.")
    models: list[str] = Field(min_length=1, description="Models to edit, by name.")
    prompts: list[str] = Field(min_length=1, description="Prompt sets to run, by name.")
    layers: list[Annotated[int, Field(ge=0)]] | None = Field(
        None,
        min_length=1,
        description="Layers to edit, counted from 0; super_neuron_ablation: null takes all that have super neurons.",
    )
    positions: list[Annotated[int, Field(ge=0)] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]] = (
        Field(
            min_length=1,
            description="Target positions, counted from 0, each edited by itself; a list among them is edited at once.",
        )
    )
    strengths: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        [1.0],
        min_length=1,
        description="The λ of the edit; value_averaging: the number of value vectors; other kinds have none.",
    )
    mean_factors: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = Field(
        None,
        min_length=1,
        description="mean_and_deviation: the α that the mean is multiplied with, for every strength.",
    )
    site: Literal["value_aggregation", "attention_output"] = Field(
        "value_aggregation", description="Where vectors are edited: before or after W_O."
    )
    to: Literal["mean", "zero"] | None = Field(
        None, description="dominating_dims: what the dims are set to, their mean over sequences (the default) or zero."
    )
    sequences: int | None = Field(
        None,
        ge=FEWEST_SEQUENCES,
        description="Run the first so many sequences of the prompt set, the same number in all interventions of a model; "
        "null runs all but those set apart.",
    )
    calibration: int = Field(
        0,
        ge=0,
        description="Set so many sequences apart, the last ones, and take means over them only; 0 takes means over those run.",
    )

    @property
    def targets(self) -> list[int]:
        """Every position that it edits, rising."""
        return sorted({k for own in self.positions for k in (own if isinstance(own, list) else [own])})

    @model_validator(mode="after")
    def _consistent(self):
        if self.kind not in STRENGTH_KINDS and self.strengths != [1.0]:
            raise ValueError(f"{self.kind} has no strength; leave strengths out")
        if len({f"{strength:g}" for strength in self.strengths}) < len(self.strengths):  # as folders are called
            repeated = first_repeated(f"{strength:g}" for strength in self.strengths)
            raise ValueError(f"strengths has {repeated} twice; keep one")
        if self.mean_factors is not None and len(set(self.mean_factors)) < len(self.mean_factors):
            raise ValueError(f"mean_factors has {first_repeated(self.mean_factors):g} twice; keep one")
        for own in self.positions:
            if isinstance(own, list) and own != sorted(set(own)):
                raise ValueError(f"positions edited at once must rise and not repeat; write {sorted(set(own))}")
        together = [own if isinstance(own, list) else [own] for own in self.positions]
        if any(own in together[:i] for i, own in enumerate(together)):
            raise ValueError(f"positions has {', '.join(map(str, first_repeated(together)))} twice; keep one")
        if (self.kind == "mean_and_deviation") != (self.mean_factors is not None):
            raise ValueError("mean_factors is for mean_and_deviation, which needs it; add or delete it")
        if self.to is not None and self.kind != "dominating_dims":
            raise ValueError(f"to is for dominating_dims, not for {self.kind}; delete it")
        if self.site != "value_aggregation" and self.kind not in VECTOR_KINDS:
            raise ValueError(f"{self.kind} has no other site; leave site out")
        if self.layers is None and self.kind != "super_neuron_ablation":
            raise ValueError("layers is missing; add the layers to edit")
        if self.calibration == 1:
            raise ValueError("calibration is 1, but a mean over sequences needs at least 2; raise it, or write 0")
        if self.calibration and self.kind not in MEAN_KINDS:
            raise ValueError(f"{self.kind} takes no mean over sequences; leave calibration out")
        if self.kind == "mask" and 0 in self.targets:
            raise ValueError(
                "position 0 attends to itself only anyway, a mask changes nothing; choose positions above 0"
            )
        if self.kind == "value_averaging":
            for count in self.strengths:
                if count != int(count) or count < 2:
                    raise ValueError(
                        f"strengths of value_averaging are numbers of vectors, not {count:g}; write whole numbers from 2"
                    )
        if self.kind in ("variance_matching", "dominating_dims") and len(self.targets) > 1:
            raise ValueError(f"{self.kind} edits one position; write one, and an intervention for each other")
        return self


# kinds of intervention: with a strength; that edit vectors at a site of choice; that take a mean over sequences
STRENGTH_KINDS = frozenset(
    (
        "variance_amplification",
        "norm_control",
        "mean_and_deviation",
        "random_directions",
        "mean_shift",
        "shuffled_deviations",
        "value_averaging",
    )
)
VECTOR_KINDS = STRENGTH_KINDS | {"variance_matching"}
MEAN_KINDS = VECTOR_KINDS - {"norm_control", "value_averaging"} | {"dominating_dims"}
