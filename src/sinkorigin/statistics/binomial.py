"""Shares of sequences: exact intervals, and two shares of the same sequences compared.

Exact tests count independent sequences. Where sequences come in clusters (windows of one document) both counts are first scaled to the
*effective number* of sequences: so many independent ones would give the share the standard error that it has over clusters (Korn &
Graubard 1998, Survey Methodology 24, "effective sample size"). Without clusters the effective number is N, and nothing is scaled.
"""

from dataclasses import dataclass

import numpy as np

from sinkorigin.statistics.bootstrap import Resampling, totals


def effective_number(values: np.ndarray, resampling: Resampling) -> float:
    """Number of independent sequences that would give the mean of (N,) values the standard error that it has over clusters.

    N · variance of the mean under independence / its cluster-robust variance, · (t_N / t_G)², the 97.5 % quantiles of Student's t with
    N − 1 and G − 1 degrees of freedom, because the second variance is estimated from G clusters; at most N. Where all values are alike
    nothing says how far clusters decide, and each counts once: G.
    """
    from scipy.special import stdtrit  # not above: most statistics need no scipy, and each job pays for imports

    sequences = len(values)
    members = resampling.members(sequences)
    clusters = int(members.max()) + 1
    if clusters == sequences:
        return float(sequences)
    centred = np.asarray(values, dtype=np.float64) - np.mean(values)
    independent = np.square(centred).sum() / (sequences * (sequences - 1))
    if not independent > 0 or clusters < 2:
        return float(clusters)
    by_cluster = np.square(totals(centred, members)).sum() * clusters / ((clusters - 1) * sequences**2)
    quantiles = stdtrit(sequences - 1, 0.975) / stdtrit(clusters - 1, 0.975)
    return float(min(sequences, sequences * quantiles**2 * independent / max(by_cluster, 1e-300)))


def share_interval(does: np.ndarray, resampling: Resampling) -> tuple[float, float]:
    """Exact interval of the share of sequences that do something, from (N,) booleans; NaN where there are too few clusters."""
    if resampling.too_few:
        return np.nan, np.nan
    effective = effective_number(does, resampling)
    return exact_interval(int(np.sum(does)) * effective / len(does), effective)


def share_columns(name: str, does: np.ndarray, resampling: Resampling) -> dict[str, float | None]:
    """Columns of a share and of its interval; null where there are no sequences."""
    if not len(does):
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    low, high = share_interval(does, resampling)
    return {name: int(np.sum(does)) / len(does), f"{name}_low": low, f"{name}_high": high}


def exact_interval(count: float, sequences: float, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a share, exact under the binomial distribution (Clopper & Pearson 1934).

    Args:
        count: sequences that do it.
        sequences: number of sequences N; an effective number need not be whole.

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


def two_sided_p(count: int, sequences: int, share: float) -> float:
    """Two-sided p-value of "the true share is ``share``": twice the smaller tail, as the ends of :func:`exact_interval` are."""
    from scipy.special import bdtr

    return min(1.0, 2 * min(float(bdtr(count, sequences, share)), at_most_p(count, sequences, share)))


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


def paired_shares(
    first: np.ndarray, second: np.ndarray, resampling: Resampling, confidence: float = 0.95
) -> PairedShares:
    """Compare the shares of sequences that do two things.

    Args:
        first, second: (N,) booleans, whether each sequence does it.
        resampling: in clusters, the counts of the interval and of p are scaled to the effective number of sequences; both are NaN where
            there are too few clusters.
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    b, c, n = int((first & ~second).sum()), int((second & ~first).sum()), len(first)
    if resampling.too_few:
        return PairedShares(b, c, (b - c) / n, np.nan, np.nan, np.nan)
    effective = effective_number(first.astype(float) - second, resampling)
    scale = effective / n
    low, high = tango_interval(b * scale, c * scale, effective, confidence)
    return PairedShares(b, c, (b - c) / n, low, high, mcnemar_p(b * scale, c * scale))


def mcnemar_p(first_only: float, second_only: float) -> float:
    """Exact two-sided p-value of McNemar's test: P(X ≤ the smaller) for X binomial with probability 1/2, doubled."""
    from scipy.special import bdtr, betainc

    least, count = min(first_only, second_only), first_only + second_only
    if not count:
        return 1.0
    if least == int(least) and count == int(count):
        return min(1.0, 2 * float(bdtr(least, int(count), 0.5)))
    return min(1.0, 2 * float(betainc(count - least, least + 1, 0.5)))  # the binomial distribution between whole counts


def tango_interval(
    first_only: float, second_only: float, sequences: float, confidence: float = 0.95
) -> tuple[float, float]:
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
