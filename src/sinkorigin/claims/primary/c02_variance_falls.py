"""C2: the variance falls with position."""

from collections.abc import Iterator
from dataclasses import replace

from sinkorigin.claims.claim import Claim, Setting, not_applicable
from sinkorigin.claims.primary.c01_variance_at_first import first_layer
from sinkorigin.claims.tests import REPRODUCED, Test
from sinkorigin.claims.verdicts import StudyTables

_TABLE = "variance_trend"


def settings(tables: StudyTables) -> Iterator[Setting]:
    """The largest rise of layer 0's curve, held against several sizes of a rise; and whether it goes on falling after position 0."""
    row = first_layer(tables)
    if row is None:
        return
    if row["largest_rise"] is None:
        yield not_applicable("", row["not_applicable"] or "the variance is known at too few positions", _TABLE)
        return
    rise, fall = ((row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in ("largest_rise", "last_to_second"))
    if fall[0] is None:
        yield not_applicable("", "the variance is known at too few positions", _TABLE)
        return
    reason = (
        f"the last group varies {fall[0]:.3g} [{fall[1]:.3g}, {fall[2]:.3g}] times as much as position 1; Kendall's τ "
        f"{row['kendall_tau']:.3f}, which single positions' noise moves towards 0"
    )
    for threshold in (CLAIM.test.threshold, 1.05, 1.2):
        test = replace(CLAIM.test, threshold=threshold)
        p = test.p(*rise)
        if test.verdict(*rise[1:]) == REPRODUCED:  # a flat curve has no rise either, so it must fall too
            p = max(p, _FALLS.p(*fall) if fall[0] < _FALLS.threshold else 1.0)
        what = "" if threshold == CLAIM.test.threshold else f"threshold {threshold:g}"
        yield Setting(what, *rise, reason, (_TABLE,), p, test)
    yield Setting("after position 0", *fall, None, (_TABLE,), test=_FALLS)


_FALLS = Test(
    "mean variance of the last group of positions / variance at position 1, in layer 0",
    "below",
    1.0,
    "C1 is about position 0; the curve must go on falling after it",
    "the last positions vary as much as position 1",
)

CLAIM = Claim(
    "C2",
    "variance falls with position",
    "the variance of layer 0's value aggregation falls with position, with no rise on the way",
    "falls monotonically",
    Test(
        "largest ratio of the mean variance of a group of positions (0, 1, 2-3, 4-7, …) to that of an earlier group; and the last group "
        "must vary less than position 1",
        "below",
        1.1,
        "a falling curve has none above 1; a rise by less than a tenth is small against a fall by a factor of several, and can be told "
        "from sampling error with some 64 sequences",
        "a later group of positions varies more than an earlier one by a tenth",
    ),
    settings,
    in_random_weights=True,
    reading="a later group of positions varies at most {value} times as much as an earlier one",
    unit="{value} ×",
    brief="a later group of positions has at most {value} × that of an earlier one",
)
