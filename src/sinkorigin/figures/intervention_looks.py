"""How the interventions look and are called in every figure that shows them, and which of several alike is shown."""

from typing import Any

import polars as pl
from matplotlib.lines import Line2D

from sinkorigin.figures import style

MASK, AMPLIFICATION, NORM = "mask", "variance_amplification", "norm_control"
LOOKS: dict[str, dict[str, Any]] = {  # a kind keeps its colour whatever else a study runs
    AMPLIFICATION: {"color": style.PALETTE[0], "marker": "o"},
    MASK: {"color": style.PALETTE[2], "marker": ""},
    "shuffled_deviations": {"color": style.PALETTE[9], "marker": "D"},
    "random_directions": {"color": style.PALETTE[4], "marker": "^"},
    "mean_shift": {"color": style.PALETTE[5], "marker": "v"},
    NORM: {"color": style.PALETTE[3], "marker": "s"},
}
UNEDITED: dict[str, Any] = {"color": style.REFERENCE, "linestyle": "--", "linewidth": 1.2}
SINK = "●"  # in a cell of a heat map
UNIFORM: dict[str, Any] = {"color": style.REFERENCE, "linestyle": ":", "linewidth": 1.4}


def first_layer(layers: str) -> int:
    """The first of layers written as ``10-13`` or ``2,11``."""
    return int(layers.replace("-", ",").split(",")[0])


def layers_text(layers: str) -> str:
    """``0-3`` as ``layers 0–3``."""
    word = "layers" if any(mark in layers for mark in "-,") else "layer"
    return f"{word} {layers.replace('-', '–').replace(',', ', ')}"


def place_text(positions: str, target: int) -> str:
    """The target, with the positions that are edited together with it."""
    others = [position for position in positions.split(",") if int(position) != target]
    return f"position {target}" + (f" (with {', '.join(others)})" if others else "")


def sink_handle() -> Line2D:
    """The legend's entry for the sign in the cells."""
    text = "a sink is made: score above uniform and above unedited, among all comparisons"
    return style.line_handle(text, color="0.1", marker="o", linestyle="", markersize=5)


def one_of_each(edits: pl.DataFrame) -> pl.DataFrame:
    """Rows of one intervention for each model, prompts, kind, layers and positions.

    Where there are several: one that edits before W_O, and of these the one with the most strengths.

    Args:
        edits: rows of interventions.parquet or intervention_layers.parquet, without the baseline.
    """
    place = ["model", "prompts", "kind", "layers", "positions"]
    chosen = (
        edits.group_by([*place, "site", "intervention"], maintain_order=True)
        .agg(pl.col("strength").n_unique().alias("strengths"))
        .sort(pl.col("site") == "attention_output", -pl.col("strengths").cast(pl.Int64), maintain_order=True)
        .unique(place, keep="first", maintain_order=True)
    )
    return edits.join(chosen, on=[*place, "site", "intervention"], how="semi", maintain_order="left")
