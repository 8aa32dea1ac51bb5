"""Bootstrap over sequences: never over heads or tokens, which are not independent samples."""

from functools import lru_cache
from typing import Literal

import numpy as np

CONFIDENCE = 0.95


@lru_cache(maxsize=1)
def resamples(sequences: int, replicates: int, seed: int) -> np.ndarray:
    """Weights of the sequences in each bootstrap replicate (Efron 1979).

    Args:
        sequences: N, the number of sequences that each replicate draws, with replacement.
        replicates: R.
        seed: seed of NumPy's default generator; equal N, R and seed give equal weights for every quantity.

    Returns:
        (R, N) float64, read-only: times drawn / N. Rows add to 1, so the replicates of a mean over sequences are
        ``weights @ values`` for (N, ...) values.
    """
    counts = np.random.default_rng(seed).multinomial(sequences, np.full(sequences, 1 / sequences), size=replicates)
    weights = counts / sequences
    weights.flags.writeable = False  # every layer gets the same array
    return weights


def weights_with_data(sequences: int, replicates: int, seed: int) -> np.ndarray:
    """(1 + R, N) weights of the data themselves, and of :func:`resamples`."""
    return np.concatenate([np.full((1, sequences), 1 / sequences), resamples(sequences, replicates, seed)])


def means_with_replicates(values: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """(1 + R, ...) mean over sequences of (N, ...) values, and its replicates."""
    return np.concatenate([values.mean(axis=0, keepdims=True), resamples(len(values), replicates, seed) @ values])


def interval(
    samples: np.ndarray,
    axis: int = 0,
    method: Literal["linear", "inverted_cdf"] = "linear",
    confidence: float = CONFIDENCE,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of bootstrap replicates.

    Args:
        samples: replicates along ``axis``; a NaN (a quantity that a replicate does not have) is left out.
        method: how a percentile between two replicates is taken, as in ``numpy.percentile``.
        confidence: share of the replicates inside the interval.

    Returns:
        low and high, each of the shape of ``samples`` without ``axis``; NaN where every replicate is NaN.
    """
    samples = np.moveaxis(np.asarray(samples, dtype=np.float64), axis, 0)
    ordered = np.sort(samples.reshape(len(samples), -1), axis=0)  # NaN last; faster here than a selection
    known = len(samples) - np.isnan(ordered).sum(axis=0)
    last = np.maximum(known - 1, 0)
    tail = (1 - confidence) / 2
    bounds = np.full((2, ordered.shape[1]), np.nan)
    for bound, share in zip(bounds, (tail, 1 - tail), strict=True):
        place = last * share if method == "linear" else np.ceil(np.maximum(known * share - 1, 0))
        below = np.floor(place).astype(np.intp)
        first, second = (
            np.take_along_axis(ordered, index[None], axis=0)[0] for index in (below, np.minimum(below + 1, last))
        )
        bound[:] = first + (second - first) * (place - below)
    low, high = bounds.reshape(2, *samples.shape[1:])
    return low, high


def with_interval(name: str, samples: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of a quantity and of its interval, see :func:`shared_columns.estimate`.

    Args:
        name: name of the quantity.
        samples: (1 + R, ...) its value, and its bootstrap replicates.
    """
    low, high = interval(samples[1:])
    return {name: samples[0], f"{name}_low": low, f"{name}_high": high}


def first_layer_above(
    values: np.ndarray, samples: np.ndarray, layers: np.ndarray, threshold: float
) -> tuple[int | None, int, int]:
    """First layer whose value passes a threshold, with its percentile interval.

    Args:
        values: (L,) the quantity by layer.
        samples: (R, L) its bootstrap replicates.
        layers: (L,) the layers' numbers, rising.
        threshold: threshold in the quantity's unit; a NaN never passes it.

    Returns:
        The layer, or None where none passes; and low and high, where a replicate without such a layer counts as the
        number of layers (last layer + 1), so a high of that number says "perhaps none".
    """
    none = int(layers[-1]) + 1

    def onset(quantity: np.ndarray) -> np.ndarray:
        above = quantity > threshold
        return np.where(above.any(axis=-1), np.asarray(layers)[above.argmax(axis=-1)], none)

    layer = int(onset(np.asarray(values)))
    low, high = interval(onset(np.asarray(samples)), method="inverted_cdf")  # real layers, not points between them
    return (None if layer == none else layer), int(low), int(high)


def simultaneous_interval(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of many means over one set of sequences that all hold together with 95 % (Westfall & Young 1993, max-T).

    The half-width of each is c times its standard error. c is the 95th percentile over replicates of the largest
    |replicate − mean| / standard error, widened as Student's t is wider than the normal. So many comparisons widen the
    intervals only as far as they are independent: quantities that move together count as one. The standard error is that
    of the data, not of the replicate: with few sequences and a skewed quantity a replicate without its outlier would have
    nearly no error, and c no meaning.

    Args:
        values: (N, m) one column a quantity, one row a sequence.
        weights: (R, N) from :func:`resamples`; a thousand replicates or more, because c is a tail.

    Returns:
        low (m,) and high (m,). A quantity that is the same for every sequence has an interval without width.
    """
    from scipy.special import ndtr, stdtrit  # not above: most statistics need no scipy, and each job pays for imports

    sequences = len(values)
    mean = values.mean(axis=0)
    centred = values - mean
    error = np.sqrt(np.square(centred).sum(axis=0) / (sequences * (sequences - 1)))  # (m,)
    varies = error > 1e-12 * np.abs(values).max(axis=0)  # by more than rounding
    if not varies.any():
        return mean, mean
    moved = np.abs(weights @ centred[:, varies]) / error[varies]  # (R, m)
    # replicates spread by 1 − 1/N of the variance, and an estimated error asks for Student's quantile of the same level
    normal = np.quantile(moved.max(axis=1), CONFIDENCE) * np.sqrt(sequences / (sequences - 1))
    width = np.where(varies, -stdtrit(sequences - 1, ndtr(-normal)) * error, 0.0)
    return mean - width, mean + width


def studentised_interval(
    values: np.ndarray,
    replicates: int,
    seed: int,
    confidence: float = CONFIDENCE,
    support: tuple[float, float] | None = None,
) -> tuple[float, float]:
    """Interval of a mean: on each side the farther of Student's end and of the one from replicates of the t-statistic.

    Scores are nearly all or nothing by sequence. Where few of them are large the mean is skewed, which only the bootstrap of the
    t-statistic allows for (Efron & Tibshirani 1993, ch. 12.5); where most are alike and few differ, its replicates vary too little, and
    Student's interval is the wider one. Together they cover as they should in both (tests/unit/test_ledger_statistics.py).

    Args:
        values: (N,) one a sequence.
        replicates, seed: of :func:`resamples`. A replicate in which all values are alike has no t-statistic and is left out.
        support: least and largest possible value, of values that are mostly one and the same, such as differences of being converted.
            Then the interval is Student's of the values and of one more at each end of the support, as Agresti & Min (2005, Statistics in
            Medicine 24) do for paired shares: values that do not vary in the sample have an interval too, which N decides.

    Returns:
        Low and high; without ``support``, both the mean where the values do not vary.
    """
    values = np.asarray(values, dtype=np.float64)
    if support is not None:
        low, high = students_interval(np.append(values, support), confidence)
        mean = values.mean()  # which may lie outside only where the values are all at one end of the support
        return max(min(low, mean), support[0]), min(max(high, mean), support[1])
    count, mean = len(values), values.mean()
    error = values.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan
    if not error > 1e-12 * np.abs(values).max():
        return float(mean), float(mean)
    weights = resamples(count, replicates, seed)
    means = weights @ values
    errors = np.sqrt(np.maximum(weights @ np.square(values) - np.square(means), 0.0) / (count - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        statistics = np.where(errors > 1e-9 * error, (means - mean) / errors, np.nan)
    low, high = interval(statistics, confidence=confidence)
    ends = students_interval(values, confidence)
    return float(min(mean - high * error, ends[0])), float(max(mean - low * error, ends[1]))


def ratio_interval(above: np.ndarray, below: np.ndarray, replicates: int, seed: int) -> tuple[float, float]:
    """Interval of a ratio of means r = ā / b̄: of the mean of r + (a − r b) / b̄, which is r and varies as it does (delta method).

    Args:
        above, below: (N,) a and b, one a sequence.
        replicates, seed: of :func:`studentised_interval`.
    """
    ratio = above.mean() / below.mean()
    return studentised_interval(ratio + (above - ratio * below) / below.mean(), replicates, seed)


def students_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Student's interval of the mean of (N,) values."""
    from scipy.special import stdtrit  # not above: most statistics need no scipy, and each job pays for imports

    count, mean = len(values), values.mean()
    width = float(stdtrit(count - 1, (1 + confidence) / 2) * values.std(ddof=1) / np.sqrt(count))
    return float(mean) - width, float(mean) + width


def simultaneous_widths(samples: np.ndarray, sequences: int) -> np.ndarray:
    """Half-widths of intervals of many quantities that hold together with 95 %, from their bootstrap replicates (max-T).

    As in :func:`simultaneous_interval`, for quantities that are no means of one value a sequence, such as logarithms of variances.

    Args:
        samples: (1 + R, m) the quantities, and their replicates.
        sequences: N, for Student's quantile, and because replicates spread by 1 − 1/N of the variance.

    Returns:
        (m,), 0 for a quantity that does not vary.
    """
    from scipy.special import ndtr, stdtrit

    error = samples[1:].std(axis=0)
    varies = error > 1e-12 * np.maximum(np.abs(samples[0]), 1e-300)
    if not varies.any():
        return np.zeros_like(error)
    moved = np.abs(samples[1:, varies] - samples[0, varies]) / error[varies]
    normal = np.quantile(moved.max(axis=1), CONFIDENCE)
    width = -stdtrit(sequences - 1, ndtr(-normal)) * error * np.sqrt(sequences / (sequences - 1))
    return np.where(varies, width, 0.0)


@lru_cache(maxsize=4)
def cluster_resamples(clusters: tuple[int, ...], replicates: int, seed: int) -> np.ndarray:
    """Weights of the sequences in replicates that draw whole clusters, such as the documents that windows of text come from.

    Args:
        clusters: (N,) number of each sequence's cluster.
        replicates, seed: as in :func:`resamples`.

    Returns:
        (R, N), read-only; rows add to 1, so a replicate of a mean is a ratio of sums where clusters differ in size.
    """
    _, members = np.unique(clusters, return_inverse=True)
    drawn = resamples(int(members.max()) + 1, replicates, seed)[:, members]  # times drawn / number of clusters
    weights = drawn / drawn.sum(axis=1, keepdims=True)
    weights.flags.writeable = False
    return weights
