"""Why layers of a model lack a part, by the table in which an extraction notes where it found each."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sinkorigin import tables


@dataclass(frozen=True)
class Layers:
    """Layers of a model, as far as one of their parts goes.

    Attributes:
        numbers: all layers, rising.
        lacking: layer → why it lacks the part, for those that do.
    """

    numbers: list[int]
    lacking: dict[int, str]


def layers_with(architecture: str | Path, part: str) -> Layers:
    """The layers of ``architecture.parquet``, and why some have no such site or matrix."""
    found = pl.DataFrame(tables.read_table(Path(architecture)))
    rows = found.filter(pl.col("part") == part, pl.col("found").is_null())
    return Layers(found["layer"].unique().sort().to_list(), dict(rows.select("layer", "reason").iter_rows()))
