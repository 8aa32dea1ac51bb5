"""V1, variance by position: how much a site's vector differs between sequences, at each layer and position.

In a causal transformer o_0 = v_0 is one value vector and o_i a convex combination of i + 1 of them, so the variance of
the value aggregation should be highest at position 0 and fall with position (arXiv 2605.06611, "variance discrepancy").
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics import shared_columns
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

_BLOCK = 2**22  # numbers of a site that are in memory at once, besides the accumulators


class Moments:
    """Weighted moments over sequences that arrive in blocks, for many sets of weights at once.

    Memory: one (R, T, d) float64 array and a block, whatever the number of sequences. Values are shifted by the mean
    of the first block, so that a variance far below the squared mean does not drown in rounding.
    """

    def __init__(self, weights: np.ndarray, *, by_dim: bool = False):
        """``weights``: (R, N), each row adds to 1; ``by_dim``: also keep the squares of each dim, a second (R, T, d)."""
        self._weights, self._by_dim = weights, by_dim
        self._seen = 0
        self._shift: np.ndarray | None = None

    def add(self, values: np.ndarray) -> None:
        """Take the next (n, T, d) sequences."""
        if self._shift is None:
            self._shift = values.mean(axis=0, dtype=np.float64)  # (T, d)
            shape = (len(self._shift), len(self._weights), self._shift.shape[1])
            self._first = np.zeros(shape)  # (T, R, d) mean of the shifted values
            self._second = np.zeros(shape[:2])  # (T, R) mean of their squared norm
            self._squares = np.zeros(shape if self._by_dim else 0)
        weights = self._weights[:, self._seen : self._seen + len(values)]  # (R, n)
        for position, shift in enumerate(self._shift):  # one position at a time: no second (T, R, d) array
            shifted = values[:, position].astype(np.float64) - shift  # (n, d)
            self._first[position] += weights @ shifted
            self._second[position] += weights @ np.einsum("nd,nd->n", shifted, shifted)
            if self._by_dim:
                self._squares[position] += weights @ np.square(shifted)
        self._seen += len(values)

    def variance(self) -> np.ndarray:
        """(R, T): N/(N−1) · (mean of ‖x‖² − ‖mean of x‖²) / d, the mean over dims of the variance over sequences."""
        sequences, width = self._weights.shape[1], self._first.shape[-1]
        squared_mean = np.stack([np.einsum("rd,rd->r", first, first) for first in self._first])  # (T, R)
        spread = np.maximum(self._second - squared_mean, 0.0)  # rounding may leave −1e-20 where all draws are the same
        return (sequences / (sequences - 1) * spread / width).T

    def variance_by_dim(self) -> np.ndarray:
        """(R, T, d): N/(N−1) · (mean of x² − (mean of x)²) of every dim; needs ``by_dim``."""
        sequences = self._weights.shape[1]
        spread = np.maximum(self._squares - np.square(self._first), 0.0)
        return sequences / (sequences - 1) * spread.swapaxes(0, 1)

    def squared_mean(self) -> np.ndarray:
        """(T,): squared norm of the mean vector under the first set of weights, in the unit of the values squared."""
        mean = self._first[:, 0] + self._shift
        return np.einsum("td,td->t", mean, mean)


def variance_over_sequences(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variance and relative dispersion of (N, T, d) vectors by position (PAPER.md V1).

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
    total = np.zeros(values.shape[:-1])
    for i in range(length - 1):
        here, later = values[..., i : i + 1], values[..., i + 1 :]
        total += np.count_nonzero(later > here, axis=-1)
        total -= np.count_nonzero(later < here, axis=-1)
    pairs = length * (length - 1) / 2
    tau = total / pairs if pairs else np.full_like(total, np.nan)
    return np.where(np.isnan(values).any(axis=-1), np.nan, tau)


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


def sequence_positions(file: pq.ParquetFile, path: Path) -> np.ndarray:
    """Positions that each sequence has, from the sequence and position columns of the first one."""
    positions: list[np.ndarray] = []
    own = None
    for batch in file.iter_batches(batch_size=4096, columns=["sequence", "position"]):
        sequence = batch.column("sequence").to_numpy()
        own = sequence[0] if own is None else own
        positions.append(batch.column("position").to_numpy()[sequence == own])
        if sequence[-1] != own:
            break
    found = np.concatenate(positions) if positions else np.empty(0, dtype=np.int32)
    if not len(found) or file.metadata.num_rows % len(found):
        raise SinkoriginError(f"{path} does not hold whole sequences; delete it and run the same command again")
    return found


def read_sequences(file: pq.ParquetFile, positions: np.ndarray, width: int, path: Path) -> Iterator[np.ndarray]:
    """Blocks of (n, T, d) float32 in the order of the file."""
    length = len(positions)
    sequences_at_once = max(1, _BLOCK // (length * width))
    waiting: list[pa.RecordBatch] = []  # a row group need not end where a sequence does
    for batch in file.iter_batches(batch_size=sequences_at_once * length, columns=["position", "activation"]):
        waiting.append(batch)
        if sum(part.num_rows for part in waiting) % length:
            continue
        place = np.concatenate([part.column("position").to_numpy() for part in waiting])
        values = np.concatenate([part.column("activation").flatten().to_numpy() for part in waiting])
        waiting = []
        if (place.reshape(-1, length) != positions).any():
            raise SinkoriginError(
                f"{path} does not hold the same positions of every sequence; delete it and run the same command again"
            )
        yield values.reshape(-1, length, width)


def variance_tables(
    site_directory: str | Path, *, model: str, prompts: str, site: str, replicates: int, seed: int
) -> tuple[pa.Table, pa.Table]:
    """V1 of one site: the variance by (layer, position), and its trend by layer.

    The site's files are streamed; memory is that of (replicates + 1, T, d) float64 and a block of sequences.

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
        try:
            with pq.ParquetFile(path) as file:
                width = file.schema_arrow.field("activation").type.list_size
                positions = sequence_positions(file, path)
                sequences = file.metadata.num_rows // len(positions)
                if sequences < 2:
                    raise SinkoriginError(
                        f"model {model}, prompts {prompts}: a variance over sequences needs at least 2, {site} has "
                        f"{sequences}; raise the number of sequences of the prompts or of those that the site keeps"
                    )
                everything = np.full((1, sequences), 1 / sequences)  # row 0: the data themselves
                moments = Moments(np.concatenate([everything, resamples(sequences, replicates, seed)]))
                for block in read_sequences(file, positions, width, path):
                    if not np.isfinite(block).all():
                        raise SinkoriginError(
                            f"model {model}: {site} of layer {layer} is not finite; use dtype: float32, or another model"
                        )
                    moments.add(block)
        except (OSError, pa.ArrowInvalid, KeyError) as error:  # KeyError: a foreign table
            raise SinkoriginError(
                f"{path} cannot be read as Parquet; delete {site_directory} and run the same command again"
            ) from error
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
    return pa.concat_tables([VARIANCE_SCHEMA.empty_table(), *variances]), pa.concat_tables(trends)
