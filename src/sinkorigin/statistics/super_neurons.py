"""S1, super neurons: the FFN neurons that fire for the first token alone and carry the surge of its norm."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics import shared_columns
from sinkorigin.statistics.bootstrap import interval, resamples
from sinkorigin.statistics.grids import read_layer, read_layers, to_table
from sinkorigin.statistics.layered_table import LayeredTable

SUPER_NEURONS_SCHEMA = tables.schema(
    **shared_columns.KEYS,
    rank=(pa.int32(), "place by |norm_change|, largest first; null where the layer has no neurons to show"),
    layer=shared_columns.LAYER,
    neuron=(pa.int32(), "FFN neuron"),
    super_neuron=(pa.bool_(), "whether it passes the rule of docs/science.md"),
    share=(pa.float64(), "share of the first token's FFN output that it carries (signed; all neurons add to 1)"),
    share_low=shared_columns.LOW,
    share_high=shared_columns.HIGH,
    norm_change=(
        pa.float64(),
        "norm of the first token's residual minus its norm without this neuron, mean over sequences",
    ),
    surge_share=(
        pa.float64(),
        "norm_change / what the layer adds to the norm; null where it adds less than half of it",
    ),
    surge_share_low=shared_columns.LOW,
    surge_share_high=shared_columns.HIGH,
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
    max_over_mean=(pa.float64(), "of its down weights: largest / mean magnitude over dims"),
    participation_ratio=(pa.float64(), "of its down weights: number of dims that carry them"),
    dim_1=(pa.int32(), "residual dim with its largest down weight"),
    dim_2=(pa.int32(), "residual dim with the second"),
    dominant_dim=(pa.int32(), "dim of the largest magnitude in most first tokens' residual leaving the layer"),
    hits_dominant_dim=(pa.bool_(), "whether dim_1 or dim_2 is that dim"),
    not_applicable=shared_columns.NOT_APPLICABLE,
)

SURGE_SCHEMA = tables.schema(
    **shared_columns.KEYS,
    layer=shared_columns.LAYER,
    before=(pa.float64(), "mean norm of the first token's residual entering the layer"),
    after=(pa.float64(), "mean norm leaving it"),
    super_neurons=(pa.int32(), "number of the layer's super neurons; null where the layer has no neurons to show"),
    without_largest=(pa.float64(), "mean norm leaving it without its neuron of the largest |norm_change|"),
    largest=(pa.int32(), "that neuron"),
    accounted=(
        pa.float64(),
        "(after − without_largest) / (after − before); null where the layer adds less than half of the norm",
    ),
    accounted_low=shared_columns.LOW,
    accounted_high=shared_columns.HIGH,
    not_applicable=shared_columns.NOT_APPLICABLE,
)


def shares_of_output(activation: np.ndarray, on_output: np.ndarray, output_norm: np.ndarray) -> np.ndarray:
    """Share of each neuron in the FFN output: a_n w_n · o / ||o||², o = Σ a_m w_m (docs/paper.md, S1).

    Args:
        activation: (N, f) a_n; on_output: (N, f) w_n · o; output_norm: (N,) ||o||.

    Returns:
        (N, f), signed, rows add to 1; the biases of the FFN, if any, are no neuron's.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return activation * on_output / np.square(output_norm)[:, None]


def norm_without(
    residual_norm: np.ndarray, activation: np.ndarray, on_residual: np.ndarray, down_norm: np.ndarray
) -> np.ndarray:
    """||r − a_n w_n|| of each neuron: the residual stream had that neuron not written.

    Args:
        residual_norm: (N,) ||r||; activation: (N, f) a_n; on_residual: (N, f) w_n · r; down_norm: (f,) ||w_n||.

    Returns:
        (N, f), from ||r||² − 2 a_n (w_n · r) + a_n² ||w_n||².
    """
    squared = np.square(residual_norm)[:, None] - 2 * activation * on_residual + np.square(activation * down_norm)
    return np.sqrt(np.maximum(squared, 0))


def is_super_neuron(share_low: np.ndarray, activation_ratio: np.ndarray, *, share: float, ratio: float) -> np.ndarray:
    """The stated rule: it carries at least ``share`` of the first token's FFN output, with its whole interval, and its
    mean magnitude at position 0 is at least ``ratio`` times that elsewhere.

    Args:
        share_low: (f,) lower end of the share's interval; activation_ratio: (f,).
    """
    return (np.nan_to_num(share_low) >= share) & (np.nan_to_num(activation_ratio) >= ratio)


def _first_token_norms(magnitudes: str | Path) -> dict[int, tuple[np.ndarray, int]]:
    """Layer → norm of each sequence's first token (N,), and the dim that is largest in most of them."""
    return {
        layer: (columns["norm"], int(np.bincount(columns["max_dim"]).argmax()))
        for layer, _, columns in read_layers(
            magnitudes, axes=("sequence",), columns=("norm", "max_dim"), site="residual", position=0
        )
    }


def super_neuron_tables(
    *,
    first_token_neurons: str | Path,
    neuron_moments: str | Path,
    gate_cosines: str | Path,
    magnitudes: str | Path,
    neurons: str | Path,
    model: str,
    prompts: str,
    share: float,
    ratio: float,
    replicates: int,
    seed: int,
) -> tuple[pa.Table, pa.Table]:
    """S1 of every FFN neuron, ranked, and what the super neurons account for by layer.

    Args:
        first_token_neurons, neuron_moments, gate_cosines, magnitudes: tables of the extraction.
        neurons: the weight table of the model (``weights.NEURONS_SCHEMA``).
        model, prompts: names, for the first columns.
        share, ratio: of the rule, see :func:`is_super_neuron`.
        replicates, seed: of the bootstrap over sequences.

    Returns:
        Tables of ``SUPER_NEURONS_SCHEMA`` and ``SURGE_SCHEMA``.
    """
    names = {"model": model, "prompts": prompts}
    norms = _first_token_norms(magnitudes)
    sources = {
        "own": LayeredTable(first_token_neurons, ("sequence", *_OWN)),
        "first": LayeredTable(neuron_moments, ("neuron", *_MOMENTS), tokens="first"),
        "rest": LayeredTable(neuron_moments, ("neuron", *_MOMENTS), tokens="rest"),
        "cosines": LayeredTable(gate_cosines, ("position", "cosine")),
        "weights": LayeredTable(neurons, ("neuron", *_WEIGHTS, "not_applicable")),
    }
    parts: list[dict[str, np.ndarray]] = []
    surges = []
    for layer in sorted(norms):
        if layer < 0:
            continue
        before, after = norms[layer - 1][0], norms[layer][0]
        neuron, surge = _layer(sources, layer, before, after, norms[layer][1], share, ratio, replicates, seed)
        shape = np.shape(neuron["neuron"])
        columns = {**neuron, "layer": layer}
        parts.append({name: np.broadcast_to(np.asarray(value), shape) for name, value in columns.items()})
        surges.append(to_table(SURGE_SCHEMA, **names, layer=[layer], before=before.mean(), after=after.mean(), **surge))
    every = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    change, own_share, number = (every[name].astype(np.float64) for name in ("norm_change", "share", "neuron"))
    largest = np.abs(np.where(np.isnan(change), own_share, change))
    order = np.lexsort((number, every["layer"], -largest))  # NaN last
    rank = np.where(np.isnan(number[order]), np.nan, np.arange(1, len(order) + 1))
    ranked = {name: values[order] for name, values in every.items()}
    return to_table(SUPER_NEURONS_SCHEMA, **names, rank=rank, **ranked), pa.concat_tables(surges)


_OWN = ("activation", "on_output", "on_residual", "output_norm")
_MOMENTS = ("mean_abs", "max_abs")
_WEIGHTS = ("gate_norm", "up_norm", "down_norm", "max_over_mean", "participation_ratio", "dim_1", "dim_2")


def _layer(
    sources: Mapping[str, LayeredTable],
    layer: int,
    before,
    after,
    dominant: int,
    share: float,
    ratio: float,
    replicates: int,
    seed: int,
) -> tuple[dict, dict]:
    """Columns of one layer's neurons, and of its row in the surge table."""
    weights = sources["weights"].rows(layer)
    own = read_layer(sources["own"], layer, axes=("sequence",), columns=_OWN)[1]
    reasons = [weights["not_applicable"][0]]
    if np.isnan(weights["neuron"].astype(np.float64)).any() or not len(own["output_norm"]):
        blank = {name: np.array([None]) for name in SUPER_NEURONS_SCHEMA.names[4:]} | {
            "not_applicable": np.array(reasons, dtype=object)
        }
        nothing = dict.fromkeys(
            ("super_neurons", "without_largest", "largest", "accounted", "accounted_low", "accounted_high")
        )
        return blank, {**nothing, "not_applicable": reasons[0]}
    weight = {name: weights[name][np.argsort(weights["neuron"], kind="stable")] for name in _WEIGHTS}
    activation, on_residual = own["activation"], own["on_residual"]  # (N, f)
    draws = resamples(len(activation), replicates, seed)  # (R, N)
    shares = shares_of_output(activation, own["on_output"], own["output_norm"])
    share_low, share_high = interval(draws @ shares)
    moments = {
        tokens: read_layer(sources[tokens], layer, axes=("neuron",), columns=_MOMENTS)[1]
        for tokens in ("first", "rest")
    }
    first, rest, rest_max = moments["first"]["mean_abs"], moments["rest"]["mean_abs"], moments["rest"]["max_abs"]
    if not len(rest):  # sequences of one token
        rest = rest_max = np.full_like(first, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        activation_ratio = first / rest
    chosen = is_super_neuron(share_low, activation_ratio, share=share, ratio=ratio)
    cosines = {"gate_cosine_first": np.nan, "gate_cosine_rest": np.nan}
    by_position = read_layer(sources["cosines"], layer, axes=("position",), columns=("cosine",))[1]["cosine"]  # (T, f)
    if len(by_position):
        cosines["gate_cosine_first"] = by_position[0]
        cosines["gate_cosine_rest"] = by_position[1:].mean(axis=0) if len(by_position) > 1 else np.nan
    surge: dict = {"super_neurons": int(chosen.sum())}
    change = surge_share = surge_low = surge_high = np.full(len(first), np.nan)
    if on_residual is None:
        reasons.append("a norm after the FFN rescales what its neurons write, so their part of the norm is not defined")
        surge |= dict.fromkeys(("without_largest", "largest", "accounted", "accounted_low", "accounted_high"))
    else:
        without = norm_without(after, activation, on_residual, weight["down_norm"])
        lost = after[:, None] - without  # (N, f)
        change = lost.mean(axis=0)
        added, added_draws = (after - before).mean(), draws @ (after - before)
        largest = int(np.abs(change).argmax())
        accounted = accounted_low = accounted_high = None
        if added > after.mean() / 2:
            surge_share = change / added
            surge_low, surge_high = interval((draws @ lost) / added_draws[:, None])
            accounted, accounted_low, accounted_high = (part[largest] for part in (surge_share, surge_low, surge_high))
        surge |= {
            "without_largest": without[:, largest].mean(),
            "largest": largest,
            "accounted": accounted,
            "accounted_low": accounted_low,
            "accounted_high": accounted_high,
        }
    reason = "; ".join(part for part in reasons if part) or None
    neuron = {
        "neuron": np.arange(len(first)),
        "super_neuron": chosen,
        "share": shares.mean(axis=0),
        "share_low": share_low,
        "share_high": share_high,
        "norm_change": change,
        "surge_share": surge_share,
        "surge_share_low": surge_low,
        "surge_share_high": surge_high,
        "first": first,
        "rest": rest,
        "rest_max": rest_max,
        "activation_ratio": activation_ratio,
        **cosines,
        **weight,
        "gate_norm_ratio": weight["gate_norm"] / np.median(weight["gate_norm"]),
        "up_norm_ratio": weight["up_norm"] / np.median(weight["up_norm"]),
        "dominant_dim": dominant,
        "hits_dominant_dim": (weight["dim_1"] == dominant) | (weight["dim_2"] == dominant),
        "not_applicable": reason,
    }
    return neuron, {**surge, "not_applicable": reason}
