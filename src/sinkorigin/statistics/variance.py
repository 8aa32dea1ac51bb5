"""V1, variance by position: how much a site's vector differs between sequences, at each layer and position.

In a causal transformer o_0 = v_0 is one value vector and o_i a convex combination of i + 1 of them, so the variance of
the value aggregation should be highest at position 0 and fall with position (arXiv 2605.06611, "variance discrepancy").
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics import shared_columns
from sinkorigin.statistics.arrow_arrays import list_values, to_numpy
from sinkorigin.statistics.bootstrap import interval, resamples
from sinkorigin.statistics.grids import to_table

VARIANCE_SCHEMA = tables.schema(
    **shared_columns.KEYS,
    site=shared_columns.SITE,
    layer=shared_columns.LAYER_OR_EMBEDDING,
    position=shared_columns.POSITION,
    sequences=(pa.int32(), "number of sequences N"),
    width=(pa.int32(), "number of dims d"),
    variance=(pa.float64(), "mean over dims of the unbiased variance over sequences; null where all have one vector"),
    variance_low=shared_columns.LOW,
    variance_high=shared_columns.HIGH,
    relative_dispersion=(pa.float64(), "variance summed over dims / squared norm of the mean vector; null as variance"),
)

TREND_SCHEMA = tables.schema(
    **shared_columns.KEYS,
    site=shared_columns.SITE,
    layer=shared_columns.LAYER_OR_EMBEDDING,
    sequences=(pa.int32(), "number of sequences N"),
    ratio=(pa.float64(), "variance at position 0 / mean of the variance at later positions; null where undefined"),
    ratio_low=shared_columns.LOW,
    ratio_high=shared_columns.HIGH,
    kendall_tau=(pa.float64(), "Kendall's tau-a of variance against position; -1 is a strictly falling curve"),
    kendall_tau_low=shared_columns.LOW,
    kendall_tau_high=shared_columns.HIGH,
    not_applicable=shared_columns.NOT_APPLICABLE,
)

# Vectors of different tokens differ by far more than this share (squared) of their mean; the same tokens computed in
# batches of different sizes differ by float32 rounding, which lies below it.
_ROUNDING = 1e-10

_SAME = "a position has the same vector in every sequence, so it has no variance to compare"
_NO_SITE = "the model has no such site, see architecture.parquet of its activations"

_WHOLE = 2_500_000  # numbers of a site up to which all its sequences are in memory at once
_BLOCK = 2**19  # numbers of a larger one that are, besides the sums


class Moments:
    """Weighted moments over sequences that arrive in blocks, for many sets of weights at once.

    Values are shifted by the mean of the first block, so that a variance far below the squared mean does not drown in
    rounding. Memory: of sequences in several blocks, one (T, R, d) float32 array and a block, whatever their number; of
    sequences in one block, only that block.
    """

    def __init__(self, weights: np.ndarray, *, by_dim: bool = False):
        """``weights``: (R, N), each row adds to 1; ``by_dim``: also keep every dim, two (T, R, d) float64 arrays."""
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
        """Whether all values so far are."""
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


def _squared_norms(weights: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(R,) squared norms of ``weights @ vectors``, for (R, n) and (n, d), by the smaller of two products."""
    sequences, width = vectors.shape
    if sequences < width:
        return np.einsum("rn,rn->r", weights @ (vectors @ vectors.T), weights)
    means = weights @ vectors
    return np.einsum("rd,rd->r", means, means)


def variance_over_sequences(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variance and relative dispersion of (N, T, d) vectors by position (docs/paper.md, V1).

    Returns:
        variance (T,): mean over dims of the unbiased variance over the N sequences, in the unit of the values squared.
        relative dispersion (T,): the variance summed over dims / ‖mean vector‖², no unit. It is the same whether both
            are sums or means over dims, does not change when the vectors are scaled, and is what tells variance
            amplification from the norm control, which have the same variance.
    """
    sequences = len(values)
    moments = Moments(np.full((1, sequences), 1 / sequences))
    moments.add(values)
    return _point(moments.variance(), moments, values.shape[-1])


def _point(variance: np.ndarray, moments: Moments, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Variance and dispersion (T,) of the first set of weights; NaN where all sequences have the same vector."""
    with np.errstate(divide="ignore", invalid="ignore"):
        dispersion = variance[0] * width / moments.squared_mean()
    same = same_vectors(variance, moments, width)
    return np.where(same, np.nan, variance[0]), np.where(same, np.nan, dispersion)


def same_vectors(variance: np.ndarray, moments: Moments, width: int) -> np.ndarray:
    """(T,) whether all sequences have the same vector at a position, so that there is no variance to speak of."""
    return variance[0] * width <= _ROUNDING * moments.squared_mean()


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


def first_to_rest(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Value at position 0 / mean of the values at the others, for (..., T) values; NaN where one of these is missing."""
    first, rest = values[..., positions == 0], values[..., positions > 0]
    if not first.shape[-1] or not rest.shape[-1]:
        return np.full(values.shape[:-1], np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return first[..., 0] / rest.mean(axis=-1)


def layer_files(site_directory: Path) -> list[tuple[int, Path]]:
    """(layer, file) of one site, in order; layers that lack the site have none."""
    folders = [folder for folder in site_directory.iterdir() if folder.name.startswith("layer=")]
    return sorted((int(folder.name.removeprefix("layer=")), folder / "part-0.parquet") for folder in folders)


class SiteLayer:
    """One layer's file of a site.

    Attributes:
        positions: (T,) that each sequence has.
        sequences: their number N.
        width: number of dims d.
    """

    def __init__(self, path: Path):
        """Open the file.

        Raises:
            SinkoriginError: it cannot be read, or does not hold whole sequences; also from :meth:`blocks`.
        """
        self._path = path
        with self._told():
            self._file = pq.ParquetFile(path, pre_buffer=False)  # else all that follows is read at once
            self.width = self._file.schema_arrow.field("activation").type.list_size
            self.positions = self._first_positions()
        rows = self._file.metadata.num_rows
        if not len(self.positions) or rows % len(self.positions):
            raise SinkoriginError(f"{path} does not hold whole sequences; {tables.remedy(path)}")
        self.sequences = rows // len(self.positions)

    def _first_positions(self) -> np.ndarray:
        """Positions of the first sequence."""
        positions = [np.empty(0, dtype=np.int32)]
        own = None
        for group in range(self._file.num_row_groups):
            rows = self._file.read_row_group(group, columns=["sequence", "position"], use_threads=False)
            sequence = to_numpy(rows.column("sequence"))
            own = sequence[0] if own is None else own
            positions.append(to_numpy(rows.column("position"))[sequence == own])
            if sequence[-1] != own:
                break
        return np.concatenate(positions)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Damage of the file as one sentence."""
        try:
            yield
        except (OSError, pa.ArrowInvalid, KeyError) as error:  # KeyError: a foreign table
            raise SinkoriginError(f"{self._path} cannot be read as Parquet; {tables.remedy(self._path)}") from error

    def blocks(self) -> Iterator[np.ndarray]:
        """Blocks of (n, T, d) float32 in the order of the file: one of all sequences, if they are few."""
        length = len(self.positions)
        size = length * self.width
        at_once = self.sequences if self.sequences * size <= _WHOLE else max(1, _BLOCK // size)
        waiting: list[pa.RecordBatch] = []  # a batch need not end where a sequence does
        batches = self._file.iter_batches(
            batch_size=at_once * length, columns=["position", "activation"], use_threads=False
        )
        while True:
            with self._told():
                batch = next(batches, None)
            if batch is None:
                return
            waiting.append(batch)
            if sum(part.num_rows for part in waiting) % length:
                continue
            place = np.concatenate([to_numpy(part.column("position")) for part in waiting])
            values = [list_values(part.column("activation")) for part in waiting]
            waiting = []
            if (place.reshape(-1, length) != self.positions).any():
                raise SinkoriginError(
                    f"{self._path} does not hold the same positions of every sequence; {tables.remedy(self._path)}"
                )
            yield (values[0] if len(values) == 1 else np.concatenate(values)).reshape(-1, length, self.width)


def variance_tables(
    site_directory: str | Path, *, model: str, prompts: str, site: str, replicates: int, seed: int
) -> tuple[pa.Table, pa.Table]:
    """V1 of one site: the variance by (layer, position), and its trend by layer.

    The site's files are streamed; memory is that of :class:`Moments` and a block of sequences.

    Args:
        site_directory: ``.../{site}``, with ``layer={layer}/part-0.parquet`` (sequence, position, activation).
        model, prompts, site: names, for the first columns and for messages.
        replicates, seed: of the bootstrap over sequences. In a replicate, with weights w that add to 1, the variance is
            N/(N−1) · (Σ w ‖x‖² − ‖Σ w x‖²) / d.

    Returns:
        Tables of ``VARIANCE_SCHEMA`` and ``TREND_SCHEMA``. The trend is null in layers where a position has the same
        vector in every sequence (with one first token for all, for example, there is no variance to compare).

    Raises:
        SinkoriginError: fewer than two sequences, an activation that is not finite, or a damaged directory.
    """
    site_directory = tables.checked_directory(site_directory)
    names = {"model": model, "prompts": prompts, "site": site}
    variances, trends = [], []
    for layer, path in layer_files(site_directory):
        file = SiteLayer(path)
        positions, sequences, width = file.positions, file.sequences, file.width
        if sequences < 2:
            raise SinkoriginError(
                f"model {model}, prompts {prompts}: a variance over sequences needs at least 2, {site} has "
                f"{sequences}; raise the number of sequences of the prompts or of those that the site keeps"
            )
        everything = np.full((1, sequences), 1 / sequences)  # row 0: the data themselves
        moments = Moments(np.concatenate([everything, resamples(sequences, replicates, seed)]))
        for block in file.blocks():
            moments.add(block)
        if not moments.is_finite():
            raise SinkoriginError(
                f"model {model}: {site} of layer {layer} is not finite; use dtype: float32, or another model"
            )
        replicated = moments.variance()  # (1 + R, T)
        variance, dispersion = _point(replicated, moments, width)
        samples = np.where(np.isnan(variance), np.nan, replicated[1:])
        low, high = interval(samples)
        variances.append(
            to_table(
                VARIANCE_SCHEMA,
                **names,
                layer=layer,
                position=positions,
                sequences=sequences,
                width=width,
                variance=variance,
                variance_low=low,
                variance_high=high,
                relative_dispersion=dispersion,
            )
        )
        trend = {}
        for name, quantity in (
            ("ratio", lambda values, positions=positions: first_to_rest(values, positions)),
            ("kendall_tau", kendall_tau),
        ):
            trend[name] = quantity(variance)
            trend[f"{name}_low"], trend[f"{name}_high"] = interval(quantity(samples))
        reason = _SAME if np.isnan(variance).any() else None
        trends.append(
            to_table(TREND_SCHEMA, **names, layer=[layer], sequences=sequences, **trend, not_applicable=reason)
        )
    if not variances:
        nothing: dict = dict.fromkeys(TREND_SCHEMA.names[3:])
        trends.append(to_table(TREND_SCHEMA, **names, **(nothing | {"layer": [None], "not_applicable": _NO_SITE})))
    variance = pa.concat_tables(variances) if variances else VARIANCE_SCHEMA.empty_table()
    return variance, pa.concat_tables(trends)
