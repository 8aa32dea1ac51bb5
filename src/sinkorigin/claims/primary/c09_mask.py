"""C9: a position that attends to itself only becomes a sink."""

from collections.abc import Iterator, Mapping

from sinkorigin.claims.claim import Claim, Setting
from sinkorigin.claims.tests import Test
from sinkorigin.claims.verdicts import StudyTables
from sinkorigin.interventions.kind import SHOWN_POSITION
from sinkorigin.interventions.layers import is_later
from sinkorigin.statistics.uniform import SINK_FACTOR

_TABLE = "conversions"


def settings(tables: StudyTables) -> Iterator[Setting]:
    """The mask until the sink's onset at the paper's position; at other positions, in its first layer, by other criteria of a sink."""
    table = tables.read(_TABLE)
    if table is None:
        return
    rows = [
        row for row in table.to_dicts() if row["kind"] == "mask" and len(row["positions"]) == 1 and row["target"] > 0
    ]
    main = [row for row in rows if row["layers_rule"] == "until_onset"] or rows
    if not main:
        return
    early = main[0]["layers"]
    kept = [row for row in rows if not is_later(row["layers_rule"], row["layers"], early)]
    kept.sort(key=lambda row: _distance(row, early))
    for number, row in enumerate(kept):
        what = "" if not number else ", ".join(_differences(row, kept[0])) or row["intervention"]
        reason = (
            f"position {row['target']}, layers {row['layers'][0]} to {row['layers'][-1]}: {row['converted']} of {row['sequences']} sequences, "
            f"{row['before']} had a sink there unedited"
        )
        yield Setting(what, row["share"], row["share_low"], row["share_high"], reason, (_TABLE,))


def _distance(row: Mapping, early: list[int]) -> tuple:
    return (row["layers"] != early, abs(row["target"] - SHOWN_POSITION), abs(row["factor"] - SINK_FACTOR))


def _differences(row: Mapping, primary: Mapping) -> Iterator[str]:
    if row["layers"] != primary["layers"]:
        yield f"layers {row['layers'][0]} to {row['layers'][-1]}"
    if row["target"] != primary["target"]:
        yield f"position {row['target']}"
    if row["factor"] != primary["factor"]:
        yield f"a sink from {row['factor']:g} × uniform on"


CLAIM = Claim(
    "C9",
    "mask makes a sink",
    "a position that attends to itself only, in the layers until the sink begins (in the first eighth of them where none begins), becomes a sink",
    "a new sink at the position",
    Test(
        f"share of the sequences whose position {SHOWN_POSITION} becomes a sink (a score above {SINK_FACTOR:g} times the uniform one), exact "
        "binomial interval",
        "above",
        0.5,
        "in most sequences: conversion is nearly all or nothing by sequence, so a mean could come from a few",
        "half of the sequences or more are not converted",
    ),
    settings,
    reading="the masked position becomes a sink in {percent} of the sequences",
    brief="in {percent} of the sequences",
)
