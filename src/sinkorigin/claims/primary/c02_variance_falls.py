"""C2: the variance falls with position."""

from collections.abc import Iterator

from sinkorigin.claims.claim import Claim, Setting, not_applicable
from sinkorigin.claims.primary.c01_variance_at_first import first_layer
from sinkorigin.claims.tests import Test
from sinkorigin.claims.verdicts import StudyTables

_TABLE = "variance_trend"


def settings(tables: StudyTables) -> Iterator[Setting]:
    """The largest rise of layer 0's curve, held against several sizes of a rise."""
    row = first_layer(tables)
    if row is None:
        return
    if row["largest_rise"] is None:
        yield not_applicable("", row["not_applicable"] or "the variance is known at too few positions", _TABLE)
        return
    ends = (row["largest_rise"], row["largest_rise_low"], row["largest_rise_high"])
    primary = Setting(
        "", *ends, f"Kendall's τ {row['kendall_tau']:.3f}, which single positions' noise moves towards 0", (_TABLE,)
    )
    yield primary
    yield from CLAIM.with_thresholds(primary, 1.05, 1.2)


CLAIM = Claim(
    "C2",
    "variance falls with position",
    "the variance of layer 0's value aggregation falls with position, with no rise on the way",
    "falls monotonically",
    Test(
        "largest ratio of the mean variance of a group of positions (0, 1, 2-3, 4-7, …) to that of an earlier group",
        "below",
        1.1,
        "a falling curve has none above 1; a rise by less than a tenth is small against a fall by a factor of several, and can be told "
        "from sampling error with some 64 sequences",
        "a later group of positions varies more than an earlier one by a tenth",
    ),
    settings,
    in_random_weights=True,
)
