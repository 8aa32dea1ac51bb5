"""A3, row-wise sink rate: share of the queries that attend to position 0 most, or by more than a threshold."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.grids import from_rows, read_layers, to_table
from sinkorigin.statistics.missing_parts import layers_with
from sinkorigin.statistics.shared_columns import KEYS, NOT_APPLICABLE, estimate
from sinkorigin.statistics.uniform import uniform_score

_OF_HEADS = {
    **KEYS,
    "layer": (pa.int32(), "layer, counted from 0; null: all layers"),
    "head": (pa.int32(), "query head; null: mean over the heads"),
}

ROW_SINKS_SCHEMA = tables.schema(
    **_OF_HEADS,
    **estimate(
        "largest", "share of the queries q >= 1 whose attention weight on position 0 is above that on every other key"
    ),
    uniform=(pa.float64(), "share that would be so if each query's largest weight lay on any of its q + 1 keys alike"),
    not_applicable=NOT_APPLICABLE,
)

ROW_SINK_RATE_SCHEMA = tables.schema(
    **_OF_HEADS,
    epsilon=(pa.float64(), "threshold of the weight"),
    **estimate("rate", "share of the queries q >= 1 whose attention weight on position 0 is above epsilon"),
    **estimate(
        "rate_normalised", "rate of weights divided by the sum of their query's; equal to it where these sum to one"
    ),
    not_applicable=NOT_APPLICABLE,
)

TABLES = {"row_sinks": ROW_SINKS_SCHEMA, "row_sink_rate": ROW_SINK_RATE_SCHEMA}


def compute(
    inputs: Mapping[str, str], *, model: str, prompts: str, epsilons: Sequence[float], resampling: Resampling
) -> dict[str, pa.Table]:
    """A3 by layer and head, the mean over a layer's heads, and that over the heads of all layers.

    The sink rate A2 counts heads by their mean over queries, in which a few queries that give position 0 everything weigh as much as
    many that give it a third; here each query counts once. The query at position 0 sees itself only and is left out.

    Args:
        inputs: paths of ``first_token_attention`` (sequence, layer, head, largest, and weight by query) and ``architecture``.
        model, prompts: names, for the first columns.
        epsilons: thresholds of the weight, in 0 … 1.
        resampling: how intervals resample the sequences.

    Returns:
        ``row_sinks`` (L·(H + 1) + 1 rows of ``ROW_SINKS_SCHEMA``, and one for each layer without attention) and ``row_sink_rate`` (as
        many of ``ROW_SINK_RATE_SCHEMA`` for each epsilon). Shares are in 0 … 1; null for sequences of one token.
    """
    names = {"model": model, "prompts": prompts}
    thresholds = np.asarray(epsilons, dtype=np.float64)
    parts: dict[str, list[pa.Table]] = {name: [] for name in TABLES}
    totals: dict[str, np.ndarray] = {}
    heads_in_all, uniform = 0, np.nan
    for layer, points, columns in read_layers(
        inputs["first_token_attention"],
        axes=("sequence", "head"),
        columns=("largest", "weight", "weight_normalised"),
    ):
        weight, normalised = columns["weight"][:, :, 1:], columns["weight_normalised"]  # (N, H, T − 1)
        # nulls say that rows sum to one: the normalised form is the other
        normalised = weight if normalised is None else normalised[:, :, 1:]
        queries = weight.shape[2]
        uniform = uniform_score(0, queries + 1)
        shares = {
            "largest": columns["largest"] / queries if queries else np.full(weight.shape[:2], np.nan),  # (N, H)
            "rate": _share_above(weight, thresholds),  # (N, epsilons, H)
            "rate_normalised": _share_above(normalised, thresholds),
        }
        samples = {
            name: resampling.means(share.reshape(len(share), -1)).reshape(-1, *share.shape[1:])
            for name, share in shares.items()
        }
        for name, part in samples.items():
            total = part.sum(axis=-1)
            totals[name] = totals[name] + total if name in totals else total
        heads_in_all += weight.shape[1]
        means = {
            name: np.concatenate([part, part.mean(axis=-1, keepdims=True)], axis=-1) for name, part in samples.items()
        }
        head = np.append(points["head"].astype(np.float64), np.nan)
        for name, table in _tables(means, resampling, names | {"layer": layer}, head, thresholds, uniform).items():
            parts[name].append(table)
    every = {name: (total / heads_in_all)[..., None] for name, total in totals.items()}
    for name, table in _tables(every, resampling, names | {"layer": [None]}, [None], thresholds, uniform).items():
        parts[name].append(table)
    lacking = layers_with(inputs["architecture"], "attention").lacking
    for name, schema in TABLES.items():
        empty = dict.fromkeys(schema.names)
        rows = [empty | names | {"layer": layer, "not_applicable": why} for layer, why in sorted(lacking.items())]
        parts[name].append(from_rows(schema, rows))
    return {name: pa.concat_tables(part) for name, part in parts.items()}


def _share_above(weights: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """(N, epsilons, H) share of the queries of (N, H, queries) weights above each threshold; NaN without queries."""
    if not weights.shape[2]:
        return np.full((len(weights), len(thresholds), weights.shape[1]), np.nan)
    return np.stack([(weights > threshold).mean(axis=2) for threshold in thresholds], axis=1)


def _tables(
    samples: Mapping[str, np.ndarray],
    resampling: Resampling,
    keys: dict,
    head: object,
    thresholds: np.ndarray,
    uniform: float,
) -> dict[str, pa.Table]:
    """Rows of both tables from (1 + R, rows) shares ``largest`` and (1 + R, epsilons, rows) rates of the data and of replicates."""
    of_rate = {
        key: value
        for name in ("rate", "rate_normalised")
        for key, value in resampling.with_interval(name, samples[name]).items()
    }
    largest = resampling.with_interval("largest", samples["largest"])
    shared = {**keys, "head": head, "not_applicable": None}
    return {
        "row_sinks": to_table(ROW_SINKS_SCHEMA, **shared, **largest, uniform=uniform),
        "row_sink_rate": to_table(ROW_SINK_RATE_SCHEMA, **shared, epsilon=thresholds[:, None], **of_rate),
    }
