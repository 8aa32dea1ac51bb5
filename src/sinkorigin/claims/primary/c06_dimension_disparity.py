"""C6: what the super neurons write is the dimension disparity."""

from collections.abc import Iterator

from sinkorigin.claims.claim import Claim, Setting, not_applicable
from sinkorigin.claims.primary.c05_super_neurons import by_surge, surges
from sinkorigin.claims.tests import Test
from sinkorigin.claims.verdicts import StudyTables

_TABLE = "super_neuron_surge"


def settings(tables: StudyTables) -> Iterator[Setting]:
    """The surge whose dominating entry the few super neurons write least of, and each surge by itself."""
    rows = surges(tables)
    if rows is None:
        return
    found = rows if isinstance(rows, str) else by_surge(rows, "few_largest")
    if isinstance(found, str):
        yield not_applicable("", found, _TABLE)
        return
    primary = CLAIM.of_least(found, "")
    yield primary
    yield from CLAIM.with_thresholds(primary, 0.25, 0.75)
    yield from found if len(found) > 1 else ()


CLAIM = Claim(
    "C6",
    "super neurons write the dominating dim",
    "the dim that dominates the first token's residual after a surge is written by the super neurons of that surge",
    "dims 2533 and 1415",
    Test(
        "share of the residual's largest entry that the layer's super neurons, at most three, write; the surge where it is smallest",
        "above",
        0.5,
        "more than half is most of it",
        "half of the dominating entry or more comes from elsewhere, or the layer has no super neuron",
    ),
    settings,
    reading="super neurons write {percent} of the largest entry",
    brief="{percent} of it",
)
