"""S1, super neurons: the FFN neurons that fire for the first token alone and carry the surge of its norm."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.bootstrap import Resampling, ratio_interval
from sinkorigin.statistics.grids import LayeredTable, from_rows, read_layer, read_layers, to_table
from sinkorigin.statistics.shared_columns import KEYS, LAYER, LAYER_KEYS, NOT_APPLICABLE, estimate

SUPER_NEURONS_SCHEMA = tables.schema(
    **KEYS,
    rank=(pa.int32(), "place by |norm_change|, largest first; null where the layer has no neurons to show"),
    layer=LAYER,
    neuron=(pa.int32(), "FFN neuron"),
    super_neuron=(pa.bool_(), "whether it passes the rule of docs/science.md"),
    **estimate("share", "share of the first token's FFN output that it carries (signed; all neurons add to 1)"),
    norm_change=(
        pa.float64(),
        "norm of the first token's residual minus its norm without this neuron, mean over sequences",
    ),
    **estimate("surge_share", "norm_change / what the layer adds to the norm; null where it adds less than half of it"),
    first=(pa.float64(), "mean |activation| at position 0"),
    rest=(pa.float64(), "mean |activation| at positions >= 1"),
    rest_max=(pa.float64(), "largest |activation| at positions >= 1"),
    activation_ratio=(pa.float64(), "first / rest"),
    gate_cosine_first=(pa.float64(), "mean cos(FFN input, gate weights) at position 0; null without a gate"),
    gate_cosine_rest=(pa.float64(), "the same at positions >= 1"),
    gate_norm=(pa.float64(), "Euclidean norm of its gate weights; null without a gate"),
    gate_norm_ratio=(pa.float64(), "gate_norm / median of the layer's neurons"),
    up_norm=(pa.float64(), "Euclidean norm of its up weights"),
    up_norm_ratio=(pa.float64(), "up_norm / median of the layer's neurons"),
    down_norm=(pa.float64(), "Euclidean norm of its down weights"),
    max_over_mean=(pa.float64(), "largest / mean magnitude of its down weights over dims"),
    participation_ratio=(pa.float64(), "number of dims that carry its down weights"),
    dim_1=(pa.int32(), "residual dim with its largest down weight"),
    dim_2=(pa.int32(), "residual dim with the second"),
    dim_1_share=(pa.float64(), "share of its squared down weights in dim_1"),
    dim_2_share=(pa.float64(), "share of them in dim_2"),
    dominant_dim=(pa.int32(), "dim of the largest magnitude in most first tokens' residual leaving the layer"),
    hits_dominant_dim=(pa.bool_(), "whether dim_1 or dim_2 is that dim"),
    not_applicable=NOT_APPLICABLE,
)

SURGE_SCHEMA = tables.schema(
    **LAYER_KEYS,
    before=(pa.float64(), "mean norm of the first token's residual entering the layer"),
    after=(pa.float64(), "mean norm leaving it"),
    super_neurons=(pa.int32(), "number of the layer's super neurons; null where the layer has no neurons to show"),
    without_largest=(pa.float64(), "mean norm leaving it without its neuron of the largest |norm_change|"),
    largest=(pa.int32(), "that neuron"),
    **estimate(
        "accounted",
        "(after − without_largest) / (after − before); null where the layer adds less than half of the norm",
    ),
    few=(pa.list_(pa.int32()), "its super neurons, at most three, the largest share of the FFN output first"),
    **estimate(
        "few_surge",
        "what these write along the residual / all that the layer adds along it; null where the layer adds less than half of the norm or "
        "has none",
    ),
    **estimate(
        "few_largest", "what these write of the residual's largest entry / that entry; null where the layer has none"
    ),
    not_applicable=NOT_APPLICABLE,
)
FEW = 3  # neurons that are "a few"

TABLES = {"super_neurons": SUPER_NEURONS_SCHEMA, "super_neuron_surge": SURGE_SCHEMA}


_FIRST_TOKEN = ("activation", "on_output", "on_residual", "on_largest", "added", "output_norm")
_MOMENTS = ("mean_abs", "max_abs")
_WEIGHTS = (
    "gate_norm", "up_norm", "down_norm", "max_over_mean", "participation_ratio", "dim_1", "dim_2", "dim_1_share", "dim_2_share",
)  # fmt: skip


def compute(
    inputs: Mapping[str, str], *, model: str, prompts: str, share: float, ratio: float, resampling: Resampling
) -> dict[str, pa.Table]:
    """S1 of every FFN neuron, ranked, and what the super neurons account for by layer (docs/paper.md).

    Args:
        inputs: paths of ``first_token_neurons``, ``neuron_moments``, ``gate_cosines`` and ``magnitudes``, tables of the
            extraction, and of ``neurons``, the weight table of the model (``weights.NEURONS_SCHEMA``).
        model, prompts: names, for the first columns.
        share, ratio: thresholds of the rule, see :func:`is_super_neuron`.
        resampling: how intervals resample the sequences.

    Returns:
        ``super_neurons`` (``SUPER_NEURONS_SCHEMA``, by rank) and ``super_neuron_surge`` (``SURGE_SCHEMA``).
    """
    names = {"model": model, "prompts": prompts}
    norms = _first_token_norms(inputs["magnitudes"])
    first_tokens = LayeredTable(inputs["first_token_neurons"], ("sequence", *_FIRST_TOKEN))
    moments = {
        tokens: LayeredTable(inputs["neuron_moments"], ("neuron", *_MOMENTS), tokens=tokens)
        for tokens in ("first", "rest")
    }
    cosines = LayeredTable(inputs["gate_cosines"], ("position", "cosine"))
    neurons = LayeredTable(inputs["neurons"], ("neuron", *_WEIGHTS, "not_applicable"))
    parts, surges = [], []
    for layer in sorted(layer for layer in norms if layer >= 0):  # layer -1 is the embedding
        before = norms[layer - 1].norm
        after, dominant = norms[layer].norm, norms[layer].dim
        weights = neurons.rows(layer)
        first_token = read_layer(first_tokens, layer, axes=("sequence",), columns=_FIRST_TOKEN)[1]
        reasons = [weights["not_applicable"][0]]
        neuron: dict = {"neuron": [None], "not_applicable": reasons[0]}
        surge: dict = {"not_applicable": reasons[0]}
        if not np.isnan(weights["neuron"]).any() and len(first_token["output_norm"]):
            weight = {name: weights[name][np.argsort(weights["neuron"], kind="stable")] for name in _WEIGHTS}
            firing = _firing(moments, cosines, layer)
            shares = shares_of_output(*(first_token[name] for name in ("activation", "on_output", "output_norm")))
            share_low, share_high = resampling.interval(resampling.weights(len(after)) @ shares)
            chosen = is_super_neuron(share_low, firing["activation_ratio"], share=share, ratio=ratio)
            if resampling.too_few:
                reasons.append(f"the rule for super neurons asks for an interval: {resampling.too_few}")
            changes: dict = {}
            if first_token["on_residual"] is None:
                reasons.append(
                    "a norm after the FFN rescales what its neurons write, so their part of the norm is not defined"
                )
            else:
                changes, surge = _norm_changes(first_token, weight["down_norm"], before, after, resampling)
                surge |= written_by_few(first_token, _few(chosen, shares), before, norms[layer], resampling)
            reason = "; ".join(part for part in reasons if part) or None
            surge |= {"super_neurons": None if resampling.too_few else chosen.sum(), "not_applicable": reason}
            neuron = {
                "neuron": np.arange(len(chosen)),
                "super_neuron": None if resampling.too_few else chosen,
                "share": shares.mean(axis=0),
                "share_low": share_low,
                "share_high": share_high,
                **changes,
                **firing,
                **weight,
                "gate_norm_ratio": weight["gate_norm"] / np.median(weight["gate_norm"]),
                "up_norm_ratio": weight["up_norm"] / np.median(weight["up_norm"]),
                "dominant_dim": dominant,
                "hits_dominant_dim": (weight["dim_1"] == dominant) | (weight["dim_2"] == dominant),
                "not_applicable": reason,
            }
        blank = dict.fromkeys(SUPER_NEURONS_SCHEMA.names)
        parts.append(to_table(SUPER_NEURONS_SCHEMA, **(blank | names | neuron | {"layer": layer})))
        blank = dict.fromkeys(SURGE_SCHEMA.names)
        means = {"before": before.mean(), "after": after.mean()}
        surges.append(blank | names | means | surge | {"layer": layer})
    return {"super_neurons": _ranked(pa.concat_tables(parts)), "super_neuron_surge": from_rows(SURGE_SCHEMA, surges)}


@dataclass(frozen=True)
class FirstResiduals:
    """The first tokens' residuals that leave a layer.

    Attributes:
        norm, largest: (N,) norm and largest magnitude.
        dim: the dim that is largest in most of them.
    """

    norm: np.ndarray
    largest: np.ndarray
    dim: int


def _first_token_norms(magnitudes: str) -> dict[int, FirstResiduals]:
    """Layer → the first tokens' residuals."""
    return {
        layer: FirstResiduals(columns["norm"], columns["max_abs"], int(np.bincount(columns["max_dim"]).argmax()))
        for layer, _, columns in read_layers(
            magnitudes, axes=("sequence",), columns=("norm", "max_abs", "max_dim"), site="residual", position=0
        )
    }


def _few(chosen: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """At most ``FEW`` of the (f,) chosen neurons, by their mean of (N, f) shares, largest first."""
    numbers = np.flatnonzero(chosen)
    return numbers[np.argsort(-shares.mean(axis=0)[numbers], kind="stable")][:FEW]


def written_by_few(
    first_token: Mapping[str, np.ndarray],
    few: np.ndarray,
    before: np.ndarray,
    residual: FirstResiduals,
    resampling: Resampling,
) -> dict:
    """Columns ``few…`` of the surge table.

    Both are projections, so that parts add up to the whole: along the residual for its norm, along one dim for its largest entry. The
    rise of the norm itself is no such whole: where the residual turns, the layer adds more along it than its norm rises.

    Args:
        few: numbers of the neurons.
        before: (N,) norms of the residual that enters the layer; ``residual``: what leaves it.
        resampling: how intervals resample the sequences.
    """
    row: dict = {"few": few.tolist()}
    if not len(few):
        return row
    firing = first_token["activation"][:, few]
    along = (firing * first_token["on_residual"][:, few]).sum(axis=1) / residual.norm  # (N,)
    if (residual.norm - before).mean() > residual.norm.mean() / 2:
        row |= _ratio_of_means("few_surge", along, first_token["added"], resampling)
    written = (firing * first_token["on_largest"][:, few]).sum(axis=1)
    return row | _ratio_of_means("few_largest", written, residual.largest, resampling)


def _ratio_of_means(name: str, above: np.ndarray, below: np.ndarray, resampling: Resampling) -> dict:
    """Columns of the mean of (N,) values / the mean of others, with its interval."""
    low, high = ratio_interval(above, below, resampling)
    return {name: above.mean() / below.mean(), f"{name}_low": low, f"{name}_high": high}


def _firing(moments: Mapping[str, LayeredTable], cosines: LayeredTable, layer: int) -> dict[str, np.ndarray]:
    """Columns (f,) that say how the neurons of a layer answer to the first token and to the others."""
    first, rest = (
        read_layer(moments[tokens], layer, axes=("neuron",), columns=_MOMENTS)[1] for tokens in ("first", "rest")
    )
    missing = np.full_like(first["mean_abs"], np.nan)
    several = len(rest["mean_abs"]) > 0  # else the sequences are of one token
    found = {
        "first": first["mean_abs"],
        "rest": rest["mean_abs"] if several else missing,
        "rest_max": rest["max_abs"] if several else missing,
    }
    with np.errstate(invalid="ignore", divide="ignore"):
        found["activation_ratio"] = found["first"] / found["rest"]
    by_position = read_layer(cosines, layer, axes=("position",), columns=("cosine",))[1]["cosine"]  # (T, f)
    gated = len(by_position) > 0
    found["gate_cosine_first"] = by_position[0] if gated else missing
    found["gate_cosine_rest"] = by_position[1:].mean(axis=0) if len(by_position) > 1 else missing
    return found


def _norm_changes(
    first_token: Mapping[str, np.ndarray],
    down_norm: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    resampling: Resampling,
) -> tuple[dict, dict]:
    """What the first token's norm loses without each neuron of a layer.

    Args:
        first_token: columns (N, f) of the first tokens' neurons.
        down_norm: (f,) norms of the down weights.
        before, after: (N,) norms of the residual that enters and leaves the layer.
        resampling: how intervals resample the sequences.

    Returns:
        Columns (f,) of the neurons, and those of the layer's row in the surge table.
    """
    without = norm_without(after, first_token["activation"], first_token["on_residual"], down_norm)
    lost = after[:, None] - without  # (N, f)
    change = lost.mean(axis=0)
    largest = int(np.abs(change).argmax())
    neuron = {"norm_change": change}
    surge: dict = {"without_largest": without[:, largest].mean(), "largest": largest}
    draws = resampling.weights(len(after))  # (R, N)
    added, added_draws = (after - before).mean(), draws @ (after - before)
    if added > after.mean() / 2:
        low, high = resampling.interval((draws @ lost) / added_draws[:, None])
        neuron |= {"surge_share": change / added, "surge_share_low": low, "surge_share_high": high}
        surge |= {f"accounted{end}": neuron[f"surge_share{end}"][largest] for end in ("", "_low", "_high")}
    return neuron, surge


def _ranked(neurons: pa.Table) -> pa.Table:
    """The neurons of all layers by |norm_change|, or by |share| where it is not defined, with their rank."""
    ordered = pl.DataFrame(neurons).sort(
        pl.coalesce("norm_change", "share").abs(), "layer", "neuron", descending=[True, False, False], nulls_last=True
    )
    rank = pl.when(pl.col("neuron").is_not_null()).then(pl.int_range(1, pl.len() + 1))
    return ordered.with_columns(rank=rank).to_arrow().cast(SUPER_NEURONS_SCHEMA)


def shares_of_output(activation: np.ndarray, on_output: np.ndarray, output_norm: np.ndarray) -> np.ndarray:
    """Share of each neuron in the FFN output: a_n w_n · o / ||o||², o = Σ a_m w_m (docs/paper.md, S1).

    Args:
        activation: (N, f) a_n.
        on_output: (N, f) w_n · o.
        output_norm: (N,) ||o||.

    Returns:
        (N, f), signed, rows add to 1; a bias of the FFN belongs to no neuron.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return activation * on_output / np.square(output_norm)[:, None]


def norm_without(
    residual_norm: np.ndarray, activation: np.ndarray, on_residual: np.ndarray, down_norm: np.ndarray
) -> np.ndarray:
    """||r − a_n w_n||: the norm of the residual stream r had neuron n not written.

    Args:
        residual_norm: (N,) ||r||.
        activation: (N, f) a_n.
        on_residual: (N, f) w_n · r.
        down_norm: (f,) ||w_n||.

    Returns:
        (N, f), from ||r||² − 2 a_n (w_n · r) + a_n² ||w_n||².
    """
    squared = np.square(residual_norm)[:, None] - 2 * activation * on_residual + np.square(activation * down_norm)
    return np.sqrt(np.maximum(squared, 0))


def is_super_neuron(share_low: np.ndarray, activation_ratio: np.ndarray, *, share: float, ratio: float) -> np.ndarray:
    """Rule of docs/science.md: a super neuron carries at least ``share`` of the first token's FFN output, with its whole
    interval, and its mean magnitude at position 0 is at least ``ratio`` times that elsewhere.

    Args:
        share_low: (f,) lower end of the share's interval.
        activation_ratio: (f,) mean magnitude at position 0 / that at later positions.
    """
    return (np.nan_to_num(share_low) >= share) & (np.nan_to_num(activation_ratio) >= ratio)
