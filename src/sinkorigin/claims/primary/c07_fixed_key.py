"""C7a and C7b: the first token's key collapses to a fixed direction, which its largest dims give."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import polars as pl

from sinkorigin.claims.claim import Claim, Setting, not_applicable
from sinkorigin.claims.sinks import NO_SINK, sink_layers
from sinkorigin.claims.tests import Test
from sinkorigin.claims.verdicts import StudyTables

_TABLE = "key_collapse"


def _settings(
    test: Test, quantities: dict[str, str], thresholds: tuple[float, ...]
) -> Callable[[StudyTables], Iterator[Setting]]:
    """Settings in the layer of the strongest sink, held against several thresholds; and of the first quantity in every other layer with a sink.

    Args:
        test: of the claim.
        quantities: column of ``key_collapse`` → what the setting is called; the first one decides.
    """

    def settings(tables: StudyTables) -> Iterator[Setting]:
        table = tables.read(_TABLE)
        if table is None:
            return
        layers = sink_layers(tables)
        if not layers:
            yield not_applicable("", NO_SINK, _TABLE)
            return
        means = {row["layer"]: row for row in table.filter(pl.col("head").is_null()).to_dicts()}
        strongest = means[layers[0].layer]
        for name, what in quantities.items():
            if strongest[name] is None:
                yield not_applicable(what, strongest["not_applicable"], _TABLE)
                continue
            where = f"layer {strongest['layer']}, where the sink is strongest"
            found = Setting(what, *_ends(strongest, name), where, (_TABLE,))
            yield found
            if not what:
                for threshold in thresholds:
                    yield replace(found, what=f"threshold {threshold:g}", test=replace(test, threshold=threshold))
        decisive = next(iter(quantities))
        for layer in sorted(one.layer for one in layers[1:]):
            if means[layer][decisive] is not None:
                yield Setting(f"layer {layer}", *_ends(means[layer], decisive), None, (_TABLE,))

    return settings


def _ends(row: dict, name: str) -> tuple[float, float, float]:
    return row[name], row[f"{name}_low"], row[f"{name}_high"]


_FIXED = Test(
    "cosine between sequences of the key of position 0, mean over heads",
    "above",
    0.9,
    "a cosine of 0.9 leaves a tenth of the squared length to what differs between sequences",
    "a tenth of the key's squared length or more differs between sequences",
)
_ONE_DIM = Test(
    "cosine between the key of position 0 and its prediction from the residual's largest dim, mean over heads",
    "above",
    0.9,
    "a cosine of 0.9 leaves a fifth of the squared length to everything else",
    "a fifth of the key's squared length or more comes from other dims",
)

FIXED = Claim(
    "C7a",
    "key has a fixed direction",
    "where the sink is strongest, the first token's key has the same direction in every sequence",
    "k_0 collapses to a fixed direction",
    _FIXED,
    _settings(_FIXED, {"between_sequences": ""}, (0.8, 0.95, 0.99)),
    reading="cosine {value} between the first token's keys of two sequences",
    unit="cosine {value}",
    brief="cosine {value} between sequences",
)

ONE_DIM = Claim(
    "C7b",
    "key is that of one dim",
    "where the sink is strongest, the first token's key is the one that its largest dim alone gives",
    "k_0 ≈ ±√d·γ_c·W_K[:, c]",
    _ONE_DIM,
    _settings(_ONE_DIM, {"one_dim": "", "two_dims": "from two dims"}, (0.8, 0.95)),
    reading="cosine {value} between the first token's key and what its largest dim alone gives",
    unit="cosine {value}",
    brief="cosine {value} with what its largest dim alone gives",
)
