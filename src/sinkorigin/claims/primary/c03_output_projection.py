"""C3: the output projection keeps the order of the variances."""

from collections.abc import Iterator
from dataclasses import replace

from sinkorigin.claims.claim import Claim, Setting, not_applicable
from sinkorigin.claims.tests import Test
from sinkorigin.claims.verdicts import StudyTables

_TABLE, _BY_LAYER = "variance_through_output_mean", "variance_through_output"
PAPER_TAU = 0.32


def settings(tables: StudyTables) -> Iterator[Setting]:
    """The order of the positions on both sides of W_O, mean over layers and in layer 0; and the other reading of the paper's τ."""
    means = tables.read(_TABLE)
    if means is None:
        return
    rows = {row["reading"]: row for row in means.to_dicts()}
    order = rows["group_tau"]
    if order["tau"] is None:
        yield not_applicable("", order["not_applicable"], _TABLE)
        return
    primary = Setting(
        "", order["tau"], order["tau_low"], order["tau_high"], f"mean over {order['layers']} layers", (_TABLE,)
    )
    yield primary
    yield from CLAIM.with_thresholds(primary, 0.0, PAPER_TAU, 0.7)
    by_layer = tables.read(_BY_LAYER)
    first = [] if by_layer is None else by_layer.filter(layer=0).drop_nulls("group_tau").to_dicts()
    for row in first:
        yield Setting(
            "layer 0 alone", row["group_tau"], row["group_tau_low"], row["group_tau_high"], None, (_BY_LAYER,)
        )
    single = rows["position_tau"]
    test = replace(
        CLAIM.test,
        quantity="Kendall's τ between the variances of single positions before and after W_O, mean over layers",
    )
    yield Setting(
        "single positions", single["tau"], single["tau_low"], single["tau_high"],
        "not corrected for sampling error that both sides share", (_TABLE,), test=test,
    )  # fmt: skip
    dims = rows["dim_tau"]
    if dims["tau"] is not None:
        test = replace(
            CLAIM.test,
            quantity="Kendall's τ over dims of the value aggregation between their standard deviation and the norm of their column in W_O, mean over layers",
            threshold=0.0,
            why="the paper gives a mean τ of 0.32 without saying over which pairs; this is the other reading",
        )
        yield Setting(
            "τ over dims",
            dims["tau"],
            dims["tau_low"],
            dims["tau_high"],
            f"mean over {dims['layers']} layers",
            (_TABLE,),
            test=test,
        )


CLAIM = Claim(
    "C3",
    "W_O keeps the order",
    "the output projection keeps the order of the positions' variances",
    "mean τ = 0.32, over pairs that the paper does not name",
    Test(
        "Kendall's τ between the mean variances of groups of positions (0, 1, 2-3, 4-7, …) before and after W_O, mean over layers",
        "above",
        0.5,
        "above 0.5 three of four pairs of groups keep their order; above 0 it would be little more than half",
        "fewer than three of four pairs of groups keep their order",
    ),
    settings,
    in_random_weights=True,
    reading="Kendall's τ {value} between the orders before and after W_O",
    unit="τ {value}",
    brief="Kendall's τ of the variances before and after it {value}",
)
