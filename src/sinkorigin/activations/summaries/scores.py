"""Sink score of every key position in every sequence, layer and head (A1): ``scores.parquet``."""

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sinkorigin import tables
from sinkorigin.activations.columns import LAYER, POSITIONS, SEQUENCE
from sinkorigin.activations.summaries.attention_sums import AttentionSums

SCHEMA = tables.schema(
    sequence=SEQUENCE,
    layer=LAYER,
    head=(pa.int32(), "query head"),
    position=(pa.int32(), f"key position k, one of the first {POSITIONS}"),
    score=(pa.float32(), "mean of the attention weight A[q, k] over queries q >= k"),
    score_excluding_self=(pa.float32(), "the same over q > k; null at the last position"),
    score_normalised=(
        pa.float32(),
        "score of A[q, k] / the sum of query q's weights; null where weights sum to one, so that it is the score itself",
    ),
    score_excluding_self_normalised=(pa.float32(), "the same over q > k; null there and at the last position"),
)


def attention_scores(columns: Tensor, itself: Tensor) -> tuple[Tensor, Tensor]:
    """Sink score of every key position (docs/paper.md, A1; sail-sg's importance score).

    Args:
        columns: (N, H, T) sum over queries q of the causal attention weights A[q, k].
        itself: (N, H, T) A[k, k].

    Returns:
        score (N, H, T): sum over q >= k of A[q, k] / (T - k); and the score without the query at k, the sum over q > k
        / (T - k - 1), which is NaN at the last position.
    """
    counts = torch.arange(columns.shape[-1], 0, -1, device=columns.device)  # T - k
    after = counts - 1
    excluding_self = (columns - itself) / after.clamp_min(1)
    return columns / counts, excluding_self.masked_fill(after == 0, torch.nan)


def score_rows(layer: int, first: int, sums: AttentionSums) -> dict:
    """Columns of the table for one layer.

    Args:
        first: number of the first sequence.
        sums: of the layer's attention weights.
    """
    scores = attention_scores(sums.columns, sums.itself)  # (n, H, T)
    score, excluding_self = (part[..., :POSITIONS].numpy() for part in scores)
    sequences, heads, positions = score.shape
    rows = sequences * heads * positions
    normalised = normalised_excluding_self = pa.nulls(rows, pa.float32())
    if not sums.rows_sum_to_one:
        scores = attention_scores(sums.normalised_columns, sums.normalised_itself)
        normalised, normalised_excluding_self = (_nan_as_null(part[..., :POSITIONS].numpy()) for part in scores)
    return {
        "sequence": np.repeat(np.arange(first, first + sequences, dtype=np.int32), heads * positions),
        "layer": np.full(rows, layer, dtype=np.int32),
        "head": np.tile(np.repeat(np.arange(heads, dtype=np.int32), positions), sequences),
        "position": np.tile(np.arange(positions, dtype=np.int32), sequences * heads),
        "score": score.reshape(-1),
        "score_excluding_self": _nan_as_null(excluding_self),
        "score_normalised": normalised,
        "score_excluding_self_normalised": normalised_excluding_self,
    }


def _nan_as_null(values: np.ndarray) -> pa.Array:
    flat = values.reshape(-1)
    return pa.array(flat, mask=np.isnan(flat))
