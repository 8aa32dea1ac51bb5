"""The links of the chain in one model, as mediators, and what can be taken from position 0, with its controls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from sinkorigin.interventions.links import AGGREGATION, DIMS, KEY, NEURONS, OUTPUT
from sinkorigin.interventions.mediation import EMBEDDING, Mediator
from sinkorigin.interventions.surge import by_layer, dims_by_layer, from_there_on, starting

By = Literal["zero", "mean", "target", "next"]


@dataclass(frozen=True)
class Structure:
    """What the tables of a model say of its chain.

    Attributes:
        edited: layers that the edits of the chain's beginning edit, rising.
        layers: number of layers.
        attending: layers that have attention.
        neurons: layer of a norm surge → the super neurons that raise the norm there; empty where there is none.
        controls: name of a control → as many other neurons of these layers.
        dims: layer → the dims that these neurons write, in that layer and all above.
        other_dims: as many other dims of these layers.
        width: number of dims of the residual stream.
        reason: why there are no neurons.
    """

    edited: Sequence[int]
    layers: int
    attending: Sequence[int]
    neurons: Mapping[int, Sequence[int]]
    controls: Mapping[str, Mapping[int, Sequence[int]]]
    dims: Mapping[int, Sequence[int]]
    other_dims: Mapping[int, Sequence[int]]
    reason: str | None


@dataclass(frozen=True)
class Removal:
    """What is taken from position 0.

    Attributes:
        mediator: where.
        by: what takes its place: zero; the mean over sequences of what the target has, which is usual after the first token; what the
            target has in the same sequence; what the next sequence of the batch has at position 0.
        control_of: name of the removal that it is held against; None for a treatment.
    """

    mediator: Mediator
    by: By
    control_of: str | None = None

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"{self.mediator.name} by {self.by}"


def structure(
    super_neurons: pl.DataFrame,
    rises: Sequence[int],
    *,
    edited: Sequence[int],
    layers: int,
    attending: Sequence[int],
    width: int,
    seed: int,
) -> Structure:
    """Find the links of the chain.

    Args:
        super_neurons: layer, neuron, super_neuron, norm_change, gate_norm, up_norm, dim_1, dim_2 and their shares, of all neurons.
        rises: layers where the first token's norm surges.
        seed: of the random neurons and dims.
    """
    known = super_neurons.drop_nulls("neuron")
    chosen = starting(known, rises)
    reason = None
    if not chosen:
        reason = (
            "the first token's norm surges in no layer"
            if not rises
            else "no super neuron raises the first token's norm where it surges"
        )
    neurons, written = by_layer(chosen), dims_by_layer(chosen)
    rng = np.random.default_rng(seed)
    others = {
        layer: known.filter((pl.col("layer") == layer) & ~pl.col("super_neuron")).sort("neuron") for layer in neurons
    }
    controls = {
        "random neurons": {
            layer: sorted(rng.choice(others[layer]["neuron"].to_numpy(), len(some), replace=False).tolist())
            for layer, some in neurons.items()
        },
        "neurons of equal norm": {
            layer: _of_equal_norm(
                known.filter(layer=layer, super_neuron=True).filter(pl.col("neuron").is_in(some)), others[layer]
            )
            for layer, some in neurons.items()
        },
    }
    dims = dict(from_there_on(written, range(layers)))
    other_dims = {
        layer: sorted(rng.choice(np.setdiff1d(np.arange(width), some), len(some), replace=False).tolist())
        for layer, some in written.items()
    }
    return Structure(
        edited,
        layers,
        attending,
        neurons,
        controls if neurons else {},
        dims,
        dict(from_there_on(other_dims, range(layers))),
        reason,
    )


def _of_equal_norm(chosen: pl.DataFrame, others: pl.DataFrame) -> list[int]:
    """For each chosen neuron another one whose weights have the most similar norms, each once."""
    names = [name for name in ("gate_norm", "up_norm") if chosen[name].null_count() == 0]
    numbers, places = others["neuron"].to_numpy(), np.log(others.select(names).to_numpy())
    taken: list[int] = []
    for place in np.log(chosen.sort("neuron").select(names).to_numpy()):
        distance = np.linalg.norm(places - place, axis=1)
        distance[np.isin(numbers, taken)] = np.inf
        taken.append(int(numbers[distance.argmin()]))
    return sorted(taken)


def mediators(found: Structure) -> list[Mediator]:
    """The links that an edit's effect can go through, in the order of the chain."""
    later = [layer for layer in found.attending if layer > found.edited[0]]
    links = [
        Mediator(AGGREGATION, "value_aggregation", found.edited),
        Mediator(OUTPUT, "attention_output", found.edited),
    ]
    if found.neurons:
        links.append(Mediator(NEURONS, "ffn_activation", sorted(found.neurons), found.neurons))
        links.append(Mediator(DIMS, "residual", sorted(found.dims), found.dims))
    if later:
        links.append(Mediator(KEY, "key", later))
    return links


def exchanged(found: Structure) -> list[Mediator]:
    """What position 0 and another position exchange."""
    surge = max(found.neurons, default=found.edited[-1])
    later = [layer for layer in found.attending if layer > found.edited[0]]
    return [
        Mediator("embedding", EMBEDDING, [0]),
        Mediator(AGGREGATION, "value_aggregation", found.edited),
        Mediator("FFN output", "ffn_output", range(surge + 1)),
        *([Mediator(KEY, "key", later)] if later else []),
    ]


def removals(found: Structure, *, varied: bool) -> list[Removal]:
    """What is taken from position 0, each treatment before its controls.

    Args:
        varied: whether sequences begin with different tokens; else the aggregation of another one is the same, and no control.
    """
    aggregation = Mediator("aggregation", "value_aggregation", found.edited)
    taken = [Removal(aggregation, "target")]
    if varied:
        taken.append(Removal(aggregation, "next", "aggregation by target"))
    if not found.neurons:
        return taken
    layers = sorted(found.neurons)
    ways: tuple[By, ...] = ("zero", "mean")
    for by in ways:
        taken.append(Removal(Mediator(NEURONS, "ffn_activation", layers, found.neurons), by))
        taken += [
            Removal(Mediator(name, "ffn_activation", layers, numbers), by, f"{NEURONS} by {by}")
            for name, numbers in found.controls.items()
        ]
    for by in ways:
        taken.append(Removal(Mediator(DIMS, "residual", sorted(found.dims), found.dims), by))
        taken.append(
            Removal(
                Mediator("other dims", "residual", sorted(found.other_dims), found.other_dims),
                by,
                f"{DIMS} by {by}",
            )
        )
    return taken
