"""The section ``interventions``: edits of a model's forward pass. What a kind is, its class says."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from harness.config.values import Name, Strict, first_repeated, not_rising, refuse, repeated
from sinkorigin.interventions.kind import kind_named
from sinkorigin.interventions.layers import RULES
from sinkorigin.interventions.registry import KINDS

PACKAGE = "sinkorigin.interventions.kinds"

FEWEST_SEQUENCES = 8  # sequences of an intervention: with fewer, its intervals among many comparisons mean nothing

LAYER_RULES = tuple(RULES)

Index = Annotated[int, Field(ge=0)]
Indices = Annotated[list[Index], Field(min_length=1)]


def _list_or_one(value: Any) -> str:
    """Which of two types a value is checked as; with a plain union, messages would speak of both."""
    return "list" if isinstance(value, list) else "one"


Rule = Literal[*LAYER_RULES]  # type: ignore[valid-type]
Layers = Annotated[Annotated[Rule, Tag("one")] | Annotated[Indices, Tag("list")], Discriminator(_list_or_one)]
Target = Annotated[Annotated[Index, Tag("one")] | Annotated[Indices, Tag("list")], Discriminator(_list_or_one)]


class Intervention(Strict):
    """One kind of edit at some layers, at one or more positions and strengths."""

    name: Name = Field(description="How paths, tables and figures call the intervention.")
    kind: Literal[KINDS] = Field(description="The edit, see docs/science.md.")  # type: ignore[valid-type]
    models: list[str] | None = Field(
        None,
        min_length=1,
        description="Models to edit, by name; null takes all of `models` and their random-weight controls, but none of those "
        "trained here.",
    )
    controls: bool = Field(
        True, description="Where models is null: whether the random-weight controls are edited as well."
    )
    prompts: list[str] | None = Field(
        None, min_length=1, description="Prompt sets to run, by name; null takes the first of `prompts`."
    )
    layers: Layers | None = Field(
        None,
        description="Layers to edit: numbers, counted from 0, or a rule by which each model's are found. "
        + "".join(f"{word}: {rule.description}. " for word, rule in RULES.items())
        + "null: until_onset; super_neuron_ablation: every layer in which super neurons raise the norm.",
    )
    positions: list[Target] = Field(
        min_length=1,
        description="Target positions, counted from 0, each edited by itself; a list among them is edited at once.",
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
    site: Literal["value_aggregation", "output_projection_output", "attention_output"] = Field(
        "value_aggregation",
        description="Where vectors are edited: before W_O, after it, or what is added to the residual stream, which in Gemma and OLMo 2 "
        "lies behind a norm.",
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
        return sorted({k for some in self.positions for k in (some if isinstance(some, list) else [some])})

    @model_validator(mode="after")
    def _consistent(self):
        refuse(self._problems())
        needs = kind_named(self.kind).needs
        if self.layers is None and not (needs and needs.finds_layers):
            return self.model_copy(update={"layers": "until_onset"})
        return self

    def _problems(self) -> Iterator[str]:
        """A sentence for everything that the kind does not take, or that is given twice."""
        kind = kind_named(self.kind)
        if not kind.takes("strength") and self.strengths != [1.0]:
            yield f"{self.kind} has no strength; leave strengths out"
        yield from repeated("strengths", (f"{strength:g}" for strength in self.strengths))  # as folders are called
        if (twice := first_repeated(self.mean_factors or [])) is not None:
            yield f"mean_factors has {twice:g} twice; keep one"
        together = [positions if isinstance(positions, list) else [positions] for positions in self.positions]
        for positions in together:
            yield from not_rising("positions edited at once", positions)
        yield from repeated("positions", (", ".join(map(str, positions)) for positions in together))
        if kind.takes("mean_factor") != (self.mean_factors is not None):
            yield f"mean_factors is for {_kinds_that_take('mean_factor')}, which needs it; add or delete it"
        if self.to is not None and not kind.takes("to"):
            yield f"to is for {_kinds_that_take('to')}, not for {self.kind}; delete it"
        if self.site != "value_aggregation" and not kind.takes("site"):
            yield f"{self.kind} has no other site; leave site out"
        if self.calibration == 1:
            yield "calibration is 1, but a mean over sequences needs at least 2; raise it, or write 0"
        if self.calibration and not kind.takes_mean:
            yield f"{self.kind} takes no mean over sequences; leave calibration out"
        if refusal := kind.refusal(self.targets, self.strengths):
            yield refusal

    def runs_on(self, model: str, prompts: str) -> bool:
        """Whether it edits a model on a prompt set; of an entry whose nulls the study has filled in."""
        return model in (self.models or ()) and prompts in (self.prompts or ())

    @property
    def mixed(self) -> int:
        """Number of sequences of a batch that it mixes."""
        return max(map(kind_named(self.kind).mixes, self.strengths))


def smallest_batch(sequences: int, batch: int) -> int:
    """Size of the smallest batch of an intervention: all are equal, give or take one, and at most ``batch``."""
    return sequences // -(-sequences // batch)


def _kinds_that_take(parameter: str) -> str:
    return ", ".join(kind for kind in KINDS if kind_named(kind).takes(parameter))


def kinds_of(interventions: Iterable[Intervention]) -> list[str]:
    """Kinds of some interventions, in the order of figures."""
    return sorted({edit.kind for edit in interventions}, key=KINDS.index)


def kind_modules(interventions: Iterable[Intervention]) -> list[str]:
    """Modules of their kinds, which scripts import by name."""
    return [f"{PACKAGE}.{kind}" for kind in kinds_of(interventions)]


def tables_needed(interventions: Iterable[Intervention]) -> list[str]:
    """Tables of statistics that some interventions are computed from."""
    needs = [kind_named(kind).needs for kind in kinds_of(interventions)]
    return list(dict.fromkeys(need.table for need in needs if need is not None))


def intervention_figures(interventions: Iterable[Intervention]) -> list[str]:
    """Figures of the interventions, each only where there is an edit that it shows."""
    interventions = list(interventions)
    kinds = [kind_named(name) for name in kinds_of(interventions)]
    later = [kind_named(name) for name in kinds_of(edit for edit in interventions if any(edit.targets))]
    shown = {
        "sink_by_intervention": any(kind.look for kind in later),
        "intervention_contrasts": {kind.control_of for kind in later} & {kind.kind for kind in later},
        "conversion_curves": {kind.control_of for kind in later if kind.has_doses()} & {kind.kind for kind in later},
        "mask_by_layers_and_position": any(kind.compared_at == "layers" for kind in later),
        "edited_layers": any(kind.look and kind.look.dashes is not None for kind in later),
        "dispersion_grid": any(kind.takes("mean_factor") for kind in kinds),
        "necessity": any(0 in edit.targets for edit in interventions),
    }
    return [name for name, found in shown.items() if found]
