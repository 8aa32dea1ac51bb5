"""Attention weight of every query on position 0, and how many queries attend to it most (A3): ``first_token_attention.parquet``."""

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.activations.columns import LAYER, SEQUENCE, list_column

SCHEMA = tables.schema(
    sequence=SEQUENCE,
    layer=LAYER,
    head=(pa.int32(), "query head"),
    largest=(pa.int32(), "number of queries q at positions >= 1 with A[q, 0] > A[q, k] for every other key k"),
    weight=(pa.list_(pa.float32()), "for each query q: its attention weight A[q, 0]"),
    weight_normalised=(
        pa.list_(pa.float32()),
        "for each: A[q, 0] / the sum of the query's weights; null where weights sum to one, so that it is the weight itself",
    ),
)


def first_token_rows(layer: int, first: int, weights: np.ndarray, rows_sum_to_one: bool) -> dict:
    """Columns of the table for one layer.

    Args:
        first: number of the first sequence.
        weights: (n, H, T, T) attention weights.
        rows_sum_to_one: whether the normalised weights are the weights themselves, so that they are null.
    """
    sequences, heads, length, _ = weights.shape
    rows = sequences * heads
    on_first = weights[..., 0]  # (n, H, T)
    # equal weights lie on no key in particular: a head that spreads its attention evenly has no row with its largest at 0
    elsewhere = weights[:, :, 1:, 1:].max(axis=-1, initial=0)  # (n, H, T − 1)
    normalised = pa.nulls(rows, SCHEMA.field("weight_normalised").type)
    if not rows_sum_to_one:
        sums = weights.sum(axis=-1)
        normalised = list_column((on_first / np.where(sums == 0, 1, sums)).reshape(rows, length))
    return {
        "sequence": np.repeat(np.arange(first, first + sequences, dtype=np.int32), heads),
        "layer": np.full(rows, layer, dtype=np.int32),
        "head": np.tile(np.arange(heads, dtype=np.int32), sequences),
        "largest": (on_first[..., 1:] > elsewhere).sum(axis=-1, dtype=np.int32).reshape(-1),
        "weight": list_column(on_first.reshape(rows, length)),
        "weight_normalised": normalised,
    }
