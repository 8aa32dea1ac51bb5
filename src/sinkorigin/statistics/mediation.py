"""Which links of the chain carry an edit's effect: shares with intervals, from passes with a link restored or inserted."""

from collections.abc import Iterator, Mapping
from operator import itemgetter

import numpy as np
import polars as pl
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.interventions.schemas import NUMBERS
from sinkorigin.statistics.binomial import paired_shares, share_columns
from sinkorigin.statistics.bootstrap import Resampling, ratio_interval, studentised_interval
from sinkorigin.statistics.grids import from_rows
from sinkorigin.statistics.shared_columns import KEYS, estimate
from sinkorigin.statistics.uniform import SINK_FACTOR, uniform_score

IDENTITY = {
    "cause": (
        pa.string(),
        "name of the intervention whose effect is followed; null for an interchange and for removals",
    ),
    "kind": (pa.string(), "its kind"),
    "strength": (pa.float64(), "its strength"),
    "layers": (NUMBERS, "layers that it edits"),
    "target": (pa.int32(), "edited position k"),
    "mediator": (pa.string(), "link of the chain that is patched, and by what where it is removed; null where none is"),
    "mediator_layers": (NUMBERS, "layers in which it is patched"),
    "direction": (
        pa.string(),
        "none: the unedited model; all: under the edit; restored: under it, with the link as unedited; inserted: unedited, with the link "
        "as under the edit; first into target, target into first: the link of one position put into the other; removed: taken from "
        "position 0",
    ),
    "control_of": (pa.string(), "removed: the removal that it is held against; null for others"),
}


def _share_columns(name: str, description: str) -> dict[str, tuple[pa.DataType, str]]:
    return {
        name: (pa.float64(), description),
        f"{name}_low": (pa.float64(), "lower end of its exact binomial 95 % interval (Clopper and Pearson)"),
        f"{name}_high": (pa.float64(), "upper end of it"),
    }


# what the job writes
PASSES_SCHEMA = tables.schema(
    **IDENTITY,
    sequence=(pa.int32(), "number of the sequence"),
    score=(pa.float32(), "attention weight on the target over q > k, mean over layers and heads"),
    first_score=(
        pa.float32(),
        "attention weight on position 0 over q > 0, mean over layers and heads; the query at k, whose weights an edit of the attention "
        "changes itself, is one of them",
    ),
    second_score=(pa.float32(), "attention weight on position 1 over q > 1, mean over layers and heads"),
)

SCHEMA = tables.schema(
    **KEYS,
    **IDENTITY,
    sequences=(pa.int32(), "number of sequences"),
    score=(pa.float64(), "mean over sequences of the score at the target"),
    unedited=(pa.float64(), "that of the unedited model"),
    **estimate("effect", "mean over sequences of score - unedited (bootstrap of the t-statistic, or Student's)"),
    **estimate(
        "share",
        "restored: 1 - effect / the edit's effect; inserted: effect / the edit's effect; null where the edit's interval is not above 0",
    ),
    sinks=(pa.int32(), "sequences whose target is a sink: a score above 3 times the uniform one"),
    sink_share=(pa.float64(), "sinks / sequences"),
    sink_share_low=(pa.float64(), "lower end of its exact binomial 95 % interval"),
    sink_share_high=(pa.float64(), "upper end of it"),
    first_sinks=(pa.int32(), "sequences whose position 0 is a sink"),
    first_score=(pa.float64(), "mean over sequences of the score of position 0"),
    **estimate("first_effect", "mean over sequences of first_score - that of the unedited model"),
    not_applicable=(pa.string(), "why there is no share"),
)

REMOVALS_SCHEMA = tables.schema(
    **KEYS,
    removal=(pa.string(), "what is taken from position 0, and by what it is replaced"),
    layers=(NUMBERS, "layers in which it is"),
    control=(pa.string(), "the removal that it is held against; null where there is none"),
    sequences=(pa.int32(), "number of sequences"),
    before=(pa.int32(), "sequences whose position 0 is a sink unedited: a score above 3 times the uniform one"),
    lost=(pa.int32(), "those of them whose position 0 is none under the removal"),
    **_share_columns("lost_share", "lost / before; null where there is no sink to lose"),
    control_lost=(pa.int32(), "the same under the control; null where there is none"),
    **_share_columns("control_lost_share", "control_lost / before"),
    difference=(pa.float64(), "lost_share - control_lost_share"),
    difference_low=(pa.float64(), "lower end of its 95 % score interval for paired shares (Tango 1998)"),
    difference_high=(pa.float64(), "upper end of it"),
    p=(pa.float64(), "exact two-sided p-value of equal shares (McNemar)"),
    first_score=(pa.float64(), "mean over sequences of the score of position 0"),
    first_unedited=(pa.float64(), "that of the unedited model"),
    **estimate("gone", "share of the attention on position 0 that goes: 1 - first_score / first_unedited"),
    second_score=(pa.float64(), "mean over sequences of the score of position 1"),
    second_unedited=(pa.float64(), "that of the unedited model"),
    moved=(pa.int32(), "sequences whose position 1 becomes a sink, where it was none"),
    **_share_columns("moved_share", "moved / sequences"),
)

TABLES = {"mediation": SCHEMA, "removals": REMOVALS_SCHEMA}

_NO_EFFECT = "the edit's effect is not distinguished from none, so there is nothing to share out"
_LOWERS = "the edit lowers the score of its target, so there is no sink to share out"


def compute(
    inputs: Mapping[str, str], *, model: str, prompts: str, length: int, resampling: Resampling
) -> dict[str, pa.Table]:
    """Effects and shares of every patched pass.

    Args:
        inputs: ``passes``, a table of ``PASSES_SCHEMA``.
        model, prompts: names, for the first columns.
        length: T, the number of tokens of a prompt.
        resampling: how intervals resample the sequences.

    Returns:
        ``mediation`` (``SCHEMA``, a row a pass) and ``removals`` (``REMOVALS_SCHEMA``, a row a removal, with its controls).
    """
    passes: dict[tuple, list[dict]] = {}
    for row in pl.DataFrame(tables.read_table(inputs["passes"])).sort("sequence").to_dicts():
        passes.setdefault((row["cause"], row["target"]), []).append(row)
    rows: list[dict] = []
    removals: list[dict] = []
    for (cause, _), members in passes.items():
        rows += pass_rows(members, length, resampling)
        removals += removal_rows(members, length, resampling) if cause is None else ()
    names = {"model": model, "prompts": prompts}
    return {
        "mediation": from_rows(SCHEMA, [names | row for row in rows]),
        "removals": from_rows(REMOVALS_SCHEMA, [names | row for row in removals]),
    }


def removal_rows(members: list[dict], length: int, resampling: Resampling) -> Iterator[dict]:
    """Rows of ``REMOVALS_SCHEMA`` without model and prompts."""
    found: dict[str | None, list[dict]] = {}
    for row in members:
        if row["direction"] in ("none", "removed"):
            found.setdefault(row["mediator"], []).append(row)

    def scores(mediator: str | None, name: str) -> np.ndarray:
        return np.array([row[name] for row in found[mediator]], dtype=np.float64)

    first, second = (SINK_FACTOR * uniform_score(position, length) for position in (0, 1))
    unedited = scores(None, "first_score")
    sink = unedited > first
    resampling = resampling.first(len(unedited))
    second_unedited = scores(None, "second_score")
    for name, some in found.items():
        if name is None:
            continue
        after, second_score = scores(name, "first_score"), scores(name, "second_score")
        lost, moved = sink & (after <= first), (second_score > second) & (second_unedited <= second)
        low, high = ratio_interval(unedited - after, unedited, resampling)
        row = {
            "removal": name, "layers": some[0]["mediator_layers"], "sequences": len(after), "before": int(sink.sum()),
            "lost": int(lost.sum()), **share_columns("lost_share", lost[sink], resampling.among(sink)), "first_score": after.mean(),
            "first_unedited": unedited.mean(), "gone": 1 - after.mean() / unedited.mean(), "gone_low": low, "gone_high": high,
            "second_score": second_score.mean(), "second_unedited": second_unedited.mean(), "moved": int(moved.sum()),
            **share_columns("moved_share", moved, resampling),
        }  # fmt: skip
        controls = [other for other, rows in found.items() if other is not None and rows[0]["control_of"] == name]
        for control in controls or [None]:
            yield (
                dict.fromkeys(REMOVALS_SCHEMA.names[2:])
                | row
                | _against(control, scores, lost, sink, first, resampling.among(sink))
            )


def _against(
    control: str | None, scores, lost: np.ndarray, sink: np.ndarray, threshold: float, resampling: Resampling
) -> dict:
    """Columns of a removal beside one of its controls, of the sequences that have a sink to lose.

    Args:
        resampling: of these sequences.
    """
    if control is None or not sink.any():
        return {"control": control}
    other = scores(control, "first_score")[sink] <= threshold
    pair = paired_shares(lost[sink], other, resampling)
    return {
        "control": control, "control_lost": int(other.sum()), **share_columns("control_lost_share", other, resampling),
        "difference": pair.difference, "difference_low": pair.low, "difference_high": pair.high, "p": pair.p,
    }  # fmt: skip


def pass_rows(members: list[dict], length: int, resampling: Resampling) -> Iterator[dict]:
    """Rows of one cause and target, without model and prompts."""
    by_pass: dict[tuple, list[dict]] = {}
    for row in members:
        by_pass.setdefault((row["direction"], row["mediator"]), []).append(row)

    def column(place: tuple, name: str) -> np.ndarray:
        return np.array([row[name] for row in sorted(by_pass[place], key=itemgetter("sequence"))], dtype=np.float64)

    unedited, first_unedited = column(("none", None), "score"), column(("none", None), "first_score")
    resampling = resampling.first(len(unedited))
    total = column(("all", None), "score") - unedited if ("all", None) in by_pass else None
    reason = None if total is None else _nothing_to_share_out(total, resampling)
    threshold, first = (SINK_FACTOR * uniform_score(position, length) for position in (members[0]["target"], 0))
    for (direction, mediator), some in by_pass.items():
        score, first_score = (column((direction, mediator), name) for name in ("score", "first_score"))
        sinks = score > threshold
        row = {
            **{name: some[0][name] for name in IDENTITY},
            "sequences": len(score),
            "score": score.mean(),
            "unedited": unedited.mean(),
            **_difference("effect", score - unedited, resampling),
            **dict.fromkeys(("share", "share_low", "share_high", "not_applicable")),
            "sinks": int(sinks.sum()),
            **share_columns("sink_share", sinks, resampling),
            "first_sinks": int((first_score > first).sum()),
            "first_score": first_score.mean(),
            **_difference("first_effect", first_score - first_unedited, resampling),
        }
        if direction in ("restored", "inserted") and total is not None:
            row |= {"not_applicable": reason} if reason else _share(
                score - unedited, total, resampling, restored=direction == "restored"
            )  # fmt: skip
        yield row


def _nothing_to_share_out(total: np.ndarray, resampling: Resampling) -> str | None:
    """Why the links have no shares of an edit's effects on the (N,) sequences; None where they have."""
    low, high = studentised_interval(total, resampling)
    if low > 0:
        return None
    return resampling.too_few or (_LOWERS if high < 0 else _NO_EFFECT)


def _difference(name: str, values: np.ndarray, resampling: Resampling) -> dict:
    low, high = studentised_interval(values, resampling)
    return {name: values.mean(), f"{name}_low": low, f"{name}_high": high}


def _share(effect: np.ndarray, total: np.ndarray, resampling: Resampling, *, restored: bool) -> dict:
    """Columns of the share of an effect that goes through a mediator: a ratio of means."""
    through = total - effect if restored else effect
    low, high = ratio_interval(through, total, resampling)
    return {"share": through.mean() / total.mean(), "share_low": low, "share_high": high}
