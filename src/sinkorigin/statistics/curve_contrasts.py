"""Treatments against their controls over the whole curve of strengths, so that no strength is chosen after looking."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.interventions.schemas import NUMBERS
from sinkorigin.statistics.binomial import paired_shares, share_interval
from sinkorigin.statistics.bootstrap import joined, studentised_interval
from sinkorigin.statistics.effects import Effect
from sinkorigin.statistics.shared_columns import KEYS
from sinkorigin.statistics.uniform import SINK_FACTOR


def _mean_of(name: str, description: str) -> dict[str, tuple[pa.DataType, str]]:
    return {
        name: (pa.float64(), description),
        f"{name}_low": (
            pa.float64(),
            "lower end of its 95 % interval (bootstrap of the t-statistic over sequences, or Student's)",
        ),
        f"{name}_high": (pa.float64(), "upper end of it"),
    }


SCHEMA = tables.schema(
    **KEYS,
    treatment=(pa.string(), "name of an intervention"),
    control=(pa.string(), "name of the one that it is held against"),
    treatment_kind=(pa.string(), "its kind"),
    control_kind=(pa.string(), "kind of the control"),
    layers=(NUMBERS, "edited layers, of both"),
    positions=(NUMBERS, "positions that both edit at once"),
    target=(pa.int32(), "edited position k"),
    sequences=(pa.int32(), "number of sequences that both ran"),
    strengths=(
        pa.list_(pa.float64()),
        "strengths of both, 1 being the unedited model or, where the control edits there too, that",
    ),
    **_mean_of(
        "area",
        "mean over the strengths, evenly in their logarithm, of the score at the target - the control's: area between the curves",
    ),
    converted_area=(
        pa.float64(),
        "the same of being converted (1 or 0): the target is a sink, and was none unedited",
    ),
    converted_area_low=(
        pa.float64(),
        "lower end of its 95 % interval (Student's, with one more sequence at each end of the support, -1 and 1)",
    ),
    converted_area_high=(pa.float64(), "upper end of it"),
    ever=(pa.int32(), "sequences that the treatment converts at any strength"),
    control_ever=(pa.int32(), "and the control"),
    ever_share=(pa.float64(), "ever / sequences"),
    ever_share_low=(pa.float64(), "lower end of its exact binomial 95 % interval"),
    ever_share_high=(pa.float64(), "upper end of it"),
    control_ever_share=(pa.float64(), "control_ever / sequences"),
    control_ever_share_low=(pa.float64(), "lower end of its exact binomial 95 % interval"),
    control_ever_share_high=(pa.float64(), "upper end of it"),
    ever_difference=(pa.float64(), "ever_share - control_ever_share"),
    ever_difference_low=(pa.float64(), "lower end of its 95 % score interval for paired shares (Tango 1998)"),
    ever_difference_high=(pa.float64(), "upper end of it"),
    ever_p=(pa.float64(), "exact two-sided p-value of equal shares (McNemar)"),
    swap=(
        pa.float64(),
        "score of the control at strength 1, where it edits too - unedited: other content, no more variance",
    ),
    swap_low=(
        pa.float64(),
        "lower end of its 95 % interval (bootstrap of the t-statistic over sequences, or Student's)",
    ),
    swap_high=(pa.float64(), "upper end of it"),
)


def rows(edits: Sequence[Effect]) -> Iterator[dict]:
    """Rows of ``SCHEMA`` without model and prompts, where a treatment and a control have two strengths in common.

    Args:
        edits: all edits, without the unedited model.
    """
    curves: dict[tuple, dict[float, Effect]] = {}
    for edit in edits:
        if edit.kind.has_doses() and edit["site"] == "value_aggregation" and edit["mean_factor"] is None:
            place = (tuple(edit["layers"]), tuple(edit["positions"]), edit["target"])
            curves.setdefault((edit["intervention"], place), {})[edit["strength"]] = edit
    for (_, place), treatment in curves.items():
        kind = next(iter(treatment.values())).kind
        if kind.compared_at != "strength":
            continue
        for (_, other_place), control in curves.items():
            if other_place == place and next(iter(control.values())).kind.control_of == kind.kind:
                shared = sorted(treatment.keys() & control.keys() - {1.0})
                if len(shared) > 1:
                    yield _contrast(treatment, control, shared)


def _contrast(treatment: dict[float, Effect], control: dict[float, Effect], shared: Sequence[float]) -> dict:
    first, other = treatment[shared[0]], control[shared[0]]
    resampling = joined([edit.resampling for edit in (*treatment.values(), *control.values())])
    strengths = [1.0, *shared]
    unedited = first.unedited["score"]
    curve = np.stack([unedited, *(treatment[strength].seen["score"] for strength in shared)])  # (strengths, N)
    at_one = control[1.0].seen["score"] if 1.0 in control else unedited
    beside = np.stack([at_one, *(control[strength].seen["score"] for strength in shared)])
    threshold = SINK_FACTOR * first.row["uniform"]
    converted, control_converted = ((scores > threshold) & (unedited <= threshold) for scores in (curve, beside))
    weights = _log_weights(strengths)
    converts, control_converts = converted.any(axis=0), control_converted.any(axis=0)
    ever = paired_shares(converts, control_converts, resampling)
    row = {
        "treatment": first["intervention"], "treatment_kind": first["kind"], "control": other["intervention"],
        "control_kind": other["kind"], **{name: first[name] for name in ("layers", "positions", "target")},
        "sequences": curve.shape[1], "strengths": strengths, "ever": int(converts.sum()), "control_ever": int(control_converts.sum()),
        "ever_difference": ever.difference, "ever_difference_low": ever.low, "ever_difference_high": ever.high, "ever_p": ever.p,
        **dict.fromkeys(("swap", "swap_low", "swap_high")),
    }  # fmt: skip
    for name, does in (("ever_share", converts), ("control_ever_share", control_converts)):
        low, high = share_interval(does, resampling)
        row |= {name: does.mean(), f"{name}_low": low, f"{name}_high": high}
    by_sequence = {
        "area": weights @ (curve - beside),
        "converted_area": weights @ (converted.astype(float) - control_converted),
    }
    if 1.0 in control:
        by_sequence["swap"] = at_one - unedited
    for name, values in by_sequence.items():
        support = (-1.0, 1.0) if name == "converted_area" else None  # 0 in most sequences, or in all
        low, high = studentised_interval(values, resampling, support=support)
        row |= {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}
    return row


def _log_weights(strengths: Sequence[float]) -> np.ndarray:
    """(S,) weights of the trapezoid rule over log λ, which add to 1."""
    places = np.log(strengths)
    steps = np.diff(places)
    weights = np.zeros(len(places))
    weights[:-1] += steps / 2
    weights[1:] += steps / 2
    return weights / (places[-1] - places[0])
