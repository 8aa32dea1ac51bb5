"""E1, effective rank of the residual stream."""

from collections.abc import Iterator
from functools import reduce
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics import shared_columns
from sinkorigin.statistics.arrow_arrays import list_values, to_numpy
from sinkorigin.statistics.grids import from_rows

_WHICH = {
    "positions": (pa.string(), "all, or later: without position 0"),
    "centred": (pa.bool_(), "whether the mean over tokens is subtracted first"),
}

EFFECTIVE_RANK_SCHEMA = tables.schema(
    **shared_columns.KEYS,
    layer=(pa.int32(), "layer, counted from 0; -1 is the embedding"),
    **_WHICH,
    tokens=(pa.int64(), "number of tokens, the rows of the matrix"),
    width=(pa.int32(), "number of dims, its columns and the largest possible rank"),
    effective_rank=(pa.float64(), "exp of the entropy of the normalised singular values"),
)

EFFECTIVE_RANK_MEAN_SCHEMA = tables.schema(
    **shared_columns.KEYS,
    **_WHICH,
    tokens=(pa.int64(), "number of tokens, the rows of each layer's matrix"),
    layers=(pa.int32(), "number of layers, without the embedding"),
    effective_rank=(pa.float64(), "mean over the layers"),
)


def effective_rank(gram: np.ndarray) -> float:
    """exp(−Σ p ln p), p = σ / Σ σ, of a matrix with singular values σ (Roy & Vetterli 2007; docs/paper.md, E1).

    Args:
        gram: (d, d) float64, X^T X of the (tokens, d) matrix X, of which the upper triangle is read; its eigenvalues
            are σ².

    Returns:
        1 (one direction) … d (all directions alike); NaN for a zero matrix.
    """
    values = np.sqrt(np.clip(np.linalg.eigvalsh(gram, UPLO="U"), 0, None))
    total = values.sum()
    if total == 0:
        return float("nan")
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _read_part(table: pa.Table, path: Path) -> tuple[int, str, tuple[int, np.ndarray, np.ndarray]]:
    """Layer, tokens, and (count, sum (d,), Gram matrix (d, d), of which the upper triangle is filled)."""
    layers, dims, counts = (to_numpy(table.column(name)) for name in ("layer", "dim", "count"))
    layer, width, count = int(layers[0]), len(dims), int(counts[0])
    few = table.column("products").null_count == width
    numbers = list_values(table.column("values" if few else "products").combine_chunks())
    whole = (layers == layer).all() and (dims == np.arange(width)).all()
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
    return layer, table.column("tokens")[0].as_py(), (count, to_numpy(table["sum"]), gram)


def _read_layers(path: Path) -> Iterator[tuple[int, dict[str, tuple[int, np.ndarray, np.ndarray]]]]:
    """Layer → tokens → count, sum and Gram matrix.

    As the extraction writes them, layers rise and the rows of each (layer, tokens) are one row group.
    """
    parts: dict[str, tuple[int, np.ndarray, np.ndarray]] = {}
    before = None
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                layer, tokens, part = _read_part(file.read_row_group(group, use_threads=False), path)
                if layer != before and parts:
                    yield before, parts
                    parts = {}
                parts[tokens] = part
                before = layer
    except (OSError, ValueError, KeyError) as error:
        raise SinkoriginError(f"{path} cannot be read as Parquet; {tables.remedy(path)}") from error
    if parts:
        yield before, parts


def rank_tables(residual_gram: str | Path, *, model: str, prompts: str) -> tuple[pa.Table, pa.Table]:
    """E1 by layer, with and without position 0, uncentred and centred; memory depends on d only.

    Args:
        residual_gram: the table of (layer, tokens, dim, count, sum, products, values).
        model, prompts: names, for the first columns.

    Returns:
        Tables of ``EFFECTIVE_RANK_SCHEMA`` and ``EFFECTIVE_RANK_MEAN_SCHEMA``.
    """
    found: list[dict] = []
    for layer, parts in _read_layers(Path(residual_gram)):
        for positions, which in (("all", ("first", "rest")), ("later", ("rest",))):
            chosen = [parts[tokens] for tokens in which if tokens in parts]
            if not chosen:
                continue
            counts, totals, grams = zip(*chosen, strict=True)
            n, total, products = sum(counts), reduce(np.add, totals), reduce(np.add, grams)
            for centred in (False, True):
                matrix = products - np.outer(total, total / n) if centred else products
                found.append(
                    {
                        "model": model,
                        "prompts": prompts,
                        "layer": layer,
                        "positions": positions,
                        "centred": centred,
                        "tokens": n,
                        "width": len(matrix),
                        "effective_rank": effective_rank(matrix),
                    }
                )
    means = []
    for positions in ("all", "later"):
        for centred in (False, True):
            own = [r for r in found if r["positions"] == positions and r["centred"] == centred and r["layer"] >= 0]
            if own:
                means.append(
                    {
                        **{name: own[0][name] for name in ("model", "prompts", "positions", "centred", "tokens")},
                        "layers": len(own),
                        "effective_rank": float(np.mean([row["effective_rank"] for row in own])),
                    }
                )
    return from_rows(EFFECTIVE_RANK_SCHEMA, found), from_rows(EFFECTIVE_RANK_MEAN_SCHEMA, means)
