"""Where a model has its sink: the one definition that every claim about a sink goes by."""

from dataclasses import dataclass

import polars as pl

from sinkorigin.claims.verdicts import StudyTables
from sinkorigin.statistics.uniform import SINK_FACTOR

FOLLOWS = 1  # layers after a rise of the norm in which the sink's rise still follows it: a layer's sink reads the residual before it
NO_SINK = f"position 0 is no sink: no layer's sink mass is {SINK_FACTOR:g} times what uniform attention gives, with its whole interval"


@dataclass(frozen=True)
class SinkLayer:
    """A layer in which position 0 is a sink.

    Attributes:
        layer: its number.
        mass: its sink mass.
        uniform: what uniform attention would give.
    """

    layer: int
    mass: float
    uniform: float


def sink_layers(tables: StudyTables) -> list[SinkLayer]:
    """Layers in which position 0 is a sink, the strongest first: those whose mass exceeds ``SINK_FACTOR`` times the uniform one, with
    the lower end of its interval.
    """
    mass = tables.read("sink_mass")
    if mass is None:
        return []
    rows = mass.filter(pl.col("mass_low") > SINK_FACTOR * pl.col("uniform")).sort("mass", descending=True)
    return [SinkLayer(row["layer"], row["mass"], row["uniform"]) for row in rows.to_dicts()]


def rises(tables: StudyTables, name: str) -> list[int]:
    """Layers of the rises of ``norm_changes`` or ``sink_changes`` that pass their threshold with the whole interval."""
    changes = tables.read(name)
    if changes is None:
        return []
    sure = changes.filter((pl.col("kind") == "rise") & (pl.col("change_low") >= pl.col("threshold")))
    return sure["layer"].sort().to_list()


def followed(norm_rises: list[int], sink_rises: list[int]) -> list[int]:
    """Rises of the norm that a rise of the sink mass follows within ``FOLLOWS`` layers."""
    return [layer for layer in norm_rises if any(0 <= rise - layer <= FOLLOWS for rise in sink_rises)]
