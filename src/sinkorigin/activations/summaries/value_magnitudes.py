"""Norm of every value vector, by key/value head (V4): ``value_magnitudes.parquet``."""

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.activations.columns import LAYER, SEQUENCE, list_column

SCHEMA = tables.schema(
    sequence=SEQUENCE,
    layer=LAYER,
    head=(pa.int32(), "key/value head; the query heads of one group share it"),
    norm=(pa.list_(pa.float32()), "for each position: Euclidean norm of the value vector that enters the aggregation"),
)


def value_norms(values: np.ndarray) -> np.ndarray:
    """(n, H_kv, T) norms of (n, H_kv, T, d_v) values."""
    return np.sqrt(np.einsum("nhtd,nhtd->nht", values, values))


def value_rows(layer: int, first: int, norms: np.ndarray) -> dict:
    """Columns of the table for one layer.

    Args:
        first: number of the first sequence.
        norms: (n, H_kv, T) norms of the values.
    """
    sequences, heads, length = norms.shape
    return {
        "sequence": np.repeat(np.arange(first, first + sequences, dtype=np.int32), heads),
        "layer": np.full(sequences * heads, layer, dtype=np.int32),
        "head": np.tile(np.arange(heads, dtype=np.int32), sequences),
        "norm": list_column(norms.reshape(-1, length)),
    }
