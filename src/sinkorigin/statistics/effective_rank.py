"""E1, effective rank of the residual stream: how many directions its vectors use."""

from collections.abc import Mapping
from functools import reduce
from pathlib import Path

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.grids import from_rows
from sinkorigin.statistics.residual_grams import read_grams
from sinkorigin.statistics.shared_columns import KEYS

_WHICH = {
    "positions": (pa.string(), "all, or later: without position 0"),
    "centred": (pa.bool_(), "whether the mean over tokens is subtracted first"),
}

EFFECTIVE_RANK_SCHEMA = tables.schema(
    **KEYS,
    layer=(pa.int32(), "layer, counted from 0; -1 is the embedding"),
    **_WHICH,
    tokens=(pa.int64(), "number of tokens, the rows of the matrix"),
    width=(pa.int32(), "number of dims, its columns and the largest possible rank"),
    effective_rank=(pa.float64(), "exp of the entropy of the normalised singular values"),
)

EFFECTIVE_RANK_MEAN_SCHEMA = tables.schema(
    **KEYS,
    **_WHICH,
    tokens=(pa.int64(), "number of tokens, the rows of each layer's matrix"),
    layers=(pa.int32(), "number of layers, without the embedding"),
    effective_rank=(pa.float64(), "mean over the layers"),
)

TABLES = {"effective_rank": EFFECTIVE_RANK_SCHEMA, "effective_rank_mean": EFFECTIVE_RANK_MEAN_SCHEMA}


def effective_rank(gram: np.ndarray) -> float:
    """exp(−Σ p ln p), p = σ / Σ σ, of a matrix with singular values σ (Roy & Vetterli 2007; docs/paper.md, E1).

    Args:
        gram: (d, d) float64, X^T X of the (tokens, d) matrix X, whose eigenvalues are σ²; only the upper triangle is read.

    Returns:
        1 (one direction) … d (all directions alike); NaN for a zero matrix.
    """
    values = np.sqrt(np.clip(np.linalg.eigvalsh(gram, UPLO="U"), 0, None))
    total = values.sum()
    if total == 0:
        return float("nan")
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def compute(inputs: Mapping[str, str], *, model: str, prompts: str) -> dict[str, pa.Table]:
    """E1 by layer, with and without position 0, uncentred and centred; memory depends on the width d only.

    Args:
        inputs: path of ``residual_gram`` (layer, tokens, dim, count, sum, products, values).
        model, prompts: names, for the first columns.

    Returns:
        ``effective_rank`` (``EFFECTIVE_RANK_SCHEMA``) and ``effective_rank_mean`` (``EFFECTIVE_RANK_MEAN_SCHEMA``).
    """
    found: list[dict] = []
    for layer, parts in read_grams(Path(inputs["residual_gram"])):
        for positions, which in (("all", ("first", "rest")), ("later", ("rest",))):
            chosen = [parts[tokens] for tokens in which if tokens in parts]
            if not chosen:
                continue
            counts, totals, grams = zip(*chosen, strict=True)
            n, total, products = sum(counts), reduce(np.add, totals), reduce(np.add, grams)
            for centred in (False, True):
                matrix = products - np.outer(total, total / n) if centred else products
                facts = {"model": model, "prompts": prompts, "positions": positions, "centred": centred, "tokens": n}
                rank = effective_rank(matrix)
                found.append({**facts, "layer": layer, "width": len(matrix), "effective_rank": rank})
    means = []
    for positions in ("all", "later"):
        for centred in (False, True):
            layers = [r for r in found if r["positions"] == positions and r["centred"] == centred and r["layer"] >= 0]
            if layers:
                mean = float(np.mean([row["effective_rank"] for row in layers]))
                means.append(layers[0] | {"layers": len(layers), "effective_rank": mean})
    return {
        "effective_rank": from_rows(EFFECTIVE_RANK_SCHEMA, found),
        "effective_rank_mean": from_rows(EFFECTIVE_RANK_MEAN_SCHEMA, means),
    }
