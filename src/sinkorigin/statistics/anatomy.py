"""The anatomy of a model's sink: what the statistics of its prompt sets say of it, one row a set, and the row in words."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.interventions.kind import SHOWN_POSITION, SHOWN_STRENGTH
from sinkorigin.interventions.layers import main_layers
from sinkorigin.statistics.grids import from_rows
from sinkorigin.statistics.shared_columns import KEYS, NOT_APPLICABLE, estimate

EDITS = {"mask": "mask", "amplification": "variance_amplification"}  # prefix of columns → kind of intervention

_LAYERS = pa.list_(pa.int32())
_SHARES = pa.list_(pa.float64())


def _conversion(prefix: str) -> dict[str, tuple[pa.DataType, str]]:
    """Columns of how many sequences an edit converts."""
    return {
        f"{prefix}_layers": (_LAYERS, "layers that are edited; null where there is no such edit on these prompts"),
        f"{prefix}_target": (pa.int32(), f"edited position: of several, the one nearest to {SHOWN_POSITION}"),
        f"{prefix}_strength": (
            pa.float64(),
            f"strength λ: of several, the one nearest to {SHOWN_STRENGTH:g}; 1 for the mask",
        ),
        f"{prefix}_sequences": (pa.int32(), "number of sequences"),
        f"{prefix}_converted": (pa.int32(), "sequences whose target became a sink, see the table conversions"),
        f"{prefix}_share": (pa.float64(), "share of the sequences whose target became a sink"),
        f"{prefix}_share_low": (pa.float64(), "lower end of its exact binomial 95 % interval"),
        f"{prefix}_share_high": (pa.float64(), "upper end of it"),
    }


SCHEMA = tables.schema(
    **KEYS,
    first_token=(pa.string(), "what stands at position 0: drawn (it varies), bos, or fixed (one ordinary token)"),
    layers=(pa.int32(), "number of layers"),
    onset=(pa.int32(), "first layer whose sink mass is above onset_mass; null if none"),
    onset_low=(pa.int32(), "2.5th percentile over bootstrap replicates; none counts as the number of layers"),
    onset_high=(pa.int32(), "97.5th percentile over bootstrap replicates; none counts as the number of layers"),
    onset_mass=(pa.float64(), "the threshold"),
    mean_mass=(pa.float64(), "sink mass of position 0, mean over layers"),
    **estimate("mass", "sink mass in the layer where it is largest"),
    mass_layer=(pa.int32(), "that layer"),
    uniform=(pa.float64(), "sink mass that uniform attention would give"),
    top_position=(
        pa.int32(),
        "position of the first half with the highest score over q > k, mean over layers and heads",
    ),
    top_score=(pa.float64(), "that score"),
    norm_ratio=(pa.float64(), "norm of the first token / mean of the others, in the layer where that is largest"),
    norm_ratio_layer=(pa.int32(), "that layer"),
    surges=(_LAYERS, "layers at which the first token's norm rises against the others'"),
    surge_factors=(_SHARES, "factor of each of these rises"),
    super_neuron_layers=(_LAYERS, "layer of each super neuron, those that carry most of the norm first"),
    super_neurons=(_LAYERS, "number of each in its layer"),
    super_neuron_shares=(_SHARES, "share of the first token's FFN output that each carries"),
    no_neurons=(pa.string(), "why no layer has neurons to show; null where one has"),
    dominating_dims=(
        _LAYERS,
        "dims that dominate the first token's residual from the first surge on, those of most layers first",
    ),
    dominating_dim_layers=(_LAYERS, "number of these layers in which each does"),
    dominance_ratio=(pa.float64(), "dominance ratio of the first token's residual, in the layer where it is largest"),
    **_conversion("mask"),
    **_conversion("amplification"),
    not_applicable=NOT_APPLICABLE,
)

TABLES = {"anatomy": SCHEMA}

# tables of each prompt set → the columns that are read: neurons and positions of all layers make many rows
READS = {
    "sink_mass": ("layer", "mass", "mass_low", "mass_high", "uniform"),
    "sink_onset": ("layer", "layer_low", "layer_high", "threshold"),
    "sinks": ("position", "score_excluding_self"),
    "norm_ratio": ("layer", "ratio"),
    "norm_changes": ("kind", "layer", "change"),
    "super_neurons": ("layer", "neuron", "rank", "super_neuron", "share", "not_applicable"),
    "disparity": ("site", "layer", "position", "dominance_ratio", "dominant_dim"),
}

Frames = Mapping[str, pl.DataFrame]


def compute(
    inputs: Mapping[str, Sequence[str]], *, model: str, prompts: Sequence[str], first_tokens: Sequence[str]
) -> dict[str, pa.Table]:
    """What the tables of one model say, on each of its prompt sets.

    Args:
        inputs: paths of the tables of ``READS``, one for each prompt set, and of ``conversions``, for those on which the model is
            edited.
        model: its name.
        prompts: names of the prompt sets, in the order of the tables.
        first_tokens: condition of each: drawn, bos or fixed.

    Returns:
        ``anatomy``: a row of ``SCHEMA`` for each prompt set. Where several edits of a kind are there, it shows the one that
        :func:`main_edit` takes.
    """
    edits = [pl.DataFrame(tables.read_table(path)) for path in inputs.get("conversions", ())]
    rows = []
    for number, (name, first_token) in enumerate(zip(prompts, first_tokens, strict=True)):
        row: dict[str, Any] = dict.fromkeys(SCHEMA.names)
        row |= {"model": model, "prompts": name, "first_token": first_token}
        paths = {table: inputs[table][number] for table in READS}
        reason = next(filter(None, map(tables.not_applicable, paths.values())), None)
        if reason is None:
            row |= _structure({table: pl.DataFrame(tables.read_table(paths[table], READS[table])) for table in READS})
            for prefix, kind in EDITS.items():
                here = [table.filter(prompts=name, kind=kind) for table in edits if not table.is_empty()]
                row |= _converted(prefix, [table for table in here if not table.is_empty()])
        rows.append(row | {"not_applicable": reason})
    return {"anatomy": from_rows(SCHEMA, rows)}


def _structure(found: Frames) -> dict[str, Any]:
    """Columns on the unedited model, of its tables on one prompt set."""
    mass, onset = found["sink_mass"], found["sink_onset"].row(0, named=True)
    largest = mass.sort("mass", descending=True, nulls_last=True).row(0, named=True)
    by_position = found["sinks"].group_by("position").agg(pl.col("score_excluding_self").mean()).sort("position")
    top = by_position.head(by_position.height // 2 + 1).sort("score_excluding_self", descending=True, nulls_last=True)
    ratio = found["norm_ratio"].sort("ratio", descending=True, nulls_last=True).row(0, named=True)
    rises = found["norm_changes"].filter(kind="rise").sort("layer")
    ranked = found["super_neurons"]
    neurons = ranked.filter(super_neuron=True).sort("rank")
    return {
        "layers": mass.height,
        "onset": onset["layer"], "onset_low": onset["layer_low"], "onset_high": onset["layer_high"],
        "onset_mass": onset["threshold"],
        "mean_mass": mass["mass"].mean(), "mass_layer": largest["layer"],
        **{name: largest[name] for name in ("mass", "mass_low", "mass_high", "uniform")},
        "top_position": top["position"][0], "top_score": top["score_excluding_self"][0],
        "norm_ratio": ratio["ratio"], "norm_ratio_layer": ratio["layer"],
        "surges": rises["layer"].to_list(), "surge_factors": rises["change"].to_list(),
        "super_neuron_layers": neurons["layer"].to_list(), "super_neurons": neurons["neuron"].to_list(),
        "super_neuron_shares": neurons["share"].to_list(),
        "no_neurons": ranked["not_applicable"][0] if ranked["neuron"].is_null().all() else None,
        **_dominating(found["disparity"], min(rises["layer"].to_list(), default=0)),
    }  # fmt: skip


def _dominating(disparity: pl.DataFrame, start: int) -> dict[str, Any]:
    """Dims that dominate the residual of position 0 in the layers from ``start`` on."""
    first = disparity.filter(site="residual", position=0)
    dims = first.filter(pl.col("layer") >= start)["dominant_dim"].value_counts(sort=False)
    dims = dims.sort("count", "dominant_dim", descending=[True, False])
    return {
        "dominating_dims": dims["dominant_dim"].to_list(),
        "dominating_dim_layers": dims["count"].to_list(),
        "dominance_ratio": first.filter(pl.col("layer") >= 0)["dominance_ratio"].max(),
    }


def main_edit(conversions: pl.DataFrame) -> dict[str, Any]:
    """The edit that stands for all edits of its kind.

    It is an edit of the value aggregation, where the kind has a site, at one position, in the early layers (see
    :func:`sinkorigin.interventions.layers.main_layers`); of several such interventions, the one with most positions and
    strengths; and of these, the position nearest to ``SHOWN_POSITION`` and the strength nearest to ``SHOWN_STRENGTH``.

    Args:
        conversions: rows of ``conversions.SCHEMA``, one or more.
    """
    at_heads = conversions.filter(site="value_aggregation")
    rows = (conversions if at_heads.is_empty() else at_heads).to_dicts()
    rows = [row for row in rows if len(row["positions"]) == 1] or rows
    early = main_layers([(row.get("layers_rule"), row["layers"]) for row in rows])
    rows = [row for row in rows if row["layers"] == early]
    names = [row["intervention"] for row in rows]
    name = min(set(names), key=lambda one: (-names.count(one), one))
    rows = [row for row in rows if row["intervention"] == name]
    return min(
        rows,
        key=lambda row: (
            abs(row["target"] - SHOWN_POSITION),
            abs(math.log((row["strength"] or 1) / SHOWN_STRENGTH)),
            row["target"],
        ),
    )


def _converted(prefix: str, conversions: Sequence[pl.DataFrame]) -> dict[str, Any]:
    """Columns of one kind of edit; none where the model is not edited so."""
    if not conversions:
        return {}
    edit = main_edit(pl.concat(conversions))
    shown = ("layers", "target", "strength", "sequences", "converted", "share", "share_low", "share_high")
    return {f"{prefix}_{name}": edit[name] for name in shown}


# ---- in words

CONDITIONS = {"drawn": "drawn", "bos": "BOS", "fixed": "one fixed token"}  # as the card calls them


def main_row(anatomy: pl.DataFrame, prompts: str | None = None) -> dict[str, Any]:
    """The row of a prompt set; without one, that of the card: of the first with varied first tokens, else the first applicable."""
    if prompts is not None:
        return anatomy.filter(prompts=prompts).row(0, named=True)
    known = [row for row in anatomy.to_dicts() if row["not_applicable"] is None]
    drawn = [row for row in known if row["first_token"] == "drawn"]
    return next(iter([*drawn, *known, *anatomy.to_dicts()]))


def facts(anatomy: pl.DataFrame) -> dict[str, str]:
    """A model's rows of ``SCHEMA`` in words: what it is about → one line."""
    row = main_row(anatomy)
    if row["not_applicable"] is not None:
        return {"not applicable": row["not_applicable"]}
    found = {
        "sink": _sink(row),
        "norm of the first token": _norm(row),
        "super neurons": _super_neurons(row),
        "dominating dims": _dims(row),
        "sink by first token": _by_first_token(anatomy),
    }
    for prefix, words in (("mask", "attending to itself only"), ("amplification", "amplified variance")):
        if row[f"{prefix}_sequences"] is not None:
            found[words] = _conversion_words(row, prefix)
    return found


def _sink(row: Mapping[str, Any]) -> str:
    peak = f"mass up to {row['mass']:.2f}, in layer {row['mass_layer']} (uniform attention: {row['uniform']:.2f})"
    if row["onset"] is None:
        return f"none begins (no layer above {row['onset_mass']:g}); {peak}"
    ends = "" if row["onset_low"] is None else f" ({row['onset_low']} to {row['onset_high']})"
    return f"begins at layer {row['onset']}{ends} of {row['layers']}; {peak}"


def _norm(row: Mapping[str, Any]) -> str:
    peak = f"up to {row['norm_ratio']:.3g} times the others', in layer {row['norm_ratio_layer']}"
    if not row["surges"]:
        return f"no surge; {peak}"
    return f"surges at layer{'s' if len(row['surges']) > 1 else ''} {', '.join(map(str, row['surges']))}; {peak}"


def _super_neurons(row: Mapping[str, Any]) -> str:
    names = zip(row["super_neuron_layers"], row["super_neurons"], row["super_neuron_shares"], strict=True)
    named = [f"{layer}.{neuron} ({share:.0%})" for layer, neuron, share in names]
    more = f" and {len(named) - 4} more" if len(named) > 4 else ""
    return (", ".join(named[:4]) + more) or row["no_neurons"] or "none"


def _dims(row: Mapping[str, Any]) -> str:
    dims = zip(row["dominating_dims"], row["dominating_dim_layers"], strict=True)
    named = [f"{dim} (in {layers} layer{'s' if layers > 1 else ''})" for dim, layers in dims]
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return f"{', '.join(named[:3])}{more}; dominance ratio up to {row['dominance_ratio']:.3g}"


def _by_first_token(anatomy: pl.DataFrame) -> str:
    """Mean sink mass under each condition, of the first prompt set that has it."""
    parts = []
    for condition, words in CONDITIONS.items():
        rows = anatomy.filter(first_token=condition).to_dicts()
        if not rows:
            continue
        row = rows[0]
        if row["not_applicable"] is not None:
            parts.append(f"{words}: {row['not_applicable']}")
            continue
        where = "" if row["top_position"] == 0 else f", most at position {row['top_position']}"
        parts.append(f"{words} {row['mean_mass']:.2f}{where}")
    return f"mean mass {'; '.join(parts)}"


def _conversion_words(row: Mapping[str, Any], prefix: str) -> str:
    strength = row[f"{prefix}_strength"]
    how = "" if prefix == "mask" else f" by λ = {strength:g}"
    share, low, high = (row[f"{prefix}_share{end}"] for end in ("", "_low", "_high"))
    ends = "" if low is None else f", {low:.0%} to {high:.0%}"
    return (
        f"position {row[f'{prefix}_target']}{how} becomes a sink in {row[f'{prefix}_converted']} of {row[f'{prefix}_sequences']} "
        f"sequences ({share:.0%}{ends})"
    )
