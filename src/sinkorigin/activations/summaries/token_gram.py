"""Products of the residual vectors of one sequence, from which its matrix entropy is computed (E2): ``token_gram.parquet``."""

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.activations.columns import RESIDUAL_LAYER, SEQUENCE, list_column

# The entropy of one sequence differs little from that of another, and its products are as many as its positions squared. A
# model is causal, so the first positions of a long sequence are a shorter sequence.
SEQUENCES = 16
POSITIONS = 128

SCHEMA = tables.schema(
    sequence=SEQUENCE,
    layer=RESIDUAL_LAYER,
    tokens=(pa.int32(), f"number of tokens: the sequence's, or its first {POSITIONS}"),
    width=(pa.int32(), "number of dims"),
    products=(pa.list_(pa.float32()), "x_i · x_j of the residual vectors at positions i <= j"),
)


def gram_rows(layer: int, first: int, values: np.ndarray) -> dict:
    """Columns of the table for one layer; a row for each of the first ``SEQUENCES`` sequences.

    Args:
        first: number of the first sequence.
        values: (n, T, d) residual vectors.
    """
    values = values[: max(0, SEQUENCES - first), :POSITIONS]
    sequences, tokens, width = values.shape
    upper = np.triu_indices(tokens)
    products = np.empty((sequences, len(upper[0])), dtype=np.float32)
    for row, vectors in zip(products, values, strict=True):
        row[:] = (vectors @ vectors.T)[upper]  # NumPy computes one triangle
    return {
        "sequence": np.arange(first, first + sequences, dtype=np.int32),
        "layer": np.full(sequences, layer, dtype=np.int32),
        "tokens": np.full(sequences, tokens, dtype=np.int32),
        "width": np.full(sequences, width, dtype=np.int32),
        "products": list_column(products),
    }
