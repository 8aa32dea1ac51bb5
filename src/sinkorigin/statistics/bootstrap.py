"""Bootstrap over what was sampled: sequences, or the documents that they come from; never heads or tokens.

Sequences of random tokens are independent of one another. Windows of one text are not: they share its words and its style, so there the
documents are the sample, and a replicate draws whole documents with all their windows (Cameron, Gelbach & Miller 2008, "pairs cluster
bootstrap"). A :class:`Resampling` says which of the two a prompt set needs, so that a statistic need not know.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from sinkorigin import tables

CONFIDENCE = 0.95
# With fewer clusters than this there is no interval. The percentiles of an interval over G clusters are widened as Student's t with G − 1
# degrees of freedom is wider than the normal; below 8 they lie beyond the first of 200 replicates, and cannot be read off. Of 64 windows
# with half of their variance between documents, simulated intervals of 95 % hold the mean in 93 % of runs with 8 documents, 90 % with 5
# and 85 % with 4; resampling windows one by one, in 46 % with 4. Cameron, Gelbach & Miller (2008) find such failures with 5 to 30 clusters.
FEWEST_CLUSTERS = 8


@dataclass(frozen=True)
class Resampling:
    """How the intervals of a prompt set are made.

    Attributes:
        replicates, seed: number and seed of the bootstrap replicates.
        clusters: number of each sequence's cluster, such as the document that it is a window of; None where sequences are independent.
        unit: what a cluster is called.
        remedy: what to do about too few of them.
    """

    replicates: int
    seed: int
    clusters: tuple[int, ...] | None = None
    unit: str = "document"
    remedy: str = "raise corpus.validation_share, or take a corpus of more documents"

    @classmethod
    def of_prompts(cls, path: str | Path, replicates: int, seed: int) -> "Resampling":
        """Resampling of the sequences of a prompt table."""
        documents = tables.read_table(path, ["document"]).column("document").to_pylist()
        return cls.over(replicates, seed, documents)

    @classmethod
    def over(cls, replicates: int, seed: int, documents: Sequence[str | None]) -> "Resampling":
        """Resampling of sequences that come from these documents; one by one where they come from none, or from a document each."""
        if None in documents or len(set(documents)) == len(documents):
            return cls(replicates, seed)
        return cls(replicates, seed, _numbered(documents))

    def first(self, sequences: int) -> "Resampling":
        """Resampling of the first so many sequences."""
        return self if self.clusters is None else replace(self, clusters=self.clusters[:sequences])

    def times(self, replicates: int) -> "Resampling":
        """The same with another number of replicates."""
        return replace(self, replicates=replicates)

    def among(self, chosen: np.ndarray) -> "Resampling":
        """Resampling of the sequences that a (N,) mask chooses."""
        if self.clusters is None:
            return self
        return replace(self, clusters=tuple(np.array(self.clusters, dtype=int)[chosen].tolist()))

    def mixed(self, units: Sequence[int]) -> "Resampling":
        """Resampling where an edit mixes groups of sequences with one another, so that each group is one observation.

        Args:
            units: (N,) number of each sequence's group.

        Returns:
            Resampling of clusters that hold every group, and every cluster of this one, as a whole.
        """
        if len(set(units)) == len(units):
            return self
        remedy = "raise the sequences of the intervention, or lower its strength"
        return joined([self, replace(self, clusters=_numbered(units), unit="averaged group", remedy=remedy)])

    @property
    def too_few(self) -> str | None:
        """Why there is no interval: too few clusters. None where there is one."""
        if self.clusters is None:
            return None
        count, sequences = len(set(self.clusters)), len(self.clusters)
        if count >= FEWEST_CLUSTERS or count == sequences:
            return None
        return (
            f"its {sequences} sequences come from {count} {self.unit}{'s' if count > 1 else ''}, and an interval needs "
            f"{FEWEST_CLUSTERS} or more; {self.remedy}"
        )

    def members(self, sequences: int) -> np.ndarray:
        """(N,) number of each sequence's cluster, from 0."""
        if self.clusters is None:
            return np.arange(sequences)
        if len(self.clusters) != sequences:
            raise ValueError(
                f"clusters of {len(self.clusters)} sequences for {sequences}; take first(…) of the resampling"
            )
        return np.unique(self.clusters, return_inverse=True)[1]

    def weights(self, sequences: int) -> np.ndarray:
        """(R, N) weights of the sequences in each replicate; rows add to 1, so that replicates of a mean are ``weights @ values``.

        A replicate draws as many clusters as there are, with replacement, so that its mean is a ratio of sums where they differ in size.
        Without replicates (R = 0), and so without an interval, where there are too few clusters.
        """
        if self.too_few:
            return np.empty((0, sequences))
        members = self.members(sequences)
        clusters = int(members.max()) + 1
        if clusters == sequences:
            return resamples(sequences, self.replicates, self.seed)
        return _spread_weights(clusters, self.replicates, self.seed, tuple(members.tolist()))

    def weights_with_data(self, sequences: int) -> np.ndarray:
        """(1 + R, N) weights of the data themselves, and those of the replicates."""
        return np.concatenate([np.full((1, sequences), 1 / sequences), self.weights(sequences)])

    def means(self, values: np.ndarray) -> np.ndarray:
        """(1 + R, ...) mean over sequences of (N, ...) values, and its replicates."""
        return np.concatenate([values.mean(axis=0, keepdims=True), self.weights(len(values)) @ values])

    def interval(
        self,
        samples: np.ndarray,
        axis: int = 0,
        method: Literal["linear", "inverted_cdf"] = "linear",
        confidence: float = CONFIDENCE,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Percentile :func:`interval` of replicates, NaN where there are none.

        Replicates of G clusters spread by 1 − 1/G of the variance, and take its estimate for the truth, which is too narrow for few
        clusters. Their percentiles are therefore taken further out, at Φ(−√(G/(G−1)) t), t the quantile of Student's t with G − 1 degrees
        of freedom (Hesterberg 2015, "expanded percentile interval").
        """
        return interval(samples, axis, method, self.nominal(confidence))

    def nominal(self, confidence: float) -> float:
        """Share of the replicates between the ends of an interval of some confidence, see :meth:`interval`."""
        if self.clusters is None:
            return confidence
        from scipy.special import (
            ndtr,
            stdtrit,
        )  # not above: most statistics need no scipy, and each job pays for imports

        count = len(set(self.clusters))
        if count < 2:
            return confidence
        return 1 - 2 * float(ndtr(np.sqrt(count / (count - 1)) * stdtrit(count - 1, (1 - confidence) / 2)))

    def with_interval(self, name: str, samples: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of a quantity and of its interval, see :func:`shared_columns.estimate`.

        Args:
            name: name of the quantity.
            samples: (1 + R, ...) its value, and its replicates.
        """
        low, high = self.interval(samples[1:])
        return {name: samples[0], f"{name}_low": low, f"{name}_high": high}


def _numbered(names: Sequence) -> tuple[int, ...]:
    """Number of each name, in the order in which they come first."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return tuple(numbers[name] for name in names)


def joined(several: Sequence[Resampling]) -> Resampling:
    """Resampling of quantities that are compared with one another: the smallest clusters that hold those of each as a whole."""
    found = several[0]
    for other in several[1:]:
        if found.clusters is None:
            found = other
        elif other.clusters not in (None, found.clusters):
            numbers = list(found.clusters)
            for cluster in set(other.clusters):
                here = {numbers[i] for i, number in enumerate(other.clusters) if number == cluster}
                numbers = [min(here) if number in here else number for number in numbers]
            clusters = _numbered(numbers)
            found = replace(found if clusters == found.clusters else other, clusters=clusters)
    return found


@lru_cache(maxsize=4)
def resamples(sequences: int, replicates: int, seed: int) -> np.ndarray:
    """Weights of independent sequences, or of clusters, in each bootstrap replicate (Efron 1979).

    Args:
        sequences: N, the number of them that each replicate draws, with replacement.
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
        low and high, each of the shape of ``samples`` without ``axis``; NaN where every replicate is NaN, or there is none.
    """
    samples = np.moveaxis(np.asarray(samples, dtype=np.float64), axis, 0)
    if not len(samples):
        return np.full(samples.shape[1:], np.nan), np.full(samples.shape[1:], np.nan)
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


def first_layer_above(
    values: np.ndarray, samples: np.ndarray, layers: np.ndarray, threshold: float, resampling: Resampling
) -> tuple[int | None, int | None, int | None]:
    """First layer whose value passes a threshold, with its percentile interval.

    Args:
        values: (L,) the quantity by layer.
        samples: (R, L) its bootstrap replicates.
        layers: (L,) the layers' numbers, rising.
        threshold: threshold in the quantity's unit; a NaN never passes it.
        resampling: of the replicates.

    Returns:
        The layer, or None where none passes; and low and high, where a replicate without such a layer counts as the
        number of layers (last layer + 1), so a high of that number says "perhaps none". None without replicates.
    """
    none = int(layers[-1]) + 1

    def onset(quantity: np.ndarray) -> np.ndarray:
        above = quantity > threshold
        return np.where(above.any(axis=-1), np.asarray(layers)[above.argmax(axis=-1)], none)

    layer = int(onset(np.asarray(values)))
    low, high = resampling.interval(
        onset(np.asarray(samples)), method="inverted_cdf"
    )  # real layers, not points between them
    ends = (None, None) if np.isnan(low) else (int(low), int(high))
    return (None if layer == none else layer), *ends


def totals(values: np.ndarray, members: np.ndarray) -> np.ndarray:
    """(G, ...) sums of (N, ...) values by cluster, from the (N,) numbers of the clusters."""
    found = np.zeros((int(members.max()) + 1, *values.shape[1:]))
    np.add.at(found, members, values)
    return found


def simultaneous_interval(values: np.ndarray, resampling: Resampling) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of many means over one set of sequences that all hold together with 95 % (Westfall & Young 1993, max-T).

    The half-width of each is c times its standard error. c is the 95th percentile over replicates of the largest
    |replicate − mean| / standard error, widened as Student's t is wider than the normal. So many comparisons widen the
    intervals only as far as they are independent: quantities that move together count as one. The standard error is that
    of the data, not of the replicate: with few sequences and a skewed quantity a replicate without its outlier would have
    nearly no error, and c no meaning. Over G clusters it is the cluster-robust one, and Student's t has G − 1 degrees of freedom.

    Args:
        values: (N, m) one column a quantity, one row a sequence.
        resampling: a thousand replicates or more, because c is a tail.

    Returns:
        low (m,) and high (m,). A quantity that is the same for every sequence has an interval without width; NaN where there are too few
        clusters.
    """
    from scipy.special import ndtr, stdtrit  # not above: most statistics need no scipy, and each job pays for imports

    if resampling.too_few:
        return np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    sequences = len(values)
    mean = values.mean(axis=0)
    centred = values - mean
    members = resampling.members(sequences)
    count = int(members.max()) + 1
    by_cluster = centred if count == sequences else totals(centred, members)
    error = np.sqrt(np.square(by_cluster).sum(axis=0) / (sequences * sequences * (count - 1) / count))  # (m,)
    varies = error > 1e-12 * np.abs(values).max(axis=0)  # by more than rounding
    if not varies.any():
        return mean, mean
    moved = np.abs(resampling.weights(sequences) @ centred[:, varies]) / error[varies]  # (R, m)
    # replicates spread by 1 − 1/G of the variance, and an estimated error asks for Student's quantile of the same level
    normal = np.quantile(moved.max(axis=1), CONFIDENCE) * np.sqrt(count / (count - 1))
    width = np.where(varies, -stdtrit(count - 1, ndtr(-normal)) * error, 0.0)
    return mean - width, mean + width


def studentised_interval(
    values: np.ndarray,
    resampling: Resampling,
    confidence: float = CONFIDENCE,
    support: tuple[float, float] | None = None,
) -> tuple[float, float]:
    """Interval of a mean: on each side the farther of Student's end and of the one from replicates of the t-statistic.

    Scores are nearly all or nothing by sequence. Where few of them are large the mean is skewed, which only the bootstrap of the
    t-statistic allows for (Efron & Tibshirani 1993, ch. 12.5); where most are alike and few differ, its replicates vary too little, and
    Student's interval is the wider one. Together they cover as they should in both, as simulated scores show.

    The standard error is √(G/(G−1) Σ_g (Σ_{i in g} (x_i − mean))²) / N over the G clusters, which are the sequences where these are
    independent; in a replicate, with the times that each cluster was drawn as weights ("pairs cluster bootstrap-t").

    Args:
        values: (N,) one a sequence.
        resampling: a replicate in which all values are alike has no t-statistic and is left out.
        support: least and largest possible value, of values that are mostly one and the same, such as differences of being converted.
            Then the interval is Student's of the values and of one more at each end of the support, as Agresti & Min (2005, Statistics in
            Medicine 24) do for paired shares: values that do not vary in the sample have an interval too, which their number decides.

    Returns:
        Low and high; without ``support``, both the mean where the values do not vary. NaN where there are too few clusters.
    """
    if resampling.too_few:
        return np.nan, np.nan
    values = np.asarray(values, dtype=np.float64)
    members, mean = resampling.members(len(values)), values.mean()
    if support is not None:
        clusters = members.max() + np.array([1, 2])
        low, high = students_interval(np.append(values, support), np.append(members, clusters), confidence)
        # the mean may lie outside where the values are all at one end of the support
        return float(max(min(low, mean), support[0])), float(min(max(high, mean), support[1]))
    count = len(values)
    sums, sizes = totals(values, members), np.bincount(members)  # (G,)
    clusters = len(sizes)
    error = _standard_error(sums - mean * sizes, count)
    if not error > 1e-12 * np.abs(values).max():
        return float(mean), float(mean)
    drawn = resamples(clusters, resampling.replicates, resampling.seed) * clusters  # (R, G) times
    drawn_sizes = drawn @ sizes
    means = drawn @ sums / drawn_sizes
    left = sums - means[:, None] * sizes  # (R, G)
    errors = np.sqrt(clusters / (clusters - 1)) * np.sqrt((drawn * np.square(left)).sum(axis=1)) / drawn_sizes
    with np.errstate(divide="ignore", invalid="ignore"):
        statistics = np.where(errors > 1e-9 * error, (means - mean) / errors, np.nan)
    least, largest = interval(statistics, confidence=confidence)
    low, high = students_interval(values, members, confidence)
    return float(min(mean - largest * error, low)), float(max(mean - least * error, high))


def _standard_error(left: np.ndarray, sequences: int) -> float:
    """Cluster-robust standard error of a mean over N sequences, from the (G,) sums of what each cluster's values differ from it."""
    clusters = len(left)
    return float(np.sqrt(clusters / (clusters - 1) * np.square(left).sum()) / sequences) if clusters > 1 else np.nan


def students_interval(values: np.ndarray, members: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Student's interval of the mean of (N,) values with G − 1 degrees of freedom, by the cluster-robust standard error.

    Args:
        members: (N,) number of each value's cluster, from 0.
    """
    from scipy.special import stdtrit  # not above: most statistics need no scipy, and each job pays for imports

    mean = values.mean()
    error = _standard_error(totals(values - mean, members), len(values))
    width = float(stdtrit(members.max(), (1 + confidence) / 2)) * error
    return float(mean) - width, float(mean) + width


def ratio_interval(above: np.ndarray, below: np.ndarray, resampling: Resampling) -> tuple[float, float]:
    """Interval of a ratio of means r = ā / b̄: of the mean of r + (a − r b) / b̄, which is r and varies as it does (delta method).

    Args:
        above, below: (N,) a and b, one a sequence.
        resampling: of :func:`studentised_interval`.
    """
    ratio = above.mean() / below.mean()
    return studentised_interval(ratio + (above - ratio * below) / below.mean(), resampling)


def simultaneous_widths(samples: np.ndarray, resampling: Resampling, sequences: int) -> np.ndarray:
    """Half-widths of intervals of many quantities that hold together with 95 %, from their bootstrap replicates (max-T).

    As in :func:`simultaneous_interval`, for quantities that are no means of one value a sequence, such as logarithms of variances.

    Args:
        samples: (1 + R, m) the quantities, and their replicates.
        resampling: of the replicates.
        sequences: N.

    Returns:
        (m,), 0 for a quantity that does not vary; NaN without replicates.
    """
    from scipy.special import ndtr, stdtrit

    if len(samples) < 2:
        return np.full(samples.shape[1], np.nan)
    clusters = int(resampling.members(sequences).max()) + 1
    error = samples[1:].std(axis=0)
    varies = error > 1e-12 * np.maximum(np.abs(samples[0]), 1e-300)
    if not varies.any():
        return np.zeros_like(error)
    moved = np.abs(samples[1:, varies] - samples[0, varies]) / error[varies]
    normal = np.quantile(moved.max(axis=1), CONFIDENCE)
    # replicates spread by 1 − 1/G of the variance, and an estimated error asks for Student's quantile of the same level
    width = -stdtrit(clusters - 1, ndtr(-normal)) * error * np.sqrt(clusters / (clusters - 1))
    return np.where(varies, width, 0.0)


@lru_cache(maxsize=4)
def _spread_weights(clusters: int, replicates: int, seed: int, members: tuple[int, ...]) -> np.ndarray:
    """(R, N) weights of the sequences from those of their clusters; see :meth:`Resampling.weights`."""
    weights = resamples(clusters, replicates, seed)[:, list(members)]  # times drawn / number of clusters
    weights /= weights.sum(axis=1, keepdims=True)
    weights.flags.writeable = False  # every layer gets the same array
    return weights
