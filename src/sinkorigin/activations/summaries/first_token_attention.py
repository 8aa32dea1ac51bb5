"""Attention weight of every query on position 0, and how many queries attend to it most (A3): ``first_token_attention.parquet``."""

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.activations.columns import LAYER, SEQUENCE, list_column
from sinkorigin.activations.summaries.attention_sums import AttentionSums

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


def first_token_rows(layer: int, first: int, sums: AttentionSums) -> dict:
    """Columns of the table for one layer.

    Args:
        first: number of the first sequence.
        sums: of the layer's attention weights.
    """
    on_first = sums.on_first.numpy()
    sequences, heads, length = on_first.shape
    rows = sequences * heads
    normalised = pa.nulls(rows, SCHEMA.field("weight_normalised").type)
    if not sums.rows_sum_to_one:
        normalised = list_column(sums.on_first_normalised.numpy().reshape(rows, length))
    return {
        "sequence": np.repeat(np.arange(first, first + sequences, dtype=np.int32), heads),
        "layer": np.full(rows, layer, dtype=np.int32),
        "head": np.tile(np.arange(heads, dtype=np.int32), sequences),
        "largest": sums.largest.numpy().reshape(-1),
        "weight": list_column(on_first.reshape(rows, length)),
        "weight_normalised": normalised,
    }
