"""Exact intervals of shares: how many of so many sequences do something."""


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
