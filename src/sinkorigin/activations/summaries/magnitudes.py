"""Norm, mean and largest magnitude of every vector of the residual stream and the attention input: ``magnitudes.parquet``."""

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.activations.columns import POSITION, POSITIONS, RESIDUAL_LAYER, SEQUENCE

# Sun et al. 2024: a massive activation is larger than this, so below it no median is needed
MASSIVE = 100.0

SCHEMA = tables.schema(
    site=(pa.string(), "residual or attention_input"),
    layer=RESIDUAL_LAYER,
    sequence=SEQUENCE,
    position=POSITION,
    norm=(pa.float32(), "Euclidean norm of the vector"),
    mean_abs=(pa.float32(), "mean over dims of the absolute value"),
    max_abs=(pa.float32(), "largest absolute value over dims"),
    max_dim=(pa.int32(), "the dim that has it"),
    width=(pa.int32(), "number of dims"),
    hidden_median=(
        pa.float32(),
        "residual: median absolute value of all positions and dims of this sequence and layer; null where none exceeds 100",
    ),
)


def magnitude_rows(site: str, layer: int, first: int, values: np.ndarray) -> dict:
    """Columns of the table for one layer of one site.

    Args:
        first: number of the first sequence.
        values: (n, T, d) vectors.
    """
    sequences, length, width = values.shape
    positions = min(length, POSITIONS)
    absolute = np.abs(values)  # NumPy, here and below: on one thread it is several times as fast as PyTorch
    max_dim = absolute.argmax(axis=-1)
    max_abs = np.take_along_axis(absolute, max_dim[..., None], axis=-1)[..., 0]
    rows = sequences * positions
    median = np.full(sequences, np.nan, dtype=np.float32)
    if site == "residual":
        candidates = max_abs.max(axis=-1) > MASSIVE
        hidden = absolute.reshape(sequences, -1)[candidates]
        middle = (length * width - 1) // 2  # the lower of two middle ones, one number of millions
        median[candidates] = np.partition(hidden, middle, axis=1)[:, middle]
    return {
        "site": pa.array([site]).take(pa.array(np.zeros(rows, dtype=np.int32))),
        "layer": np.full(rows, layer, dtype=np.int32),
        "sequence": np.repeat(np.arange(first, first + sequences, dtype=np.int32), positions),
        "position": np.tile(np.arange(positions, dtype=np.int32), sequences),
        "norm": np.sqrt(np.einsum("ntd,ntd->nt", *2 * [values[:, :positions]])).reshape(-1),
        "mean_abs": absolute[:, :positions].mean(axis=-1).reshape(-1),
        "max_abs": max_abs[:, :positions].reshape(-1),
        "max_dim": max_dim[:, :positions].reshape(-1).astype(np.int32),
        "width": np.full(rows, width, dtype=np.int32),
        "hidden_median": pa.array(np.repeat(median, positions), from_pandas=True),
    }
