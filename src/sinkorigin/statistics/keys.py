"""K1 and K2: does the key of position 0 collapse to one direction, and do the queries point along it?"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.corpora.prompts import begin_alike
from sinkorigin.statistics.bootstrap import Resampling, studentised_interval
from sinkorigin.statistics.grids import LayeredTable, from_rows, read_layer, read_layers, to_table
from sinkorigin.statistics.layer_permutations import layer_orders, permuted
from sinkorigin.statistics.rank_correlation import spearman
from sinkorigin.statistics.shared_columns import BEGIN_ALIKE, KEYS, LAYER_KEYS, NOT_APPLICABLE, estimate
from sinkorigin.statistics.sink_masses import sink_masses

KEY_COLLAPSE_SCHEMA = tables.schema(
    **LAYER_KEYS,
    head=(pa.int32(), "query head; heads of one group share their key; null: mean over heads"),
    **estimate("between_sequences", "mean cosine of the keys of position 0 of two different sequences"),
    **estimate(
        "one_hot", "mean cosine between the normalised residual (before the norm's weights) and its largest dim"
    ),
    **estimate("one_dim", "mean cosine between the key and its prediction from the largest dim alone"),
    **estimate("two_dims", "the same from the two largest dims"),
    top_dim=(pa.int32(), "largest dim of the residual at position 0, in most sequences"),
    not_applicable=NOT_APPLICABLE,
)

QUERY_ALIGNMENT_SCHEMA = tables.schema(
    **LAYER_KEYS,
    head=(pa.int32(), "query head"),
    alignment=(
        pa.float64(),
        "mean over sequences of |cos(u_1, key of position 0)|, u_1 of all queries at positions >= 1",
    ),
    alignment_low=(pa.float64(), "lower end of its 95 % bootstrap interval; u_1 is held fixed"),
    alignment_high=(pa.float64(), "upper end of it"),
    **estimate("positive_ratio", "share of the queries at positions >= 1 with q · (key of position 0) > 0"),
    **estimate("mass", "the head's sink mass: mean score of position 0 over q > 0"),
)

ALIGNMENT_CORRELATION_SCHEMA = tables.schema(
    **KEYS,
    quantity=(pa.string(), "alignment or positive_ratio"),
    over=(pa.string(), "heads: of all layers; layers: means over their heads"),
    count=(pa.int32(), "number of heads or layers"),
    **estimate("correlation", "Spearman's rank correlation with the sink mass, over these"),
)

ALIGNED_HEADS_SCHEMA = tables.schema(
    **KEYS,
    alignment=(pa.float64(), "a head is aligned whose alignment is above this"),
    positive_ratio=(pa.float64(), "a head's scores on position 0 are positive whose positive ratio is at least this"),
    aligned=(pa.int32(), "number of aligned heads of all layers"),
    others=(pa.int32(), "number of the other heads"),
    **estimate("aligned_share", "share of the aligned heads with positive scores; null where no head is aligned"),
    **estimate("other_share", "share of the other heads with positive scores; null where all heads are aligned"),
    **estimate("difference", "aligned_share - other_share"),
    p=(
        pa.float64(),
        "two-sided p-value of the difference if which heads are aligned had nothing to do with which have positive scores: from "
        "permutations of whole layers; null where one of the groups is empty",
    ),
    **estimate("mass_difference", "mean sink mass of the aligned heads - that of the others"),
)
ALIGNED = (0.3, 0.5, 0.7)  # alignments above which a head is called aligned; the paper gives none
POSITIVE = (0.9, 0.95, 0.99)  # positive ratios that are "about all" of the scores

TABLES = {
    "aligned_heads": ALIGNED_HEADS_SCHEMA,
    "key_collapse": KEY_COLLAPSE_SCHEMA,
    "query_alignment": QUERY_ALIGNMENT_SCHEMA,
    "alignment_correlation": ALIGNMENT_CORRELATION_SCHEMA,
}

_KEYS = ("key", "one_dim", "two_dims", "top_dim", "one_hot", "positive")


def cosine_between(keys: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean cosine of pairs of different sequences (docs/paper.md, K1: "a fixed direction").

    Args:
        keys: (N, d) vectors, one a sequence.
        weights: (R, N) weights that add to 1 in each row; a sequence is never paired with itself, even where a
            bootstrap replicate has it twice.

    Returns:
        (R,): (||Σ w k̂||² − Σ w²) / (1 − Σ w²); memory grows with N, not N². NaN where only one sequence has weight.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        units = keys / np.linalg.norm(keys, axis=-1, keepdims=True)
        itself = np.square(weights).sum(axis=1)
        pairs = np.where(itself < 1 - 1e-12, 1 - itself, np.nan)  # of one sequence both are 0 but for rounding
        return (np.square(weights @ units).sum(axis=1) - itself) / pairs


def cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosine over the last axis; NaN for a zero vector."""
    with np.errstate(invalid="ignore", divide="ignore"):
        products = np.einsum("...d,...d->...", left, right)
        return products / (np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1))


def first_right_singular_vector(gram: np.ndarray) -> np.ndarray:
    """(..., d) unit vector along which the rows of X are longest, from (..., d, d) Gram matrices X^T X; sign is free."""
    return np.linalg.eigh(gram)[1][..., -1]


def compute(inputs: Mapping[str, str], *, model: str, prompts: str, resampling: Resampling) -> dict[str, pa.Table]:
    """K1 by layer and head (and mean over heads), K2 by layer and head, and K2's rank correlations with the sink mass.

    Args:
        inputs: paths of ``first_token_keys``, ``query_gram``, ``scores`` (the attention scores) and ``prompts`` (the tokens).
        model, prompts: names, for the first columns.
        resampling: how intervals resample the sequences.

    Returns:
        ``key_collapse`` (``KEY_COLLAPSE_SCHEMA``), ``query_alignment`` (``QUERY_ALIGNMENT_SCHEMA``), ``alignment_correlation``
        (``ALIGNMENT_CORRELATION_SCHEMA``) and ``aligned_heads`` (``ALIGNED_HEADS_SCHEMA``, a row for each pair of thresholds).
    """
    names = {"model": model, "prompts": prompts}
    collapses, alignments = [], []
    replicated: dict[str, list[np.ndarray]] = {"alignment": [], "positive_ratio": [], "mass": []}
    depth: list[np.ndarray] = []
    masses = sink_masses(inputs["scores"])
    grams = LayeredTable(inputs["query_gram"], ("head", "dim", "products"))
    alike = begin_alike(inputs["prompts"])
    for layer, points, columns in read_layers(inputs["first_token_keys"], axes=("sequence", "head"), columns=_KEYS):
        keys = columns["key"]  # (N, H, d_k)
        collapses.append(collapse_rows(columns, resampling, names, layer, alike))
        gram = read_layer(grams, layer, axes=("head", "dim"), columns=("products",))[1]["products"]
        first = first_right_singular_vector(gram)  # (H, d_k)
        values = {
            "alignment": np.abs(cosine(keys, first)),  # (N, H)
            "positive_ratio": columns["positive"],
            "mass": masses[layer],
        }
        intervals: dict[str, np.ndarray] = {}
        for name, value in values.items():
            samples = resampling.means(value)  # (1 + R, H)
            intervals |= resampling.with_interval(name, samples)
            replicated[name].append(samples)
        depth.append(np.full(keys.shape[1], layer))
        alignments.append(to_table(QUERY_ALIGNMENT_SCHEMA, **names, layer=layer, head=points["head"], **intervals))
    by_head = {
        name: np.concatenate(parts, axis=1) for name, parts in replicated.items()
    }  # (1 + R, heads of all layers)
    by_layer = {name: np.stack([part.mean(axis=1) for part in parts], axis=1) for name, parts in replicated.items()}
    correlations = []
    for over, every in (("heads", by_head), ("layers", by_layer)):
        for quantity in ("alignment", "positive_ratio"):
            correlations.append(
                to_table(
                    ALIGNMENT_CORRELATION_SCHEMA,
                    **names,
                    quantity=quantity,
                    over=over,
                    count=[every["mass"].shape[1]],
                    **resampling.with_interval("correlation", spearman(every[quantity], every["mass"])),
                )
            )
    heads = [names | row for row in aligned_heads(**by_head, layer=np.concatenate(depth), resampling=resampling)]
    return {
        "aligned_heads": from_rows(ALIGNED_HEADS_SCHEMA, heads),
        "key_collapse": pa.concat_tables(collapses),
        "query_alignment": pa.concat_tables(alignments),
        "alignment_correlation": pa.concat_tables(correlations),
    }


def aligned_heads(
    alignment: np.ndarray, positive_ratio: np.ndarray, mass: np.ndarray, layer: np.ndarray, resampling: Resampling
) -> Iterator[dict]:
    """Rows of ``ALIGNED_HEADS_SCHEMA`` without model and prompts: do the aligned heads have positive scores, and the sink?

    The intervals are over sequences, for these heads. Whether a difference between two groups of heads is more than chance is another
    question, which more sequences do not answer: its p-value is by permutation of the heads.

    Args:
        alignment, positive_ratio, mass: (1 + R, heads) each, of the data and of bootstrap replicates, which decide anew which heads are
            aligned. A head without keys (NaN) belongs to neither group.
        layer: (heads,) layer of each, rising.
        resampling: of the replicates; its seed is also that of the permutations.
    """
    orders = layer_orders(layer, resampling.seed)
    for threshold, least in product(ALIGNED, POSITIVE):
        groups = {"aligned": alignment > threshold, "other": alignment <= threshold}
        shares = {name: _mean_where(positive_ratio >= least, group) for name, group in groups.items()}
        masses = [_mean_where(mass, group) for group in groups.values()]
        found = {f"{name}_share": share for name, share in shares.items()}
        found |= {"difference": shares["aligned"] - shares["other"], "mass_difference": masses[0] - masses[1]}
        yield {
            "alignment": threshold,
            "positive_ratio": least,
            "aligned": int(groups["aligned"][0].sum()),
            "others": int(groups["other"][0].sum()),
            "p": permutation_p(alignment[0], threshold, positive_ratio[0] >= least, orders),
            **{
                key: value
                for name, samples in found.items()
                for key, value in _of_groups(name, samples, resampling).items()
            },
        }


def _of_groups(name: str, samples: np.ndarray, resampling: Resampling) -> dict[str, float]:
    """Columns of a quantity of groups of heads, from (1 + R,) replicates.

    Where many heads lie just above a threshold, replicates count fewer of them than the data do; the interval is therefore widened to
    hold the estimate.
    """
    low, high = resampling.interval(samples[1:])
    value = float(samples[0])
    return {name: value, f"{name}_low": float(np.minimum(low, value)), f"{name}_high": float(np.maximum(high, value))}


def permutation_p(alignment: np.ndarray, threshold: float, positive: np.ndarray, orders: np.ndarray) -> float | None:
    """Share of the orders of the positive heads in which their share differs between aligned and other heads at least as much.

    Args:
        alignment: (heads,); NaN belongs to neither group.
        positive: (heads,) booleans.
        orders: (P, heads) of :func:`layer_orders`.

    Returns:
        None where one of the groups is empty.
    """
    aligned, others = alignment > threshold, alignment <= threshold
    if not aligned.any() or not others.any():
        return None
    contrast = aligned / aligned.sum() - others / others.sum()
    differences = np.abs(np.concatenate([part @ contrast for part in permuted(positive, orders)]))
    return float((differences >= differences[0] - 1e-12).mean())


def _mean_where(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Mean over the last axis of the values in a group, of equal shape; NaN where it is empty."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(group, values, 0.0).sum(axis=-1) / group.sum(axis=-1)


def collapse_rows(values: Mapping[str, Any], resampling: Resampling, names: dict, layer: int, alike: bool) -> pa.Table:
    """K1 of one layer: a row a head, and one of their mean.

    Args:
        values: columns of the first tokens' keys on a grid of (N, H).
        resampling: how intervals resample the sequences. The mean over heads is what a claim is about, so its interval is that of
            :func:`studentised_interval`, except between sequences, which is no mean of one value a sequence.
        names: model and prompts.
        layer: number of the layer.
        alike: whether all sequences begin with the same token, and so have the same key there by construction.
    """
    keys = values["key"]
    heads = keys.shape[1]
    weights = resampling.weights_with_data(len(keys))  # (1 + R, N)
    reasons = []
    if alike:
        between = np.full((len(weights), heads), np.nan)
        reasons.append(f"{BEGIN_ALIKE}, so its keys cannot be compared between sequences")
    else:
        between = np.stack([cosine_between(keys[:, head], weights) for head in range(heads)], axis=1)  # (1 + R, H)
    found, by_sequence = {"between_sequences": between}, {}
    for name in ("one_dim", "two_dims"):
        predicted = values[name]
        if predicted is None:
            reasons.append("nothing normalises the residual stream before the attention reads it")
            found[name] = np.full_like(between, np.nan)
        else:
            by_sequence[name] = cosine(keys, predicted)
            found[name] = weights @ by_sequence[name]
    by_sequence["one_hot"] = values["one_hot"]
    found["one_hot"] = weights @ by_sequence["one_hot"]
    columns: dict[str, np.ndarray] = {}
    for name, samples in found.items():
        mean = samples.mean(axis=1, keepdims=True)  # over heads, the last row
        columns |= resampling.with_interval(name, np.concatenate([samples, mean], axis=1))
        if name in by_sequence:
            ends = studentised_interval(by_sequence[name].mean(axis=1), resampling)
            columns[f"{name}_low"][-1], columns[f"{name}_high"][-1] = ends
    return to_table(
        KEY_COLLAPSE_SCHEMA,
        **names,
        layer=layer,
        head=np.append(np.arange(heads, dtype=np.float64), np.nan),
        top_dim=int(np.bincount(values["top_dim"].reshape(-1)).argmax()),
        not_applicable="; ".join(dict.fromkeys(reasons)) or None,
        **columns,
    )
