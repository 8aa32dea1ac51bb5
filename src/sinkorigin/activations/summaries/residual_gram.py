"""Sums and products of the residual stream's dims, from which effective ranks are computed (E1): ``residual_gram.parquet``."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from torch import Tensor

from sinkorigin import tables
from sinkorigin.activations.columns import RESIDUAL_LAYER, TOKENS, list_column

SCHEMA = tables.schema(
    layer=RESIDUAL_LAYER,
    tokens=TOKENS,
    dim=(pa.int32(), "dim i"),
    count=(pa.int64(), "number of tokens"),
    sum=(pa.float64(), "sum over tokens of x_i"),
    products=(pa.list_(pa.float64()), "sums over tokens of x_i x_j for j >= i; null where values are given"),
    values=(
        pa.list_(pa.float32()),
        "x_i of every token, where the tokens are at most half as many as the dims: the smaller of the two",
    ),
)


class ResidualGram:
    """Gram matrix over tokens of the residual stream in float64: one (d, d) matrix a layer for the first tokens and one
    for the others, which hold what singular values and means need. Up to d / 2 tokens are kept as they are instead."""

    def __init__(self):
        self._counts: dict[tuple[int, str], int] = {}
        self._totals: dict[tuple[int, str], np.ndarray] = {}  # (d,)
        self._few: dict[tuple[int, str], list[np.ndarray]] = {}  # (m, d) float32 each
        self._grams: dict[tuple[int, str], np.ndarray] = {}  # X^T X, once there are more

    def add(self, layer: int, tokens: str, vectors: Tensor) -> None:
        """Take (m, d) residual vectors of these tokens: "first" or "rest"."""
        if not len(vectors):
            return
        key, values = (layer, tokens), vectors.numpy()
        self._counts[key] = self._counts.get(key, 0) + len(values)
        self._totals[key] = self._totals.get(key, 0.0) + values.sum(0, dtype=np.float64)
        if self._counts[key] <= values.shape[1] // 2:
            self._few.setdefault(key, []).append(values.copy())
            return
        for part in (*self._few.pop(key, []), values):
            product = _products(part)
            if key in self._grams:
                product += self._grams[key]
            self._grams[key] = product

    def matrices(self) -> Iterator[tuple[int, str, np.ndarray]]:
        """Layer, tokens and (d, d) Gram matrix of each, in order."""
        for layer, tokens in sorted(self._counts):
            few = self._few.get((layer, tokens))
            yield layer, tokens, self._grams[layer, tokens] if few is None else _products(np.concatenate(few))

    def rows(self) -> Iterator[dict]:
        """Columns of the table, for each part of its rows."""
        products, values = (SCHEMA.field(name).type for name in ("products", "values"))
        for key, count in sorted(self._counts.items()):
            layer, tokens = key
            width = len(self._totals[key])
            columns = {"products": pa.nulls(width, products), "values": pa.nulls(width, values)}
            if key in self._few:
                columns["values"] = list_column(np.concatenate(self._few[key]).T)
            else:
                offsets = np.concatenate([[0], np.cumsum(np.arange(width, 0, -1))]).astype(np.int32)
                upper = np.concatenate([row[i:] for i, row in enumerate(self._grams[key])])
                columns["products"] = pa.ListArray.from_arrays(offsets, pa.array(upper), type=products)
            yield {
                "layer": np.full(width, layer, dtype=np.int32),
                "tokens": [tokens] * width,
                "dim": np.arange(width, dtype=np.int32),
                "count": np.full(width, count),
                "sum": self._totals[key],
                **columns,
            }


def _products(vectors: np.ndarray) -> np.ndarray:
    """X^T X in float64 of (m, d) vectors; NumPy sees the transpose and computes one triangle."""
    double = vectors.astype(np.float64)
    return double.T @ double
