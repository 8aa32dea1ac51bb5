"""Treatments against their controls, paired by sequence."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from sinkorigin import tables
from sinkorigin.interventions.layers import is_later, main_layers
from sinkorigin.interventions.schemas import NUMBERS
from sinkorigin.statistics.bootstrap import joined
from sinkorigin.statistics.effects import COMPARISONS, Effect, effect_size, estimated
from sinkorigin.statistics.shared_columns import KEYS, among_all, estimate

SCHEMA = tables.schema(
    **KEYS,
    treatment=(pa.string(), "name of an intervention"),
    control=(pa.string(), "name of the one that it is held against"),
    treatment_kind=(pa.string(), "its kind"),
    control_kind=(pa.string(), "kind of the control"),
    strength=(pa.float64(), "strength of both"),
    layers=(NUMBERS, "edited layers"),
    control_layers=(NUMBERS, "those of the control"),
    site=(pa.string(), "edited site"),
    control_site=(pa.string(), "that of the control"),
    positions=(NUMBERS, "positions that both edit at once"),
    target=(pa.int32(), "edited position k"),
    sequences=(pa.int32(), "number of sequences that both ran"),
    score=(
        pa.float64(),
        "mean score at the target of the treatment; of masks, over the layers that the edit can reach",
    ),
    control_score=(pa.float64(), "and of the control"),
    **estimate("difference", "mean over sequences of their difference"),
    **among_all("difference"),
    **estimate("effect_size", "difference / its standard deviation over sequences (Cohen's d_z)"),
    overlap=(pa.bool_(), "whether the two scores' intervals among all comparisons overlap"),
    comparisons=COMPARISONS,
)


def pairs(effects: Sequence[Effect]) -> Iterator[tuple[Effect, Effect]]:
    """Edits that are held against one another: (treatment, control).

    A treatment with a strength against each control of the same place and strength, and against itself after W_O; one
    without (a mask) at layers that begin where the main ones do against the same at later ones.
    """
    edits = [(effect, effect.kind) for effect in effects if not effect.is_baseline]
    main = {
        kind: main_layers((effect["layers_rule"], effect["layers"]) for effect, other in edits if other is kind)
        for kind in {kind for _, kind in edits if kind.compared_at == "layers"}
    }
    for treatment, kind in edits:
        for control, other in edits:
            if treatment is control or any(treatment[name] != control[name] for name in ("positions", "target")):
                continue
            if kind.compared_at == "strength":
                after = other is kind and control["site"] != treatment["site"]
                if (
                    treatment["site"] == "value_aggregation"
                    and treatment["layers"] == control["layers"]
                    and treatment["strength"] == control["strength"] > 1
                    and (other.control_of == kind.kind or after)
                ):
                    yield treatment, control
            elif (
                kind.compared_at == "layers"
                and other is kind
                and treatment["layers"][0] == main[kind][0]
                and is_later(control["layers_rule"], control["layers"], treatment["layers"])
            ):
                yield treatment, control


def compared(treatment: Effect, control: Effect) -> str:
    """Quantity that a pair is compared by: edits of different layers where each can act."""
    return "reached_score" if treatment.kind.compared_at == "layers" and "reached_score" in control.seen else "score"


def contrast(treatment: Effect, control: Effect) -> dict:
    """A row of ``SCHEMA`` without model, prompts and the intervals among all comparisons."""
    name = compared(treatment, control)
    score, control_score = treatment.seen[name], control.seen[name]
    resampling = joined([treatment.resampling, control.resampling])
    weights = resampling.weights(len(score))
    difference = score - control_score
    return {
        "treatment": treatment["intervention"],
        "treatment_kind": treatment["kind"],
        "control": control["intervention"],
        **{f"control_{name}": control[name] for name in ("kind", "layers", "site")},
        **{name: treatment[name] for name in ("strength", "layers", "site", "positions", "target")},
        "sequences": len(score),
        "score": float(score.mean()),
        "control_score": float(control_score.mean()),
        **estimated("difference", difference.mean(), weights @ difference, resampling),
        **estimated("effect_size", effect_size(difference)[0], effect_size(difference, weights), resampling),
    }
