"""E1, effective rank of the residual stream."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics import shared_columns
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
    """exp(−Σ p ln p), p = σ / Σ σ, of a matrix with singular values σ (Roy & Vetterli 2007; PAPER.md E1).

    Args:
        gram: (d, d) float64, X^T X of the (tokens, d) matrix X; its eigenvalues are σ².

    Returns:
        1 (one direction) … d (all directions alike); NaN for a zero matrix.
    """
    values = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None))
    total = values.sum()
    if total == 0:
        return float("nan")
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _read_layer(rows: pl.LazyFrame, layer: int, tokens: str, path: Path) -> tuple[int, np.ndarray, np.ndarray]:
    """Count, sum (d,) and Gram matrix (d, d) of one layer."""
    frame = rows.filter((pl.col("layer") == layer) & (pl.col("tokens") == tokens)).sort("dim").collect()
    width = len(frame)
    if not width:
        return 0, np.zeros(1), np.zeros((1, 1))
    upper = frame["products"].explode().to_numpy()
    if len(upper) != width * (width + 1) // 2:
        raise SinkoriginError(f"{path}: layer {layer} is incomplete; delete it and run the same command again")
    gram = np.zeros((width, width))
    gram[np.triu_indices(width)] = upper
    gram = gram + np.triu(gram, 1).T
    return int(frame["count"][0]), frame["sum"].to_numpy(), gram


def rank_tables(residual_gram: str | Path, *, model: str, prompts: str) -> tuple[pa.Table, pa.Table]:
    """E1 by layer, with and without position 0, uncentred and centred; memory depends on d only.

    Args:
        residual_gram: the table of (layer, tokens, dim, count, sum, products).
        model, prompts: names, for the first columns.

    Returns:
        Tables of ``EFFECTIVE_RANK_SCHEMA`` and ``EFFECTIVE_RANK_MEAN_SCHEMA``.
    """
    path = Path(residual_gram)
    found = []
    try:
        rows = pl.scan_parquet(path, hive_partitioning=False, glob=False)
        for layer in rows.select(pl.col("layer").unique().sort()).collect()["layer"].to_list():
            count, total, gram = _read_layer(rows, layer, "rest", path)
            first_count, first_total, first_gram = _read_layer(rows, layer, "first", path)
            for positions, n, sums, products in (
                ("all", count + first_count, total + first_total, gram + first_gram),
                ("later", count, total, gram),
            ):
                for centred in (False, True):
                    if not n:
                        continue
                    matrix = products - np.outer(sums, sums) / n if centred else products
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
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SinkoriginError(f"{path} cannot be read as Parquet; delete it and run the same command again") from error
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
