"""C10: more variance makes a sink, a larger norm alone does not."""

from collections.abc import Iterator
from dataclasses import replace

from sinkorigin.claims.claim import Claim, Setting
from sinkorigin.claims.tests import SMALLEST_SHARE, Test
from sinkorigin.claims.verdicts import StudyTables
from sinkorigin.interventions.kind import SHOWN_POSITION, kind_named

_TABLE = "curve_contrasts"
_PRIMARY = "norm_control"


def settings(tables: StudyTables) -> Iterator[Setting]:
    """Amplification against norm control at the paper's position; other positions, the scores themselves, and a constant shift."""
    table = tables.read(_TABLE)
    if table is None:
        return
    rows = [
        row
        for row in table.to_dicts()
        if row["treatment_kind"] == "variance_amplification" and not kind_named(row["control_kind"]).adds_variance
    ]
    rows.sort(
        key=lambda row: (row["control_kind"] != _PRIMARY, row["control_kind"], abs(row["target"] - SHOWN_POSITION))
    )
    for number, row in enumerate(rows):
        what = "" if not number else f"position {row['target']}, against {row['control_kind'].replace('_', ' ')}"
        strengths = f"λ from {row['strengths'][0]:g} to {row['strengths'][-1]:g}"
        reason = (
            f"{strengths}: converted at any of them {row['ever']} of {row['sequences']} sequences, by the control {row['control_ever']} "
            f"(McNemar p = {row['ever_p']:.2g})"
        )
        yield Setting(
            what, row["converted_area"], row["converted_area_low"], row["converted_area_high"], reason, (_TABLE,)
        )
        scores = replace(
            CLAIM.test,
            quantity="mean over λ, evenly in log λ, of the score at the target − that under the control",
            threshold=0.0,
            why="scores have no unit in which an effect is of interest",
        )
        place = what or f"position {row['target']}"
        yield Setting(
            f"{place}, scores", row["area"], row["area_low"], row["area_high"], strengths, (_TABLE,), test=scores
        )


CLAIM = Claim(
    "C10",
    "variance makes a sink, norm alone does not",
    "over the whole curve of strengths, amplifying the variance at a position makes it a sink in more sequences than multiplying its "
    "aggregation by as much",
    "sink under amplification, none under norm control",
    Test(
        "mean over λ, evenly in log λ, of the share of sequences that become sinks under amplification − under norm control",
        "above",
        SMALLEST_SHARE,
        "a tenth of the sequences is the smallest effect of interest; no strength is chosen after looking at the scores",
        "norm control converts as many sequences over the curve, or fewer by less than that",
    ),
    settings,
    reading="amplified variance makes a sink in {percent} more of the sequences than norm alone",
    unit="+{percent}",
    brief="in {points} percentage points more of the sequences than the norm",
)
