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
from sinkorigin.statistics.bootstrap import interval, resamples
from sinkorigin.statistics.grids import to_table

VARIANCE_SCHEMA = tables.schema(
    model=(pa.string(), "name of the model"),
    prompts=(pa.string(), "name of the prompt set"),
    site=(pa.string(), "site, as in docs/sites.md"),
    layer=(pa.int32(), "layer, counted from 0; the residual's layer -1 is the embedding"),
    position=(pa.int32(), "position in the sequence, from 0"),
    sequences=(pa.int32(), "number of sequences N"),
    width=(pa.int32(), "number of dims d"),
    variance=(pa.float64(), "mean over dims of the unbiased variance over sequences; null where all have one vector"),
    variance_low=(pa.float64(), "2.5th percentile over bootstrap replicates of sequences"),
    variance_high=(pa.float64(), "97.5th percentile over bootstrap replicates of sequences"),
    relative_dispersion=(pa.float64(), "variance summed over dims / squared norm of the mean vector; null as variance"),
)

TREND_SCHEMA = tables.schema(
    model=(pa.string(), "name of the model"),
    prompts=(pa.string(), "name of the prompt set"),
    site=(pa.string(), "site, as in docs/sites.md"),
    layer=(pa.int32(), "layer, counted from 0; the residual's layer -1 is the embedding"),
    sequences=(pa.int32(), "number of sequences N"),
    ratio=(pa.float64(), "variance at position 0 / mean of the variance at later positions; null where undefined"),
    ratio_low=(pa.float64(), "2.5th percentile over bootstrap replicates of sequences"),
    ratio_high=(pa.float64(), "97.5th percentile over bootstrap replicates of sequences"),
    kendall_tau=(pa.float64(), "Kendall's tau-a of variance against position; -1 is a strictly falling curve"),
    kendall_tau_low=(pa.float64(), "2.5th percentile over bootstrap replicates of sequences"),
    kendall_tau_high=(pa.float64(), "97.5th percentile over bootstrap replicates of sequences"),
)

# Vectors of different tokens differ by far more than this share (squared) of their mean; the same tokens computed in
# batches of different sizes differ by float32 rounding, which lies below it.
_ROUNDING = 1e-10

_BLOCK = 2**22  # numbers of a site that are in memory at once, besides the accumulators


class Moments:
    """Weighted moments over sequences that arrive in blocks, for many sets of weights at once.

    Memory: one (R, T, d) float64 array and a block, whatever the number of sequences. Values are shifted by the mean
    of the first block, so that a variance far below the squared mean does not drown in rounding.
    """

    def __init__(self, weights: np.ndarray):
        """``weights``: (R, N), each row adds to 1."""
        self._weights = weights
        self._seen = 0
        self._shift: np.ndarray | None = None

    def add(self, values: np.ndarray) -> None:
        """Take the next (n, T, d) sequences."""
        if self._shift is None:
            self._shift = values.mean(axis=0, dtype=np.float64)  # (T, d)
            replicates = len(self._weights)
            self._first = np.zeros((replicates, *self._shift.shape))  # (R, T, d) mean of the shifted values
            self._second = np.zeros((replicates, len(self._shift)))  # (R, T) mean of their squared norm
        weights = self._weights[:, self._seen : self._seen + len(values)]  # (R, n)
        for position, shift in enumerate(self._shift):  # one position at a time: no second (R, T, d) array
            shifted = values[:, position].astype(np.float64) - shift  # (n, d)
            self._first[:, position] += weights @ shifted
            self._second[:, position] += weights @ np.einsum("nd,nd->n", shifted, shifted)
        self._seen += len(values)

    def variance(self) -> np.ndarray:
        """(R, T): N/(N−1) · (mean of ‖x‖² − ‖mean of x‖²) / d, the mean over dims of the variance over sequences."""
        sequences, width = self._weights.shape[1], self._first.shape[-1]
        squared_mean = np.stack([np.einsum("rd,rd->r", first, first) for first in self._first.swapaxes(0, 1)], axis=1)
        spread = np.maximum(self._second - squared_mean, 0.0)  # rounding may leave −1e-20 where all draws are the same
        return sequences / (sequences - 1) * spread / width

    def squared_mean(self) -> np.ndarray:
        """(R, T): squared norm of the mean vector, in the unit of the values squared."""
        return np.stack(
            [
                np.einsum("rd,rd->r", mean, mean)
                for mean in (
                    first + shift for first, shift in zip(self._first.swapaxes(0, 1), self._shift, strict=True)
                )
            ],
            axis=1,
        )


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
    return _point(moments, values.shape[-1])


def _point(moments: Moments, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Variance and dispersion (T,) of the first set of weights; NaN where all sequences have the same vector."""
    variance, squared_mean = moments.variance()[0], moments.squared_mean()[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        dispersion = variance * width / squared_mean
    same = variance * width <= _ROUNDING * squared_mean
    return np.where(same, np.nan, variance), np.where(same, np.nan, dispersion)


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
        total += np.sign(values[..., i + 1 :] - values[..., i : i + 1]).sum(axis=-1)
    pairs = length * (length - 1) / 2
    return total / pairs if pairs else np.full_like(total, np.nan)


def first_to_rest(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Value at position 0 / mean of the values at the others, for (..., T) values; NaN where one of these is missing."""
    first, rest = values[..., positions == 0], values[..., positions > 0]
    if not first.shape[-1] or not rest.shape[-1]:
        return np.full(values.shape[:-1], np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return first[..., 0] / rest.mean(axis=-1)


def _layer_files(site_directory: Path) -> list[tuple[int, Path]]:
    folders = [folder for folder in site_directory.iterdir() if folder.name.startswith("layer=")]
    if not folders:
        raise SinkoriginError(f"{site_directory} holds no layer; delete it and run the same command again")
    return sorted((int(folder.name.removeprefix("layer=")), folder / "part-0.parquet") for folder in folders)


def _positions(file: pq.ParquetFile, path: Path) -> np.ndarray:
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


def _sequences(file: pq.ParquetFile, positions: np.ndarray, width: int, path: Path) -> Iterator[np.ndarray]:
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
    for layer, path in _layer_files(site_directory):
        try:
            with pq.ParquetFile(path) as file:
                width = file.schema_arrow.field("activation").type.list_size
                positions = _positions(file, path)
                sequences = file.metadata.num_rows // len(positions)
                if sequences < 2:
                    raise SinkoriginError(
                        f"model {model}, prompts {prompts}: a variance over sequences needs at least 2, {site} has "
                        f"{sequences}; raise the number of sequences of the prompts or of those that the site keeps"
                    )
                everything = np.full((1, sequences), 1 / sequences)  # row 0: the data themselves
                moments = Moments(np.concatenate([everything, resamples(sequences, replicates, seed)]))
                for block in _sequences(file, positions, width, path):
                    if not np.isfinite(block).all():
                        raise SinkoriginError(
                            f"model {model}: {site} of layer {layer} is not finite; use dtype: float32, or another model"
                        )
                    moments.add(block)
        except (OSError, pa.ArrowInvalid) as error:
            raise SinkoriginError(
                f"{path} cannot be read as Parquet; delete {site_directory} and run the same command again"
            ) from error
        variance, dispersion = _point(moments, width)
        samples = np.where(np.isnan(variance), np.nan, moments.variance()[1:])  # (R, T)
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
        trends.append(to_table(TREND_SCHEMA, **names, layer=[layer], sequences=sequences, **trend))
    return pa.concat_tables(variances), pa.concat_tables(trends)
