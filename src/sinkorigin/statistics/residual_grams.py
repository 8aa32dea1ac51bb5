"""Reading the sums and products of the residual stream that an extraction kept: one layer at a time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError


def _read_part(rows: pl.DataFrame, path: Path) -> tuple[int, str, tuple[int, np.ndarray, np.ndarray]]:
    """Layer, tokens, and (count, sum (d,), Gram matrix (d, d), of which the upper triangle is filled)."""
    layer, width, count = int(rows["layer"][0]), len(rows), int(rows["count"][0])
    few = rows["products"].null_count() == width  # so few tokens that their vectors were kept
    numbers = rows["values" if few else "products"].explode().to_numpy()
    whole = (rows["layer"] == layer).all() and (rows["dim"].to_numpy() == np.arange(width)).all()
    if not whole or len(numbers) != (width * count if few else width * (width + 1) // 2):
        raise SinkoriginError(f"{path}: layer {layer} is incomplete; {tables.remedy(path)}")
    if few:
        vectors = numbers.reshape(width, count).astype(np.float64)
        gram = vectors @ vectors.T
    else:
        gram, start = np.zeros((width, width)), 0
        for i in range(width):
            gram[i, i:] = numbers[start : start + width - i]
            start += width - i
    return layer, rows["tokens"][0], (count, rows["sum"].to_numpy(), gram)


def read_grams(path: Path) -> Iterator[tuple[int, dict[str, tuple[int, np.ndarray, np.ndarray]]]]:
    """Each layer, and by tokens (first or rest) their count, sum and Gram matrix.

    In the table that the extraction writes, layers rise and the rows of each (layer, tokens) are one row group.
    """
    parts: dict[str, tuple[int, np.ndarray, np.ndarray]] = {}
    before = None
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                layer, tokens, part = _read_part(pl.DataFrame(file.read_row_group(group, use_threads=False)), path)
                if layer != before and parts:
                    yield before, parts
                    parts = {}
                parts[tokens] = part
                before = layer
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:  # the last: a foreign table
        raise SinkoriginError(f"{path} cannot be read as Parquet; {tables.remedy(path)}") from error
    if parts:
        yield before, parts
