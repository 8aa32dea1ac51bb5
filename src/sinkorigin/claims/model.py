"""Claims about an unedited model: variance discrepancy, sink, surge, disparity."""

from collections.abc import Iterator

import polars as pl

from sinkorigin.claims.verdicts import (
    DOMINANCE_FACTOR,
    NO_SINK_FACTOR,
    NOT_SEEN,
    ONSET_DISTANCE,
    PAPER_EPSILON,
    StudyTables,
    decided,
    with_ends,
)
from sinkorigin.statistics.uniform import SINK_FACTOR


def model_claims(tables: StudyTables) -> Iterator[dict]:
    """Claims about one model on one prompt set."""
    yield from _variance(tables)
    yield from _sink(tables)
    yield from _sink_rate(tables)
    yield from _sink_with_surge(tables)
    yield from _disparity(tables)


def _variance(tables: StudyTables) -> Iterator[dict]:
    trend = tables.read("variance_trend")
    if trend is None:
        return
    first = trend.filter((pl.col("layer") == 0) & (pl.col("site") == "value_aggregation"))
    undefined = "every sequence begins with the same token, so position 0 has no variance"
    for claim, statement, quantity, column, paper, predicate, holds in (
        (
            "variance discrepancy", "the variance of layer 0's value aggregation is highest at position 0",
            "variance at position 0 / mean of the others", "ratio", "highest at position 0", "> 1", lambda x: x > 1,
        ),
        (
            "variance decay", "that variance falls with position", "Kendall's τ of variance against position",
            "kendall_tau", "falls monotonically", "< 0", lambda x: x < 0,
        ),
    ):  # fmt: skip
        row = first.to_dicts()[0] if len(first) else {}
        value = row.get(column)
        yield tables.row(
            claim, tables.model.prefix + statement, quantity, paper, predicate,
            "variance_trend",
            **decided(
                value, row.get(f"{column}_low"), row.get(f"{column}_high"), holds,
                undefined if value is None else None,
            ),
        )  # fmt: skip


def _sink(tables: StudyTables) -> Iterator[dict]:
    mass = tables.read("sink_mass")
    if mass is None:
        return
    peak = mass.sort("mass", descending=True, nulls_last=True).to_dicts()[0]
    value, low, high = (end / peak["uniform"] for end in with_ends(peak, "mass"))
    reason = f"layer {peak['layer']}: mass {peak['mass']:.3f}, uniform attention would give {peak['uniform']:.3f}"
    statement, predicate, holds, paper = (
        ("random weights have no sink at position 0", f"< {NO_SINK_FACTOR:g}", lambda x: x < NO_SINK_FACTOR, None)
        if tables.model.is_control
        else ("position 0 is a sink", f"> {SINK_FACTOR:g}", lambda x: x > SINK_FACTOR, "a sink from layer 2 on")
    )
    yield tables.row(
        "no sink" if tables.model.is_control else "sink", tables.model.prefix + statement,
        "largest sink mass of a layer / uniform attention", paper, predicate,
        "sink_mass", **decided(value, low, high, holds, reason),
    )  # fmt: skip


def _sink_rate(tables: StudyTables) -> Iterator[dict]:
    rate = tables.read("sink_rate")
    if rate is None or tables.model.is_control:
        return
    epsilon = min(rate["epsilon"].unique().to_list(), key=lambda e: abs(e - PAPER_EPSILON))
    rows = rate.filter(pl.col("epsilon") == epsilon)
    at_first = rows.filter(pl.col("position") == 0).to_dicts()[0]
    # the last positions have few queries, and attend much to themselves
    half = max(rows["position"].to_list()) // 2
    others = rows.filter(pl.col("position").is_between(1, half))
    other = others.sort("rate", descending=True).to_dicts()[0]
    yield tables.row(
        "sink rate", f"position 0 passes ε = {epsilon:g} in more heads than any other position of the first half",
        "sink rate of position 0 − largest rate of another", None, "> 0", "sink_rate",
        **decided(
            at_first["rate"] - other["rate"], at_first["rate_low"] - other["rate_high"],
            at_first["rate_high"] - other["rate_low"], lambda x: x > 0,
            f"rate {at_first['rate']:.3f} at 0, {other['rate']:.3f} at {other['position']}",
        ),
    )  # fmt: skip


def _sink_with_surge(tables: StudyTables) -> Iterator[dict]:
    onset, surge = tables.read("sink_onset"), tables.read("norm_surge")
    if onset is None or surge is None or tables.model.is_control:
        return
    began, surged = onset.to_dicts()[0], surge.to_dicts()[0]
    found: dict = {"verdict": NOT_SEEN}
    if began["layer"] is None or surged["layer"] is None:
        found["reason"] = " and ".join(
            what
            for what, row in (
                (f"no layer's sink mass passes {began['threshold']:g}", began),
                (f"no layer's norm ratio passes {surged['threshold']:g}", surged),
            )
            if row["layer"] is None
        )
    else:
        # conservative: the ends of the two intervals, as if they were independent of one another
        found = decided(
            float(began["layer"] - surged["layer"]),
            float(began["layer_low"] - surged["layer_high"]),
            float(began["layer_high"] - surged["layer_low"]),
            lambda x: abs(x) <= ONSET_DISTANCE,
            f"sink onset at layer {began['layer']}, norm surge at layer {surged['layer']}",
        )
    yield tables.row(
        "sink with surge", "the sink begins where the first token's norm surges",
        "layer of the sink onset − layer of the norm surge", "both at layer 2",
        f"within ±{ONSET_DISTANCE}", "sink_onset", "norm_surge", **found,
    )  # fmt: skip


def _disparity(tables: StudyTables) -> Iterator[dict]:
    disparity = tables.read("disparity_by_layer")
    if disparity is None:
        return
    control = tables.model.is_control
    for site, words, paper in (
        ("residual", "in the residual stream", "200 and more in shallow layers"),
        ("attention_input", "after normalisation", "262.88 in layer 2"),
    ):
        rows = disparity.filter(pl.col("site") == site)
        if rows.is_empty():
            continue
        peak = rows.sort("first", descending=True, nulls_last=True).to_dicts()[0]
        statement = (
            f"control: random weights have no dimension disparity {words}"
            if control
            else f"one dimension dominates the first token's vector {words}"
        )
        yield tables.row(
            "no dimension disparity" if control else "dimension disparity", statement,
            "first token's dominance ratio / the others', in the layer where it is largest", None if control else paper,
            f"{'<' if control else '>'} {DOMINANCE_FACTOR:g}", "disparity_by_layer",
            **decided(
                peak["first"] / peak["rest"], peak["first_low"] / peak["rest_high"],
                peak["first_high"] / peak["rest_low"],
                lambda x: x < DOMINANCE_FACTOR if control else x > DOMINANCE_FACTOR,
                f"layer {peak['layer']}: {peak['first']:.1f} against {peak['rest']:.1f}, at most {peak['width']}",
            ),
        )  # fmt: skip
