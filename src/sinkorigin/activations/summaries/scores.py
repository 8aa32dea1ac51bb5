"""Sink score of every key position in every sequence, layer and head (A1): ``scores.parquet``."""

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sinkorigin import tables
from sinkorigin.activations.columns import LAYER, SEQUENCE

SCHEMA = tables.schema(
    sequence=SEQUENCE,
    layer=LAYER,
    head=(pa.int32(), "query head"),
    position=(pa.int32(), "key position k"),
    score=(pa.float32(), "mean of the attention weight A[q, k] over queries q >= k"),
    score_excluding_self=(pa.float32(), "the same over q > k; null at the last position"),
    score_normalised=(
        pa.float32(),
        "score of A[q, k] / the sum of query q's weights; null where weights sum to one, so that it is the score itself",
    ),
    score_excluding_self_normalised=(pa.float32(), "the same over q > k; null there and at the last position"),
)


def attention_scores(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Sink score of every key position (docs/paper.md, A1; sail-sg's importance score).

    Args:
        weights: (N, H, T, T) causal attention weights A[q, k].

    Returns:
        score (N, H, T): sum over q >= k of A[q, k] / (T - k); and the score without the query at k, the sum over q > k
        / (T - k - 1), which is NaN at the last position.
    """
    length = weights.shape[-1]
    counts = torch.arange(length, 0, -1, device=weights.device)  # T - k
    weights = weights.float()
    columns = weights.sum(dim=-2)  # causal: rows above the diagonal are zero
    itself = weights.diagonal(dim1=-2, dim2=-1)
    after = counts - 1
    excluding_self = (columns - itself) / after.clamp_min(1)
    return columns / counts, excluding_self.masked_fill(after == 0, torch.nan)


def normalised_rows(weights: Tensor) -> Tensor:
    """Attention weights (N, H, T, T) with each row divided by its sum; a row of zeros stays one."""
    sums = weights.sum(dim=-1, keepdim=True)
    return weights / sums.masked_fill(sums == 0, 1)


def score_rows(layer: int, first: int, weights: Tensor, rows_sum_to_one: bool) -> dict:
    """Columns of the table for one layer.

    Args:
        first: number of the first sequence.
        weights: (n, H, T, T) attention weights.
        rows_sum_to_one: whether the normalised scores are the scores themselves, so that they are null.
    """
    score, excluding_self = (part.numpy() for part in attention_scores(weights))  # (n, H, T)
    sequences, heads, length = score.shape
    rows = sequences * heads * length
    normalised = normalised_excluding_self = pa.nulls(rows, pa.float32())
    if not rows_sum_to_one:
        parts = attention_scores(normalised_rows(weights))
        normalised, normalised_excluding_self = (_nan_as_null(part.numpy()) for part in parts)
    return {
        "sequence": np.repeat(np.arange(first, first + sequences, dtype=np.int32), heads * length),
        "layer": np.full(rows, layer, dtype=np.int32),
        "head": np.tile(np.repeat(np.arange(heads, dtype=np.int32), length), sequences),
        "position": np.tile(np.arange(length, dtype=np.int32), sequences * heads),
        "score": score.reshape(-1),
        "score_excluding_self": _nan_as_null(excluding_self),
        "score_normalised": normalised,
        "score_excluding_self_normalised": normalised_excluding_self,
    }


def _nan_as_null(values: np.ndarray) -> pa.Array:
    flat = values.reshape(-1)
    return pa.array(flat, mask=np.isnan(flat))
