"""C1: the value aggregation has its highest variance at position 0."""

from collections.abc import Iterator
from dataclasses import replace

from sinkorigin.claims.claim import Claim, Setting, not_applicable
from sinkorigin.claims.tests import Test
from sinkorigin.claims.verdicts import StudyTables

_TABLE = "variance_trend"


def first_layer(tables: StudyTables) -> dict | None:
    """Row of layer 0's value aggregation in the table of trends; None where the study does not have it."""
    table = tables.read(_TABLE)
    rows = [] if table is None else table.filter(site="value_aggregation", layer=0).to_dicts()
    return rows[0] if rows else None


def settings(tables: StudyTables) -> Iterator[Setting]:
    """The variance at position 0 against the highest other one, and against their mean."""
    row = first_layer(tables)
    if row is None:
        return
    if row["ratio_to_highest"] is None:
        yield not_applicable("", row["not_applicable"], _TABLE)
        return
    for what, name in (("", "ratio_to_highest"), ("against the mean of the others", "ratio")):
        test = replace(CLAIM.test, quantity="variance at position 0 / mean of the others") if what else None
        yield Setting(what, row[name], row[f"{name}_low"], row[f"{name}_high"], None, (_TABLE,), test=test)


CLAIM = Claim(
    "C1",
    "variance highest at position 0",
    "the variance over sequences of layer 0's value aggregation is highest at position 0",
    "highest at position 0, trained or not",
    Test(
        "variance at position 0 / highest variance of another position, in layer 0",
        "above",
        1.1,
        "highest means above every other position, not above their mean; a tenth more is the smallest effect of interest",
        "another position has a variance that is as high, or lower by less than that",
    ),
    settings,
    in_random_weights=True,
    scale="ratio",
    reading="{value} times as much variance at position 0 as at any other position",
    unit="{value} ×",
    brief="{value} × that of any other position",
)
