"""Position against token: sink mass by layer under each condition of the first token (A1)."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sinkorigin.figures import style

# condition → what the legend says, and the look of its line
CONDITIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "drawn": ("first token drawn, another in each sequence", {"color": style.PALETTE[0], "marker": "o"}),
    "bos": (
        "BOS in every sequence",
        {"color": style.PALETTE[1], "marker": "s", "linestyle": style.DASHES[1]},
    ),
    "fixed": (
        "one ordinary token in every sequence",
        {"color": style.PALETTE[2], "marker": "^", "linestyle": style.DASHES[2]},
    ),
}
UNIFORM: dict[str, Any] = {"color": style.REFERENCE, "linestyle": "--", "linewidth": 1.0}


@style.styled
def draw(*, first_positions: pl.DataFrame, labels: dict[str, str], groups: Sequence[Mapping[str, str]]) -> Figure:
    """One column a model and group of prompt sets: mass of position 0 above, the largest of positions 1 to 3 below.

    Args:
        groups: condition → prompt set, for sets that differ in their first token alone.
    """
    read = set(style.columns_of(first_positions, labels))
    columns = [
        (model, number)
        for model in style.models_of(first_positions, labels)
        for number, group in enumerate(groups)
        if any((model, prompts) in read for prompts in group.values())
    ]
    figure, axes = style.panels(columns, rows=2, share_x=True, height=1.4)
    for (model, number), (above, below) in axes.items():
        group = groups[number]
        rows = first_positions.filter((pl.col("model") == model) & pl.col("prompts").is_in(list(group.values())))
        first, later = rows.filter(pl.col("position") == 0), rows.filter(pl.col("position") > 0)
        _mass(above, first, max(first["uniform"].to_list()))
        _mass(below, _largest(later), max(later["uniform"].to_list()))
        style.title(below, below=f"position of the largest: {_peaks(later)}")
        missing = ", ".join(condition for condition, prompts in group.items() if (model, prompts) not in read)
        name = style.as_words(next(iter(group.values())))
        style.title(above, labels[model], f"{name}; not applicable: {missing}" if missing else name)
        below.set_xlabel("layer")
        style.whole_x(below)
        if style.is_leftmost(above):
            above.set_ylabel("sink mass of position 0\n(share of attention)")
            below.set_ylabel("largest mass of\npositions 1 to 3")
    for row in zip(*axes.values(), strict=True):
        style.same_y(row)
    shown = [CONDITIONS[condition] for condition in CONDITIONS if condition in set(first_positions["first_token"])]
    style.legend(
        figure,
        [
            *(style.line_handle(label, **look) for label, look in shown),
            style.line_handle("under uniform attention", **UNIFORM),
            style.band_handle(),
        ],
    )
    return figure


def _largest(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of the position with the largest mass, one for each condition and layer."""
    ordered = rows.sort("mass", descending=True, nulls_last=True)
    return ordered.unique(["first_token", "layer"], keep="first", maintain_order=True)


def _peaks(rows: pl.DataFrame) -> str:
    """The position that has the largest mass of any layer, under each condition."""
    peaks = rows.sort("mass", descending=True, nulls_last=True).unique("first_token", keep="first", maintain_order=True)
    position = dict(peaks.select("first_token", "position").rows())
    return ", ".join(f"{position[name]} ({name})" for name in CONDITIONS if name in position)


def _mass(ax: Axes, rows: pl.DataFrame, uniform: float) -> None:
    """Draw the mass by layer under each condition, and the uniform level."""
    for condition, (_, look) in CONDITIONS.items():
        chosen = rows.filter(pl.col("first_token") == condition).sort("layer")
        if not chosen.is_empty():
            style.line(ax, chosen, "layer", "mass", **look)
    ax.axhline(uniform, **UNIFORM)
    ax.set_ylim(bottom=0)
