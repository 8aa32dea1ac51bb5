"""Spearman's rank correlation, of many samples at once."""

import numpy as np
import polars as pl

from sinkorigin.statistics.layer_permutations import permuted


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """Rank of each of (..., n) values over the last axis, from 1; ties share their mean rank; NaN where one is NaN."""
    rows = values.reshape(-1, values.shape[-1])
    ranks = pl.DataFrame(rows.T).select(pl.all().rank()).to_numpy().T.reshape(values.shape)
    return np.where(np.isnan(values).any(axis=-1, keepdims=True), np.nan, ranks)


def spearman(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation over the last axis, for (..., n) values; ties share their mean rank."""
    left, right = mean_ranks(left), mean_ranks(right)
    left = left - left.mean(axis=-1, keepdims=True)
    right = right - right.mean(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (left * right).sum(axis=-1) / np.sqrt(np.square(left).sum(axis=-1) * np.square(right).sum(axis=-1))


def permuted_p(left: np.ndarray, right: np.ndarray, orders: np.ndarray) -> float | None:
    """Share of the orders of one side in which Spearman's rank correlation is at least as far from 0 as it is.

    Args:
        left, right: (n,) values.
        orders: (P, n) orders of the left ones, the first as they are.

    Returns:
        None where the correlation is not defined: a value is NaN, or all of one side are equal.
    """
    if np.isnan(spearman(left, right)):
        return None
    other = mean_ranks(right) - (len(right) + 1) / 2
    products = np.abs(np.concatenate([part @ other for part in permuted(mean_ranks(left), orders)]))
    return float((products >= products[0] - 1e-9).mean())
