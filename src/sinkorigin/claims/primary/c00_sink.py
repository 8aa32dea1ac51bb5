"""C0: position 0 is a sink. What the other claims explain."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from sinkorigin.claims.claim import Claim, Setting
from sinkorigin.claims.tests import Test
from sinkorigin.claims.verdicts import StudyTables
from sinkorigin.statistics.uniform import SINK_FACTOR

_TABLE = "first_position_sinks"


def settings(tables: StudyTables) -> Iterator[Setting]:
    """Share of the sequences whose position 0 is a sink, by this project's criterion and by others; and the mean score."""
    table = tables.read(_TABLE)
    if table is None:
        return
    rows = sorted(table.to_dicts(), key=lambda row: (row["position"], abs(row["factor"] - SINK_FACTOR)))
    first = [row for row in rows if row["position"] == 0]
    for number, row in enumerate(first):
        what = "" if not number else f"a sink from {row['factor']:g} × uniform on"
        reason = _reason(row, [] if number else rows)
        yield Setting(what, row["share"], row["share_low"], row["share_high"], reason, (_TABLE,))
    mean = replace(
        CLAIM.test,
        quantity="mean score of position 0 / uniform attention",
        threshold=SINK_FACTOR,
        why="a sink, on average",
    )
    row = first[0]
    yield Setting("mean score", row["ratio"], row["ratio_low"], row["ratio_high"], None, (_TABLE,), test=mean)


def _reason(row: Mapping, others: Sequence[Mapping]) -> str:
    text = f"{row['sinks']} of {row['sequences']} sequences; mean score {row['ratio']:.2f} × uniform"
    elsewhere = [
        f"position {other['position']} is one in {other['sinks']}"
        for other in others
        if other["position"] > 0 and other["factor"] == row["factor"] and other["sinks"]
    ]
    return "; ".join([text, *elsewhere])


CLAIM = Claim(
    "C0",
    "position 0 is a sink",
    "position 0 is a sink in most sequences",
    "a sink from layer 2 on",
    Test(
        f"share of the sequences whose position 0 receives more than {SINK_FACTOR:g} times the uniform score, exact binomial interval",
        "above",
        0.5,
        "in most sequences; where position 0 is no sink, the claims about what makes it one (C4 to C8, C11) are not applicable",
        "half of the sequences or more have no sink at position 0",
    ),
    settings,
    reading="position 0 is a sink in {percent} of the sequences",
)
