"""What a study asks for, point by point: one kind of edit at one set of layers and positions with one strength."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions.edits import (
    DimReplacement,
    Edit,
    Mask,
    MeanShift,
    NeuronAblation,
    NormControl,
    RandomDirections,
    Recombination,
    ShuffledDeviations,
    ValueAveraging,
    VarianceAmplification,
)
from sinkorigin.tables import read_table


@dataclass(frozen=True)
class Point:
    """One edit of one model.

    Attributes:
        kind: as in the config.
        layers, positions: where; all positions are edited at once.
        strength: λ, or the number of vectors of value_averaging; 1 where the kind has none.
        mean_factor: α of mean_and_deviation, which is what the mean is multiplied with; else None.
        site: the edited site.
        to: dominating_dims: "mean" or "zero"; else None.
        by_layer: layer → its λ (variance_matching), neurons or dims.
    """

    kind: str
    layers: tuple[int, ...]
    positions: tuple[int, ...]
    strength: float = 1.0
    mean_factor: float | None = None
    site: str = "value_aggregation"
    to: str | None = None
    by_layer: Mapping[int, Any] = field(default_factory=dict)

    def edit(self, seed: int = 0) -> Edit:
        """The edit; ``seed`` is that of random directions."""
        place: dict[str, Any] = {"layers": self.layers, "positions": self.positions}
        at = {**place, "site": self.site}
        strong = {**at, "strength": self.strength}
        match self.kind:
            case "mask":
                return Mask(**place)
            case "variance_amplification":
                return VarianceAmplification(**strong)
            case "norm_control":
                return NormControl(**strong)
            case "mean_and_deviation":
                return Recombination(**strong, mean_factor=self.mean_factor)
            case "random_directions":
                return RandomDirections(**strong, seed=seed)
            case "mean_shift":
                return MeanShift(**strong, seed=seed)
            case "shuffled_deviations":
                return ShuffledDeviations(**strong)
            case "variance_matching":
                return VarianceAmplification(**at, strength=dict(self.by_layer))
            case "value_averaging":
                return ValueAveraging(**at, count=int(self.strength))
            case "super_neuron_ablation":
                return NeuronAblation(neurons=self.by_layer, positions=self.positions)
            case "dominating_dims":
                return DimReplacement(dims=self.by_layer, positions=self.positions, to=self.to)
        raise ValueError(f"unknown kind {self.kind!r}")

    @property
    def digest(self) -> str:
        """A hash of everything that this point is."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def points_of(entry: Mapping, strength: float, facts: Mapping[int, Any] | None = None) -> list[Point]:
    """The points of a config entry at one of its strengths, in the order of its positions and mean factors.

    Args:
        entry: kind, layers, positions, and site, mean_factors and to where the kind has them.
        facts: what a statistic says by layer, for the kinds that need one; its layers are then the edited ones.
    """
    return [
        Point(
            kind=entry["kind"],
            layers=tuple(sorted(facts if facts is not None else entry["layers"])),
            positions=tuple(positions) if isinstance(positions, list | tuple) else (positions,),
            strength=strength,
            mean_factor=factor,
            site=entry.get("site") or "value_aggregation",
            to=(entry.get("to") or "mean") if entry["kind"] == "dominating_dims" else None,
            by_layer=facts or {},
        )
        for factor in entry.get("mean_factors") or [None]
        for positions in entry["positions"]
    ]


def facts_of(entry: Mapping, where: str, **found: str | Path) -> dict[int, Any] | None:
    """What the statistics say by layer, for the kinds of edit that need it: λ, neurons or dims.

    Args:
        entry: of the config.
        where: name of the intervention, for messages.
        **found: paths of the tables ``variance``, ``super_neurons`` or ``disparity``.
    """
    first = min(k for own in entry["positions"] for k in (own if isinstance(own, list | tuple) else [own]))
    match entry["kind"]:
        case "variance_matching":
            return matching_strengths(found["variance"], entry["layers"], first, where)
        case "super_neuron_ablation":
            return super_neurons_by_layer(found["super_neurons"], entry["layers"], where)
        case "dominating_dims":
            return dominating_dims(found["disparity"], entry["layers"], first, where)
    return None


def matching_strengths(variance: str | Path, layers: Sequence[int], position: int, where: str) -> dict[int, Any]:
    """λ by layer that brings the variance at ``position`` to the mean of the later positions': sqrt(later / own).

    Both are the unedited model's. In the first edited layer the match is exact; the edit there changes what the next hold.

    Args:
        variance: the table of V1 (statistics/variance.parquet).
        where: name of the intervention, for messages.

    Raises:
        SinkoriginError: a layer's variance is not defined (one first token in every sequence, for instance).
    """
    rows = pl.from_arrow(read_table(variance, ["site", "layer", "position", "variance"]))
    assert isinstance(rows, pl.DataFrame)
    rows = rows.filter((pl.col("site") == "value_aggregation") & (pl.col("position") >= position))
    strengths: dict[int, Any] = {}
    for layer in layers:
        own = rows.filter(pl.col("layer") == layer)
        here = own.filter(pl.col("position") == position)["variance"]
        later = own.filter(pl.col("position") > position)["variance"].mean()
        if not len(here) or here[0] is None or not isinstance(later, float):
            raise SinkoriginError(
                f"intervention {where}: the variance at position {position} of layer {layer} is not defined on these "
                "prompts, so it cannot be matched; choose prompts with varied tokens there, or another layer"
            )
        strengths[layer] = float((later / here[0]) ** 0.5)
    return strengths


def super_neurons_by_layer(super_neurons: str | Path, layers: Sequence[int] | None, where: str) -> dict[int, Any]:
    """Layer → its super neurons by the rule, in all layers or some.

    Raises:
        SinkoriginError: there is none.
    """
    rows = pl.from_arrow(read_table(super_neurons, ["layer", "neuron", "super_neuron", "model"]))
    assert isinstance(rows, pl.DataFrame)
    found = rows.filter(pl.col("super_neuron").fill_null(value=False))
    if layers is not None:
        found = found.filter(pl.col("layer").is_in(list(layers)))
    if not len(found):
        place = "" if layers is None else f" in layers {', '.join(map(str, layers))}"
        raise SinkoriginError(
            f"intervention {where}: no super neuron was found{place} in model {rows['model'][0]}, see {super_neurons}; "
            "take the model out of this intervention, or lower statistics.super_neuron_share"
        )
    return {
        layer: sorted(found.filter(pl.col("layer") == layer)["neuron"].to_list())
        for layer in sorted(found["layer"].unique().to_list())
    }


def dominating_dims(disparity: str | Path, layers: Sequence[int], position: int, where: str) -> dict[int, Any]:
    """Layer → the dim of the largest magnitude in most sequences at ``position`` of the residual leaving the layer.

    Raises:
        SinkoriginError: the table has no such layer.
    """
    rows = pl.from_arrow(read_table(disparity, ["site", "layer", "position", "dominant_dim"]))
    assert isinstance(rows, pl.DataFrame)
    rows = rows.filter((pl.col("site") == "residual") & (pl.col("position") == position))
    dims = dict(rows.select("layer", "dominant_dim").iter_rows())
    for layer in layers:
        if dims.get(layer) is None:
            raise SinkoriginError(
                f"intervention {where}: {disparity} has no dominating dim of layer {layer}; choose one of its layers"
            )
    return {layer: [dims[layer]] for layer in layers}
