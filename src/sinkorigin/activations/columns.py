"""Columns that several tables of an extraction have."""

import numpy as np
import pyarrow as pa

LAYER = (pa.int32(), "layer, counted from 0")
RESIDUAL_LAYER = (pa.int32(), "layer, counted from 0; the residual's layer -1 is the embedding")
SEQUENCE = (pa.int32(), "number of the sequence in the prompt table")
# Tables with a row or a list for each position have those of the first positions only: all of them up to here. A sink is told by what all
# queries of a sequence give it, which its score contains whatever their number.
POSITIONS = 2048
POSITION = (pa.int32(), f"position in the sequence, from 0; one of the first {POSITIONS}")
TOKENS = (pa.string(), "first (position 0) or rest (positions >= 1)")


def list_column(values: np.ndarray) -> pa.ListArray:
    """Column of lists, of the numbers' type, from (rows, width) numbers."""
    rows, width = values.shape
    offsets = np.arange(0, rows * width + 1, width, dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)))
