"""Columns that several tables of an extraction have."""

import numpy as np
import pyarrow as pa

LAYER = (pa.int32(), "layer, counted from 0")
RESIDUAL_LAYER = (pa.int32(), "layer, counted from 0; the residual's layer -1 is the embedding")
SEQUENCE = (pa.int32(), "number of the sequence in the prompt table")
POSITION = (pa.int32(), "position in the sequence, from 0")
TOKENS = (pa.string(), "first (position 0) or rest (positions >= 1)")


def list_column(values: np.ndarray) -> pa.ListArray:
    """Column of lists, of the numbers' type, from (rows, width) numbers."""
    rows, width = values.shape
    offsets = np.arange(0, rows * width + 1, width, dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)))
