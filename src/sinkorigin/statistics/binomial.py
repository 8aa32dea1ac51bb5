"""Shares of sequences: exact intervals, and two shares of the same sequences compared."""

from dataclasses import dataclass

import numpy as np


def exact_interval(count: int, sequences: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a share, exact under the binomial distribution (Clopper & Pearson 1934).

    Args:
        count: sequences that do it.
        sequences: number of sequences N.

    Returns:
        Low and high, in 0 … 1.
    """
    from scipy.special import betaincinv  # not above: most statistics need no scipy, and each job pays for imports

    tail = (1 - confidence) / 2
    low = betaincinv(count, sequences - count + 1, tail) if count else 0.0
    high = betaincinv(count + 1, sequences - count, 1 - tail) if count < sequences else 1.0
    return float(low), float(high)


def at_most_p(count: int, sequences: int, share: float) -> float:
    """P(X ≥ count) for X binomial with probability ``share``: the p-value of "the true share is at most ``share``"."""
    from scipy.special import bdtrc

    return float(bdtrc(count - 1, sequences, share)) if count else 1.0


def share_p(count: int, sequences: int, share: float) -> float:
    """Two-sided p-value of "the true share is ``share``": twice the smaller tail, so that it agrees with :func:`exact_interval`."""
    return min(1.0, 2 * min(at_most_p(count, sequences, share), at_most_p(sequences - count, sequences, 1 - share)))


@dataclass(frozen=True)
class PairedShares:
    """Two shares of the same N sequences.

    Attributes:
        first_only, second_only: sequences that do only the one.
        difference: share of the first − share of the second.
        low, high: its 95 % score interval (Tango 1998).
        p: exact two-sided p-value of "the shares are equal" (McNemar 1947).
    """

    first_only: int
    second_only: int
    difference: float
    low: float
    high: float
    p: float


def paired_shares(first: np.ndarray, second: np.ndarray, confidence: float = 0.95) -> PairedShares:
    """Compare the shares of sequences that do two things.

    Args:
        first, second: (N,) booleans, whether each sequence does it.
    """
    from scipy.special import bdtr

    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    b, c, n = int((first & ~second).sum()), int((second & ~first).sum()), len(first)
    p = min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5))) if b + c else 1.0
    low, high = tango_interval(b, c, n, confidence)
    return PairedShares(b, c, (b - c) / n, low, high, p)


def tango_interval(first_only: int, second_only: int, sequences: int, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of the difference of two shares of the same sequences (Tango 1998, Statistics in Medicine 17).

    The values δ for which |score(δ)| is below the normal quantile, where score(δ) = (b − c − N δ) / √(N (2 q + δ (1 − δ))) and q is
    the maximum-likelihood estimate of P(second only) given δ. At δ = 0 it is McNemar's statistic without correction.

    Args:
        first_only, second_only: b and c, sequences that do only the one.
        sequences: N.
    """
    from scipy.special import ndtri

    b, c, n = first_only, second_only, sequences
    quantile = float(ndtri(1 - (1 - confidence) / 2))

    def score(delta: float) -> float:
        linear = -b - c + (2 * n - b + c) * delta
        constant = -c * delta * (1 - delta)
        q = (np.sqrt(max(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)
        variance = n * (2 * q + delta * (1 - delta))
        distance = b - c - n * delta
        return np.sign(distance) * np.inf if variance <= 0 and distance else distance / np.sqrt(max(variance, 1e-300))

    estimate = (b - c) / n
    return _crossing(score, -1.0, estimate, quantile), _crossing(score, estimate, 1.0, -quantile)


def _crossing(score, below: float, above: float, level: float) -> float:
    """Where a falling function crosses a level between two places, by bisection to rounding; an end where it does not."""
    if score(below) < level:
        return below
    if score(above) > level:
        return above
    for _ in range(60):
        middle = (below + above) / 2
        below, above = (middle, above) if score(middle) > level else (below, middle)
    return (below + above) / 2
