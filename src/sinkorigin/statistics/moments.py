"""Mean and variance over sequences under many sets of weights at once, such as those of bootstrap replicates."""

import numpy as np

# Vectors of different tokens differ by far more than this share (squared) of their mean; one token's vectors, computed in
# batches of different sizes, differ by float32 rounding, which lies below it.
_ROUNDING = 1e-10


class ReplicatedMoments:
    """Weighted moments over sequences that arrive in blocks, for many sets of weights at once.

    Values are shifted by the mean of the first block, so that a variance far below the squared mean does not drown in
    rounding. Memory: of sequences in several blocks, one (T, R, d) float32 array and a block, whatever their number; of
    sequences in one block, only that block.
    """

    def __init__(self, weights: np.ndarray, *, by_dim: bool = False):
        """Start without sequences.

        Args:
            weights: (R, N) weights of the N sequences in each of R sets; each row adds to 1.
            by_dim: whether to keep every dim too, in two (T, R, d) float64 arrays.
        """
        self._weights, self._by_dim = weights, by_dim
        self._seen = 0
        self._means: np.ndarray | None = None

    def _start(self, sequences: int, length: int, width: int) -> None:
        replicates = len(self._weights)
        self._shift = np.zeros((length, width))
        self._mean = np.zeros((length, width))  # of the shifted values, under the first set of weights
        self._second = np.zeros((length, replicates))  # mean of their squared norm
        self._squared_means = np.zeros((length, replicates))  # squared norm of their mean
        if self._by_dim:
            self._means, self._squares = np.zeros((2, length, replicates, width))
        elif sequences < self._weights.shape[1]:
            self._means = np.zeros((length, replicates, width), dtype=np.float32)

    def add(self, values: np.ndarray) -> None:
        """Take the next (n, T, d) sequences."""
        if not self._seen:
            self._start(*values.shape)
        weights = self._weights[:, self._seen : self._seen + len(values)]  # (R, n)
        with np.errstate(invalid="ignore"):  # see is_finite
            for position in range(values.shape[1]):  # one position at a time: what it makes stays in the cache
                shifted = values[:, position].astype(np.float64)  # (n, d)
                if not self._seen:
                    self._shift[position] = shifted.mean(axis=0)
                shifted -= self._shift[position]
                self._mean[position] += weights[0] @ shifted
                self._second[position] += weights @ np.einsum("nd,nd->n", shifted, shifted)
                if self._means is None:
                    self._squared_means[position] = _squared_norms(weights, shifted)
                    continue
                kind = self._means.dtype
                self._means[position] += weights.astype(kind) @ shifted.astype(kind)
                if self._by_dim:
                    self._squares[position] += weights @ np.square(shifted)
        self._seen += len(values)

    def is_finite(self) -> bool:
        """Whether all values so far are finite."""
        return bool(np.isfinite(self._second).all())

    def variance(self) -> np.ndarray:
        """(R, T): N/(N−1) · (mean of ‖x‖² − ‖mean of x‖²) / d, the mean over dims of the variance over sequences."""
        sequences, width = self._weights.shape[1], self._shift.shape[1]
        squared_means = self._squared_means
        if self._means is not None:
            squared_means = np.stack([np.square(mean, dtype=np.float64).sum(axis=1) for mean in self._means])
        spread = np.maximum(self._second - squared_means, 0.0)  # rounding may leave −1e-20 where all draws are the same
        return (sequences / (sequences - 1) * spread / width).T

    def variance_by_dim(self, positions: np.ndarray) -> np.ndarray:
        """(R, d): mean over the positions that the (T,) mask chooses of N/(N−1) · (mean of x² − (mean of x)²)."""
        sequences = self._weights.shape[1]
        total = np.zeros(self._means.shape[1:])
        for position in np.flatnonzero(positions):
            spread = self._squares[position] - np.square(self._means[position])
            total += np.maximum(spread, 0.0, out=spread)
        with np.errstate(invalid="ignore"):
            return sequences / (sequences - 1) * total / np.count_nonzero(positions)

    def squared_mean(self) -> np.ndarray:
        """(T,): squared norm of the mean vector under the first set of weights, in the unit of the values squared."""
        mean = self._mean + self._shift
        return np.einsum("td,td->t", mean, mean)

    def same_vectors(self, variance: np.ndarray) -> np.ndarray:
        """(T,) whether all sequences have one vector at a position, by the (R, T) variance: there is none to compare."""
        return variance[0] * self._shift.shape[1] <= _ROUNDING * self.squared_mean()


def _squared_norms(weights: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(R,) squared norms of ``weights @ vectors``, for (R, n) and (n, d), by the smaller of two products."""
    sequences, width = vectors.shape
    if sequences < width:
        return np.einsum("rn,rn->r", weights @ (vectors @ vectors.T), weights)
    means = weights @ vectors
    return np.einsum("rd,rd->r", means, means)
