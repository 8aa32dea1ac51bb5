"""Kendall's rank correlation of many curves at once."""

import numpy as np

from sinkorigin.statistics.bootstrap import Resampling


def kendall_tau(values: np.ndarray) -> np.ndarray:
    """Kendall's tau-a of (..., T) values against their index (Kendall 1938): (rising − falling pairs) / all pairs.

    A tie counts as neither, which lowers |tau|; variances of real activations have none. O(T²) time, O(T) memory.

    Returns:
        (...) in −1 … 1: −1 for a strictly falling curve; NaN where a value is NaN or there is one value only.
    """
    values = np.asarray(values, dtype=np.float64)
    length = values.shape[-1]
    ranks = np.ascontiguousarray(_dense_ranks(values.reshape(-1, length)).T)  # small integers compare fastest
    total = np.zeros(ranks.shape[1])
    balance = np.zeros(ranks.shape, dtype=np.int8)  # rising − falling pairs that end here
    for i in range(length - 1):
        later = ranks[i + 1 :]
        balance[i + 1 :] += (later > ranks[i]).view(np.int8)
        balance[i + 1 :] -= (later < ranks[i]).view(np.int8)
        if i % 127 == 126 or i == length - 2:  # before a sum leaves the range of its type
            total += balance.sum(axis=0)
            balance[:] = 0
    pairs = length * (length - 1) / 2
    tau = (total / pairs if pairs else np.full_like(total, np.nan)).reshape(values.shape[:-1])
    return np.where(np.isnan(values).any(axis=-1), np.nan, tau)


def _dense_ranks(rows: np.ndarray) -> np.ndarray:
    """(R, n) places of the values among the different values of their row, from 0."""
    order = np.argsort(rows, axis=1)
    ordered = np.take_along_axis(rows, order, axis=1)
    ranks = np.zeros(rows.shape, dtype=np.min_scalar_type(-rows.shape[1]))
    places = np.cumsum(ordered[:, 1:] != ordered[:, :-1], axis=1)
    np.put_along_axis(ranks, order[:, 1:], places.astype(ranks.dtype), axis=1)
    return ranks


def kendall_between(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Kendall's tau-a of each row of two (R, n) arrays, for few n: (agreeing − disagreeing pairs) / all pairs.

    Returns:
        (R,) in −1 … 1, NaN for n < 2. Memory is that of R·n² numbers.
    """
    signs = (np.sign(values[:, :, None] - values[:, None, :]) for values in (left, right))
    agreement = np.prod(list(signs), axis=0).sum(axis=(1, 2))  # every pair twice
    pairs = left.shape[1] * (left.shape[1] - 1)
    return agreement / pairs if pairs else np.full(len(left), np.nan)


def kendall_tau_b(values: np.ndarray, against: np.ndarray) -> np.ndarray:
    """Kendall's tau-b, which allows for ties (Kendall 1945), of (..., n) values against (n,) others.

    Returns:
        (...) in −1 … 1; NaN where either is the same everywhere.
    """
    # infinities are in order too, but inf − inf is not a number
    other = np.unique(against, return_inverse=True)[1]
    upper = np.triu_indices(len(other), 1)
    sign = np.sign(np.subtract.outer(other, other)[upper])
    order = np.sign(values[..., upper[0]] - values[..., upper[1]])
    with np.errstate(divide="ignore", invalid="ignore"):
        return (order * sign).sum(axis=-1) / np.sqrt((order != 0).sum(axis=-1) * (sign != 0).sum())


def order_interval(orders: np.ndarray, resampling: Resampling) -> tuple[float, float, float]:
    """A τ, and an interval that holds those of several estimates of it.

    A replicate has the sampling error twice, which lowers |τ|: its percentiles alone may lie beside the estimate. The interval holds those
    of the replicates as they are and as moved back to the estimate.

    Args:
        orders: (estimates, 1 + R) of τ and its replicates; the first estimate is the one that is given.
        resampling: of the replicates.

    Returns:
        τ, low and high; NaN ends without replicates, or where a τ is NaN.
    """
    value = float(orders[0, 0])
    if orders.shape[1] < 2 or not np.isfinite(orders[:, 0]).all():
        return value, np.nan, np.nan
    low, high = resampling.interval(orders[:, 1:], axis=1)
    moved = orders[:, 0] - np.nanmean(orders[:, 1:], axis=1)
    ends = max(min(value, *low, *(low + moved)), -1.0), min(max(value, *high, *(high + moved)), 1.0)
    return value, float(ends[0]), float(ends[1])
