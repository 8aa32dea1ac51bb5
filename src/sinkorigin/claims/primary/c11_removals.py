"""C11: without the cause no sink. Position 0 loses its sink when it averages like the others, and without its super neurons."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from sinkorigin.claims.claim import Claim, Setting, not_applicable
from sinkorigin.claims.tests import SMALLEST_SHARE, Test
from sinkorigin.claims.verdicts import StudyTables
from sinkorigin.statistics.bootstrap import FEWEST_CLUSTERS
from sinkorigin.statistics.shared_columns import BEGIN_ALIKE
from sinkorigin.statistics.uniform import SINK_FACTOR

_TABLE = "removals"
NO_SINK = (
    f"in no sequence is position 0 a sink, so there is none to lose (a sink: {SINK_FACTOR:g} times the uniform score)"
)
TOO_FEW = (
    f"the sequences with a sink at position 0 come from fewer than {FEWEST_CLUSTERS} documents, so there is no interval"
)
NO_CONTROL = f"{BEGIN_ALIKE}, so that its aggregation is the same in every other, which is then no control"


def _settings(test: Test, removal: str, others: Mapping[str, str], lacking: str):
    """Settings of a removal against its controls: the first control decides.

    Args:
        test: of the claim.
        removal: name of the removal.
        others: other removals that test the same claim → how they differ.
        lacking: why the table does not have the removal.
    """

    def settings(tables: StudyTables) -> Iterator[Setting]:
        table = tables.read(_TABLE)
        if table is None:
            return
        rows = table.to_dicts()
        primary = [row for row in rows if row["removal"] == removal]
        if not primary:
            yield not_applicable("", lacking, _TABLE)
            return
        if not primary[0]["before"]:
            yield not_applicable("", NO_SINK, _TABLE)
            return
        if primary[0]["control"] is None:
            yield not_applicable("", NO_CONTROL, _TABLE)
            return
        if primary[0]["p"] is None:
            yield not_applicable("", TOO_FEW, _TABLE)
            return
        kept = primary + [row for name in others for row in rows if row["removal"] == name]
        for number, row in enumerate(row for row in kept if row["control"] is not None):
            what = (
                "" if not number else ", ".join(filter(None, [others.get(row["removal"]), f"against {row['control']}"]))
            )
            reason = (
                f"lost in {row['lost']} of the {row['before']} sequences with a sink, under {row['control']} in {row['control_lost']} "
                f"(McNemar p = {row['p']:.2g}); {row['gone']:.0%} of the attention goes; position 1 has {row['second_score']:.3f} "
                f"(unedited {row['second_unedited']:.3f}) and becomes a sink in {row['moved']} sequences"
            )
            ends = (row["difference"], row["difference_low"], row["difference_high"])
            yield Setting(what, *ends, reason, (_TABLE,))  # McNemar's p is of no difference, not of this threshold
        level = replace(
            test,
            quantity="share of the sequences with a sink at position 0 that lose it",
            threshold=0.5,
            why="in most of them",
        )
        row = primary[0]
        yield Setting(
            "its share by itself",
            row["lost_share"],
            row["lost_share_low"],
            row["lost_share_high"],
            None,
            (_TABLE,),
            test=level,
        )
        gone = replace(level, quantity="share of the attention on position 0 that goes")
        yield Setting("attention that goes", row["gone"], row["gone_low"], row["gone_high"], None, (_TABLE,), test=gone)

    return settings


_AVERAGED = Test(
    "share of the sequences that lose their sink when position 0 gets the target's aggregation − when it gets another sequence's own",
    "above",
    SMALLEST_SHARE,
    "both edits change the content, and only the first takes away that nothing is averaged; a tenth of the sequences is the smallest effect "
    "of interest",
    "position 0 keeps its sink as often as with another sequence's value vector, or loses it more often by less than that",
)
_SILENT = Test(
    "share of the sequences that lose their sink without the super neurons − without as many random neurons of the same layers",
    "above",
    SMALLEST_SHARE,
    "silencing as many other neurons shows what silencing as such does; a tenth of the sequences is the smallest effect of interest",
    "position 0 keeps its sink as often as without random neurons, or loses it more often by less than that",
)

AVERAGED = Claim(
    "C11a",
    "no sink without the variance",
    "position 0 loses its sink when its value aggregation is that of a position that averages",
    None,
    _AVERAGED,
    _settings(_AVERAGED, "aggregation by target", {}, "the study does not remove the aggregation"),
    reading="{percent} more of the sequences lose the sink than with another sequence's value vector",
    unit="+{percent}",
    brief="{points} percentage points more of the sequences lose it than with another sequence's value vector",
)

SILENT = Claim(
    "C11b",
    "no sink without super neurons",
    "position 0 loses its sink when the super neurons that start the surge of its norm are silent",
    None,
    _SILENT,
    _settings(
        _SILENT,
        "super neurons by zero",
        {
            "super neurons by mean": "set to their mean at a later position",
            "dominating dims by zero": "the dims that they write, set to zero",
            "dominating dims by mean": "the dims that they write, set to their mean at a later position",
        },
        "no super neuron raises the first token's norm where it surges",
    ),
    reading="{percent} more of the sequences lose the sink than without random neurons",
    unit="+{percent}",
    brief="{points} percentage points more of the sequences lose it than without random neurons",
)
