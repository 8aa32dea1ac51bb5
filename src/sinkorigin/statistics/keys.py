"""K1 and K2: does the key of position 0 collapse to one direction, and do the queries point along it?"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics import shared_columns
from sinkorigin.statistics.bootstrap import interval, resamples
from sinkorigin.statistics.grids import read_layer, read_layers, to_table
from sinkorigin.statistics.layered_table import LayeredTable

KEY_COLLAPSE_SCHEMA = tables.schema(
    **shared_columns.KEYS,
    layer=shared_columns.LAYER,
    head=(pa.int32(), "query head; heads of one group share their key; null: mean over heads"),
    between_sequences=(pa.float64(), "mean cosine of the keys of position 0 of two different sequences"),
    between_sequences_low=shared_columns.LOW,
    between_sequences_high=shared_columns.HIGH,
    one_hot=(
        pa.float64(),
        "mean cosine between the normalised residual (before the norm's weights) and its largest dim",
    ),
    one_hot_low=shared_columns.LOW,
    one_hot_high=shared_columns.HIGH,
    one_dim=(pa.float64(), "mean cosine between the key and its prediction from the largest dim alone"),
    one_dim_low=shared_columns.LOW,
    one_dim_high=shared_columns.HIGH,
    two_dims=(pa.float64(), "the same from the two largest dims"),
    two_dims_low=shared_columns.LOW,
    two_dims_high=shared_columns.HIGH,
    top_dim=(pa.int32(), "largest dim of the residual at position 0, in most sequences"),
    not_applicable=shared_columns.NOT_APPLICABLE,
)

QUERY_ALIGNMENT_SCHEMA = tables.schema(
    **shared_columns.KEYS,
    layer=shared_columns.LAYER,
    head=(pa.int32(), "query head"),
    alignment=(
        pa.float64(),
        "mean over sequences of |cos(u_1, key of position 0)|, u_1 of all queries at positions >= 1",
    ),
    alignment_low=(pa.float64(), "2.5th percentile over bootstrap replicates of sequences; u_1 is held fixed"),
    alignment_high=(pa.float64(), "97.5th percentile over bootstrap replicates of sequences; u_1 is held fixed"),
    positive_ratio=(pa.float64(), "share of the queries at positions >= 1 with q · (key of position 0) > 0"),
    positive_ratio_low=shared_columns.LOW,
    positive_ratio_high=shared_columns.HIGH,
    mass=(pa.float64(), "the head's sink mass: mean score of position 0 over q > 0"),
    mass_low=shared_columns.LOW,
    mass_high=shared_columns.HIGH,
)

ALIGNMENT_CORRELATION_SCHEMA = tables.schema(
    **shared_columns.KEYS,
    quantity=(pa.string(), "alignment or positive_ratio"),
    over=(pa.string(), "heads: of all layers; layers: means over their heads"),
    count=(pa.int32(), "number of heads or layers"),
    correlation=(pa.float64(), "Spearman's rank correlation with the sink mass, over these"),
    correlation_low=shared_columns.LOW,
    correlation_high=shared_columns.HIGH,
)


_KEYS = ("key", "one_dim", "two_dims", "top_dim", "one_hot", "positive")


def cosine_between(keys: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean cosine of pairs of different sequences (docs/paper.md, K1: "a fixed direction").

    Args:
        keys: (N, d) vectors, one a sequence.
        weights: (R, N) weights that add to 1 in each row; a sequence is never paired with itself, also where a
            bootstrap replicate has it twice.

    Returns:
        (R,): (||Σ w k̂||² − Σ w²) / (1 − Σ w²); memory grows with N, not N². NaN where only one sequence has weight.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        units = keys / np.linalg.norm(keys, axis=-1, keepdims=True)
        itself = np.square(weights).sum(axis=1)
        return (np.square(weights @ units).sum(axis=1) - itself) / (1 - itself)


def cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosine over the last axis; NaN for a zero vector."""
    with np.errstate(invalid="ignore", divide="ignore"):
        products = np.einsum("...d,...d->...", left, right)
        return products / (np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1))


def first_right_singular_vector(gram: np.ndarray) -> np.ndarray:
    """(..., d) unit vector along which the rows of X are longest, from (..., d, d) Gram matrices X^T X; sign is free."""
    return np.linalg.eigh(gram)[1][..., -1]


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """Rank of each of (..., n) values over the last axis, from 1; ties share their mean rank.

    NumPy because SciPy's ``rankdata`` takes longer to import than all ranks take.
    """
    rows = values.reshape(-1, values.shape[-1])
    ranks = [
        (np.searchsorted(ordered, row, "left") + np.searchsorted(ordered, row, "right") + 1) / 2
        for row, ordered in zip(rows, np.sort(rows, axis=-1), strict=True)
    ]
    return np.where(np.isnan(values).any(axis=-1, keepdims=True), np.nan, np.reshape(ranks, values.shape))


def spearman(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation over the last axis, for (..., n) values; ties share their mean rank."""
    left, right = (mean_ranks(part) for part in (left, right))
    left = left - left.mean(axis=-1, keepdims=True)
    right = right - right.mean(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (left * right).sum(axis=-1) / np.sqrt(np.square(left).sum(axis=-1) * np.square(right).sum(axis=-1))


def _with_interval(values: np.ndarray, draws: np.ndarray, name: str) -> dict[str, np.ndarray]:
    """Mean over sequences of (N, H) values, with its interval."""
    low, high = interval(draws @ values)
    return {name: values.mean(axis=0), f"{name}_low": low, f"{name}_high": high}


def key_tables(
    *,
    first_token_keys: str | Path,
    query_gram: str | Path,
    scores: str | Path,
    model: str,
    prompts: str,
    replicates: int,
    seed: int,
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """K1 by layer and head (and mean over heads), K2 by layer and head, and K2's rank correlations with the sink mass.

    Args:
        first_token_keys, query_gram: tables of the extraction; scores: the attention scores.
        model, prompts: names, for the first columns.
        replicates, seed: of the bootstrap over sequences.

    Returns:
        Tables of ``KEY_COLLAPSE_SCHEMA``, ``QUERY_ALIGNMENT_SCHEMA`` and ``ALIGNMENT_CORRELATION_SCHEMA``.
    """
    names = {"model": model, "prompts": prompts}
    collapses, alignments = [], []
    replicated: dict[str, list[np.ndarray]] = {"alignment": [], "positive_ratio": [], "mass": []}
    masses = _sink_masses(scores)
    grams = LayeredTable(query_gram, ("head", "dim", "products"))
    for layer, points, columns in read_layers(first_token_keys, axes=("sequence", "head"), columns=_KEYS):
        keys = columns["key"]  # (N, H, d_k)
        draws = resamples(len(keys), replicates, seed)
        collapses.append(_collapse(columns, draws, names, layer))
        gram = read_layer(grams, layer, axes=("head", "dim"), columns=("products",))[1]["products"]
        first = first_right_singular_vector(gram)  # (H, d_k)
        values = {
            "alignment": np.abs(cosine(keys, first)),  # (N, H)
            "positive_ratio": columns["positive"],
            "mass": masses[layer],
        }
        intervals: dict[str, np.ndarray] = {}
        for name, value in values.items():
            intervals |= _with_interval(value, draws, name)
            replicated[name].append(np.concatenate([value.mean(axis=0, keepdims=True), draws @ value]))
        alignments.append(to_table(QUERY_ALIGNMENT_SCHEMA, **names, layer=layer, head=points["head"], **intervals))
    correlations = []
    for over in ("heads", "layers"):
        every = {  # (1 + R, heads or layers)
            name: np.concatenate(parts, axis=1)
            if over == "heads"
            else np.stack([part.mean(axis=1) for part in parts], axis=1)
            for name, parts in replicated.items()
        }
        for quantity in ("alignment", "positive_ratio"):
            found = spearman(every[quantity], every["mass"])
            low, high = interval(found[1:])
            correlations.append(
                to_table(
                    ALIGNMENT_CORRELATION_SCHEMA,
                    **names,
                    quantity=quantity,
                    over=over,
                    count=[every["mass"].shape[1]],
                    correlation=found[0],
                    correlation_low=low,
                    correlation_high=high,
                )
            )
    return pa.concat_tables(collapses), pa.concat_tables(alignments), pa.concat_tables(correlations)


def _sink_masses(scores: str | Path) -> dict[int, np.ndarray]:
    """Layer → (N, H) score of position 0 over q > 0."""
    return {
        layer: columns["score_excluding_self"][:, :, 0]
        for layer, _, columns in read_layers(
            scores, axes=("sequence", "head", "position"), columns=("score_excluding_self",), position=0
        )
    }


def _collapse(values: Mapping[str, np.ndarray | None], draws: np.ndarray, names: dict, layer: int) -> pa.Table:
    """K1 of one layer: a row a head, and one of their mean.

    Args:
        values: columns of the first tokens' keys on a grid of (N, H).
        draws: (R, N) weights.
    """
    keys = values["key"]
    sequences, heads = keys.shape[:2]
    everything = np.concatenate([np.full((1, sequences), 1 / sequences), draws])
    between = np.stack([cosine_between(keys[:, head], everything) for head in range(heads)], axis=1)  # (1 + R, H)
    found = {"between_sequences": between}
    reason = None
    for name in ("one_dim", "two_dims"):
        predicted = values[name]
        if predicted is None:
            reason = "nothing normalises the residual stream before the attention reads it"
            found[name] = np.full_like(between, np.nan)
        else:
            found[name] = everything @ cosine(keys, predicted)
    found["one_hot"] = everything @ values["one_hot"]
    columns = {}
    for name, samples in found.items():
        samples = np.concatenate([samples, samples.mean(axis=1, keepdims=True)], axis=1)  # the mean over heads is last
        columns[name] = samples[0]
        columns[f"{name}_low"], columns[f"{name}_high"] = interval(samples[1:])
    return to_table(
        KEY_COLLAPSE_SCHEMA,
        **names,
        layer=layer,
        head=np.append(np.arange(heads, dtype=np.float64), np.nan),
        top_dim=int(np.bincount(values["top_dim"].reshape(-1)).argmax()),
        not_applicable=reason,
        **columns,
    )
