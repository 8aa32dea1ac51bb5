"""V4, value drain: norms of the value vectors by layer and position, that of position 0 against the others."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.grids import from_rows, read_layers, to_table
from sinkorigin.statistics.layer_permutations import layer_orders
from sinkorigin.statistics.missing_parts import layers_with
from sinkorigin.statistics.rank_correlation import permuted_p, spearman
from sinkorigin.statistics.shared_columns import KEYS, LAYER_KEYS, NOT_APPLICABLE, POSITION, estimate
from sinkorigin.statistics.sink_masses import sink_masses

VALUE_NORMS_SCHEMA = tables.schema(
    **LAYER_KEYS,
    position=POSITION,
    **estimate("norm", "mean over sequences and key/value heads of the value vector's Euclidean norm"),
)

VALUE_DRAIN_SCHEMA = tables.schema(
    **LAYER_KEYS,
    head=(pa.int32(), "key/value head; null: all heads of the layer"),
    **estimate("first", "mean over sequences (and heads) of the norm of the value vector at position 0"),
    **estimate("rest", "mean over sequences, positions >= 1 (and heads) of the norm"),
    **estimate("ratio", "first / rest; below 1 where the value of position 0 is drained"),
    **estimate("mass", "mean sink mass of the query heads that read these values"),
    not_applicable=NOT_APPLICABLE,
)

VALUE_DRAIN_AND_SINK_SCHEMA = tables.schema(
    **KEYS,
    threshold=(pa.float64(), "sink mass above which a layer has a sink"),
    sink_layers=(pa.int32(), "number of layers that have one"),
    other_layers=(pa.int32(), "number of the other layers with attention"),
    **estimate("with_sink", "mean over the layers with a sink of their ratio; null without such a layer"),
    **estimate("without_sink", "the same over the other layers"),
    **estimate("difference", "with_sink - without_sink; below 0 where values are drained in the layers with a sink"),
    heads=(pa.int32(), "number of key/value heads of all layers"),
    **estimate("correlation", "Spearman's rank correlation of ratio and mass over these heads; null for fewer than 3"),
    p=(
        pa.float64(),
        "two-sided p-value of the correlation if which heads are drained had nothing to do with which have the sink: from permutations of "
        "whole layers; null as the correlation",
    ),
    not_applicable=NOT_APPLICABLE,
)

TABLES = {
    "value_norms": VALUE_NORMS_SCHEMA,
    "value_drain": VALUE_DRAIN_SCHEMA,
    "value_drain_and_sink": VALUE_DRAIN_AND_SINK_SCHEMA,
}

_FEWEST_HEADS = 3  # of which ranks can be compared: two always have a correlation of 1 or −1


def compute(
    inputs: Mapping[str, str], *, model: str, prompts: str, onset_mass: float, resampling: Resampling
) -> dict[str, pa.Table]:
    """‖v_k‖ by layer and position, and ‖v_0‖ / mean ‖v_k‖ over k >= 1 (Guo et al. 2024, "Active-Dormant Attention Heads":
    sinks go together with value vectors of small norm).

    The values are those that enter the aggregation, so that grouped queries share a head. A ratio is one of means over
    sequences. Where every sequence begins with the same token ‖v_0‖ is a measurement of that token, and in the first layer it has
    no sampling error.

    Args:
        inputs: paths of ``value_magnitudes`` (sequence, layer, head, norm by position), ``scores`` and ``architecture``.
        model, prompts: names, for the first columns.
        onset_mass: a layer whose sink mass is above this has a sink.
        resampling: how intervals resample the sequences.

    Returns:
        ``value_norms`` (L·T rows of ``VALUE_NORMS_SCHEMA``), ``value_drain`` (L·(H_kv + 1) of ``VALUE_DRAIN_SCHEMA``, and one for each layer
        without attention) and ``value_drain_and_sink`` (one of ``VALUE_DRAIN_AND_SINK_SCHEMA``). Norms are in the unit of the values.
    """
    names = {"model": model, "prompts": prompts}
    masses = sink_masses(inputs["scores"])
    norms, drains = [], []
    layer_ratios, layer_masses, head_ratios, head_masses, depth = [], [], [], [], []
    for layer, points, columns in read_layers(inputs["value_magnitudes"], axes=("sequence", "head"), columns=("norm",)):
        norm, mass = columns["norm"], masses[layer]  # (N, H_kv, T), (N, H)
        by_position = resampling.means(norm.mean(axis=1))  # (1 + R, T)
        norms.append(
            to_table(
                VALUE_NORMS_SCHEMA,
                **names,
                layer=layer,
                position=np.arange(norm.shape[2]),
                **resampling.with_interval("norm", by_position),
            )
        )
        heads = norm.shape[1]
        read_by = mass.reshape(len(mass), heads, -1).mean(axis=2)  # (N, H_kv)
        later = norm[:, :, 1:].mean(axis=2) if norm.shape[2] > 1 else np.full(norm.shape[:2], np.nan)
        found = {}
        for name, values in (("first", norm[:, :, 0]), ("rest", later), ("mass", read_by)):
            samples = resampling.means(values)  # (1 + R, H_kv)
            found[name] = np.concatenate([samples, samples.mean(axis=1, keepdims=True)], axis=1)  # all heads last
        with np.errstate(invalid="ignore", divide="ignore"):
            found["ratio"] = found["first"] / found["rest"]
        intervals: dict[str, np.ndarray] = {}
        for name, samples in found.items():
            intervals |= resampling.with_interval(name, samples)
        drains.append(
            to_table(
                VALUE_DRAIN_SCHEMA,
                **names,
                layer=layer,
                head=np.append(points["head"].astype(np.float64), np.nan),
                **intervals,
                not_applicable=None,
            )
        )
        depth.append(np.full(heads, layer))
        head_ratios.append(found["ratio"][:, :-1])
        head_masses.append(found["mass"][:, :-1])
        layer_ratios.append(found["ratio"][:, -1])
        layer_masses.append(found["mass"][:, -1])
    lacking = layers_with(inputs["architecture"], "attention").lacking
    empty = dict.fromkeys(VALUE_DRAIN_SCHEMA.names)
    reasons = [empty | names | {"layer": layer, "not_applicable": why} for layer, why in sorted(lacking.items())]
    summary = _with_the_sink(
        np.stack(layer_ratios, axis=1),
        np.stack(layer_masses, axis=1),
        np.concatenate(head_ratios, axis=1),
        np.concatenate(head_masses, axis=1),
        np.concatenate(depth),
        onset_mass,
        resampling,
    )
    return {
        "value_norms": pa.concat_tables(norms),
        "value_drain": pa.concat_tables([*drains, from_rows(VALUE_DRAIN_SCHEMA, reasons)]),
        "value_drain_and_sink": from_rows(VALUE_DRAIN_AND_SINK_SCHEMA, [names | summary]),
    }


def _with_the_sink(
    layer_ratio: np.ndarray,
    layer_mass: np.ndarray,
    head_ratio: np.ndarray,
    head_mass: np.ndarray,
    head_layer: np.ndarray,
    threshold: float,
    resampling: Resampling,
) -> dict:
    """Columns that say whether values are drained where the sink is.

    Args:
        layer_ratio, layer_mass: (1 + R, L) ratio and sink mass of each layer, of the data and of bootstrap replicates. Which layers
            have a sink is decided by the data.
        head_ratio, head_mass: (1 + R, heads of all layers).
        head_layer: (heads,) layer of each, rising.
        threshold: of the mass.
        resampling: of the replicates; its seed is also that of the permutations.
    """
    has_sink = layer_mass[0] > threshold
    heads = head_ratio.shape[1]
    groups = {
        name: layer_ratio[:, chosen].mean(axis=1) if chosen.any() else np.full(len(layer_ratio), np.nan)
        for name, chosen in (("with_sink", has_sink), ("without_sink", ~has_sink))
    }
    enough = heads >= _FEWEST_HEADS
    samples = {
        **groups,
        "difference": groups["with_sink"] - groups["without_sink"],
        "correlation": spearman(head_ratio, head_mass) if enough else np.full(len(head_ratio), np.nan),
    }
    reasons = [
        f"no layer has a sink mass above {threshold:g}" if not has_sink.any() else "",
        f"every layer has a sink mass above {threshold:g}" if has_sink.all() else "",
        "" if enough else f"ranks of fewer than {_FEWEST_HEADS} heads cannot be compared",
    ]
    intervals = {
        key: value for name, part in samples.items() for key, value in resampling.with_interval(name, part).items()
    }
    return {
        "threshold": threshold,
        "sink_layers": int(has_sink.sum()),
        "other_layers": int((~has_sink).sum()),
        "heads": heads,
        "p": permuted_p(head_ratio[0], head_mass[0], layer_orders(head_layer, resampling.seed)) if enough else None,
        **intervals,
        "not_applicable": "; ".join(filter(None, reasons)) or None,
    }
