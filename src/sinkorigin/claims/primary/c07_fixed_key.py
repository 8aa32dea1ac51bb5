"""C7: the first token's key collapses to one direction, which its largest dims give."""

from collections.abc import Iterator

import polars as pl

from sinkorigin.claims.claim import Claim, Setting, not_applicable
from sinkorigin.claims.sinks import NO_SINK, sink_layers
from sinkorigin.claims.tests import Test
from sinkorigin.claims.verdicts import StudyTables

_TABLE = "key_collapse"
_QUANTITIES = {"one_dim": "", "two_dims": "from two dims", "between_sequences": "between sequences"}


def settings(tables: StudyTables) -> Iterator[Setting]:
    """In the layer of the strongest sink: from one dim, from two, between sequences; and in every other layer with a sink."""
    table = tables.read(_TABLE)
    if table is None:
        return
    layers = sink_layers(tables)
    if not layers:
        yield not_applicable("", NO_SINK, _TABLE)
        return
    means = {row["layer"]: row for row in table.filter(pl.col("head").is_null()).to_dicts()}
    strongest = means[layers[0].layer]
    for name, what in _QUANTITIES.items():
        if strongest[name] is None:
            yield not_applicable(what, strongest["not_applicable"], _TABLE)
            continue
        found = Setting(
            what, *_ends(strongest, name), f"layer {strongest['layer']}, where the sink is strongest", (_TABLE,)
        )
        yield found
        if not what:
            yield from CLAIM.with_thresholds(found, 0.8, 0.95)
    for layer in sorted(one.layer for one in layers[1:]):
        if means[layer]["one_dim"] is not None:
            yield Setting(f"layer {layer}", *_ends(means[layer], "one_dim"), None, (_TABLE,))


def _ends(row: dict, name: str) -> tuple[float, float, float]:
    return row[name], row[f"{name}_low"], row[f"{name}_high"]


CLAIM = Claim(
    "C7",
    "key collapses to one dim's direction",
    "where the sink is strongest, the first token's key is the one that its largest dim alone gives",
    "k_0 ≈ ±√d·γ_c·W_K[:, c]",
    Test(
        "cosine between the key of position 0 and its prediction from the residual's largest dim, mean over heads",
        "above",
        0.9,
        "a cosine of 0.9 leaves a fifth of the squared length to everything else",
        "a fifth of the key's squared length or more comes from other dims",
    ),
    settings,
    reading="cosine {value} between the first token's key and what its largest dim alone gives",
    brief="cosine {value}",
)
