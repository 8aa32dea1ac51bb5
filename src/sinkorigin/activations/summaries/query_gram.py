"""Products of each head's queries, from which their first singular vector is computed (K2): ``query_gram.parquet``."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from torch import Tensor

from sinkorigin import tables
from sinkorigin.activations.columns import LAYER, list_column

SCHEMA = tables.schema(
    layer=LAYER,
    head=(pa.int32(), "query head"),
    dim=(pa.int32(), "dim i of the head"),
    count=(pa.int64(), "number of queries (positions >= 1)"),
    products=(pa.list_(pa.float64()), "sums over queries of q_i q_j for every j"),
)


class QueryGram:
    """Gram matrix of each head's queries at positions >= 1: its first eigenvector is their first right-singular vector."""

    def __init__(self):
        self._sums: dict[int, tuple[int, np.ndarray]] = {}  # queries, (H, d_k, d_k) products

    def add(self, layer: int, queries: Tensor) -> None:
        """Take (n, H, T, d_k) queries of all positions."""
        later = queries[:, :, 1:].transpose(0, 1).flatten(1, 2).numpy()  # (H, n·(T−1), d_k)
        products = np.stack([head.T @ head for head in later])  # NumPy computes one triangle
        count, total = self._sums.get(layer, (0, np.float64(0)))
        self._sums[layer] = count + later.shape[1], total + products.astype(np.float64)  # the batches in float64

    def rows(self) -> Iterator[dict]:
        """Columns of the table, for each part of its rows."""
        for layer, (count, grams) in sorted(self._sums.items()):
            heads, width, _ = grams.shape
            rows = heads * width
            yield {
                "layer": np.full(rows, layer, dtype=np.int32),
                "head": np.repeat(np.arange(heads, dtype=np.int32), width),
                "dim": np.tile(np.arange(width, dtype=np.int32), heads),
                "count": np.full(rows, count),
                "products": list_column(grams.reshape(rows, width)),
            }
