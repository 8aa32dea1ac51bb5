"""C8: heads whose queries lie along the first token's key have positive scores on it."""

from collections.abc import Iterator
from dataclasses import replace

from sinkorigin.claims.claim import Claim, Setting, not_applicable
from sinkorigin.claims.sinks import NO_SINK, sink_layers
from sinkorigin.claims.tests import Test
from sinkorigin.claims.verdicts import StudyTables

_TABLE = "aligned_heads"
ALIGNMENT, POSITIVE = 0.5, 0.95  # of the primary test


def settings(tables: StudyTables) -> Iterator[Setting]:
    """Aligned heads against the others, for each pair of thresholds; the aligned heads' share by itself, and their attention."""
    table = tables.read(_TABLE)
    if table is None:
        return
    if not sink_layers(tables):
        yield not_applicable("", NO_SINK, _TABLE)
        return
    rows = sorted(table.to_dicts(), key=lambda row: (row["alignment"], row["positive_ratio"]) != (ALIGNMENT, POSITIVE))
    for row in rows:
        primary = (row["alignment"], row["positive_ratio"]) == (ALIGNMENT, POSITIVE)
        what = "" if primary else f"|cos| > {row['alignment']:g}, {row['positive_ratio']:.0%} of the scores"
        if row["difference"] is None:
            which = (
                "no head is aligned"
                if not row["aligned"]
                else "every head is aligned, so there is none to compare with"
            )
            yield not_applicable(what, which, _TABLE)
            continue
        reason = f"{row['aligned_share']:.0%} of {row['aligned']} aligned heads, {row['other_share']:.0%} of {row['others']} others"
        ends = (row["difference"], row["difference_low"], row["difference_high"])
        yield Setting(what, *ends, reason, (_TABLE,), max(row["p"], CLAIM.test.p(*ends)))
        if primary:
            level = replace(
                CLAIM.test, quantity="share of the aligned heads whose scores are positive", threshold=0.9,
                why="about all means nine of ten",
            )  # fmt: skip
            yield Setting(
                "their share by itself", row["aligned_share"], row["aligned_share_low"], row["aligned_share_high"], reason, (_TABLE,),
                test=level,
            )  # fmt: skip
            attention = replace(
                CLAIM.test, quantity="mean sink mass of the aligned heads − that of the others", threshold=0.0, why="a relation, not a level",
            )  # fmt: skip
            yield Setting(
                "their attention", row["mass_difference"], row["mass_difference_low"], row["mass_difference_high"], None, (_TABLE,),
                test=attention,
            )  # fmt: skip


CLAIM = Claim(
    "C8",
    "heads aligned with the key have positive scores",
    "heads whose queries lie along the first token's key have positive scores on it, more of them than of the other heads",
    "aligned heads have ≈ 100 % positive scores",
    Test(
        f"share of the heads with |cos(u_1, k_0)| > {ALIGNMENT:g} that have ≥ {POSITIVE:.0%} positive scores − the share of the other heads",
        "above",
        0.1,
        "a relation, not a level: many heads have positive scores for other reasons; a tenth of the heads is the smallest effect of interest. "
        "It must exceed what chance gives among these heads (permutations of whole layers), whose number no sequences raise",
        "the aligned heads have positive scores less often than the others, beyond chance",
    ),
    settings,
    decided_by="models",
    reading="{percent} more of the aligned heads than of the others have positive scores",
    unit="+{percent}",
    brief="{points} percentage points more of them than of the other heads",
)
