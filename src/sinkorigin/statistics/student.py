"""Means over a few seeds: intervals and p-values by Student's distribution, which is wider than the normal one for few of them."""

from collections.abc import Sequence

import numpy as np


def paired_interval(differences: Sequence[float] | np.ndarray) -> tuple[float, float | None, float | None]:
    """Mean of paired differences over seeds, and its 95 % Student interval (n − 1 degrees of freedom; none for n = 1)."""
    values = np.asarray(differences, dtype=np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return mean, None, None
    from scipy.stats import t  # not above: most statistics need no scipy, and each job pays for imports

    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def two_sided_p(values: Sequence[float] | np.ndarray, at: float) -> float | None:
    """Two-sided p-value of "the true mean is ``at``" by Student's t (n − 1 degrees of freedom); None for n = 1.

    Of values that are all alike it is 1 if they are ``at``, else 0.
    """
    found = np.asarray(values, dtype=np.float64)
    if len(found) < 2:
        return None
    from scipy.stats import t

    error = found.std(ddof=1) / np.sqrt(len(found))
    distance = abs(found.mean() - at)
    if error == 0:
        return float(distance == 0)
    return float(2 * t.sf(distance / error, len(found) - 1))


def seeds_needed(values: Sequence[float] | np.ndarray, at: float, most: int = 100) -> int | None:
    """Number of seeds whose interval would leave ``at`` out, if they had the mean and the scatter of these.

    Returns:
        The smallest n with t(0.975, n − 1) · sd / √n < |mean − at|; None for one seed, or where it is more than ``most``.
    """
    found = np.asarray(values, dtype=np.float64)
    if len(found) < 2:
        return None
    from scipy.stats import t

    numbers = np.arange(2, most + 1)
    enough = t.ppf(0.975, numbers - 1) * found.std(ddof=1) / np.sqrt(numbers) < abs(found.mean() - at)
    return int(numbers[enough][0]) if enough.any() else None
