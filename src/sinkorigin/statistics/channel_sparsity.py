"""S2, channel sparsity: how few residual dims the down weights of a neuron write to (docs/paper.md)."""

import numpy as np


def max_over_mean(vectors: np.ndarray) -> np.ndarray:
    """max_j |w_j| / mean_j |w_j| over the last axis, from 1 (all equal) to d (one dim has everything)."""
    magnitude = np.abs(vectors)
    with np.errstate(invalid="ignore"):
        return magnitude.max(axis=-1) / magnitude.mean(axis=-1, dtype=np.float64)


def excess_kurtosis(vectors: np.ndarray) -> np.ndarray:
    """mean((w − mean w)⁴) / mean((w − mean w)²)² − 3 over the last axis: 0 for normal weights, up to d for one dim."""
    centred = np.asarray(vectors, dtype=np.float64)
    centred = centred - centred.mean(axis=-1, keepdims=True)
    squared = centred**2
    with np.errstate(invalid="ignore"):
        return (squared**2).mean(axis=-1) / squared.mean(axis=-1) ** 2 - 3


def participation_ratio(vectors: np.ndarray) -> np.ndarray:
    """(Σ w²)² / Σ w⁴ over the last axis: the number of dims that carry the vector, from 1 to d."""
    squared = np.asarray(vectors, dtype=np.float64) ** 2
    with np.errstate(invalid="ignore"):
        return squared.sum(axis=-1) ** 2 / (squared**2).sum(axis=-1)


def top_dims(vectors: np.ndarray, count: int = 2) -> np.ndarray:
    """(..., count) dims of the largest magnitude, largest first; the smaller dim first of equals."""
    magnitude = np.abs(vectors)
    dims = np.empty((*magnitude.shape[:-1], count), dtype=np.intp)
    for place in range(count):  # a few passes take a fraction of a sort's time
        dims[..., place] = magnitude.argmax(axis=-1)  # the first of equals
        np.put_along_axis(magnitude, dims[..., place, None], -1, axis=-1)
    return dims
