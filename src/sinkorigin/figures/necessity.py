"""Remainder of the sink at position 0 when an edit takes away what it needs, where it goes, and what that costs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from sinkorigin.figures import style
from sinkorigin.figures.intervention_looks import SINK, SINK_WORDS, UNEDITED, has, nothing_to_show, with_layers_text
from sinkorigin.interventions.kind import BASELINE, kind_named
from sinkorigin.statistics.uniform import SINK_FACTOR

ROW_HEIGHT, LABELS_WIDTH = 0.31, 1.2  # inches
FIRST: dict[str, Any] = {"color": style.PALETTE[0], "marker": "o", "markersize": 4.2, "linestyle": ""}
OTHER: dict[str, Any] = FIRST | {
    "color": style.PALETTE[3],
    "marker": "D",
    "markersize": 3.6,
    "markerfacecolor": "white",
    "markeredgewidth": 1.0,
}
LOSS: dict[str, Any] = {"color": "0.15", "marker": "s", "markersize": 4, "linestyle": ""}
LINEAR = 0.1  # nats up to which the axis of the loss is linear

NOT_RUN: dict[str, Any] = {
    "ha": "left",
    "va": "center",
    "size": style.TEXT_SIZE,
    "color": "0.45",
    "style": "italic",
    "zorder": 3,
}

_ROW = ("intervention", "kind", "strength", "mean_factor", "layers_text", "positions")
_Row = tuple[str, str, float, float | None, str, list[int]]


@style.styled
def draw(*, interventions: pl.DataFrame, labels: dict[str, str]) -> Figure:
    """One row of panels a model: attention and, where it is known, loss on each prompts; a line an edit of position 0."""
    at_first = interventions.filter(pl.col("target") == 0)
    edited = at_first.filter(pl.col("kind") != BASELINE)
    models = style.models_of(edited, labels)
    if not models:
        return nothing_to_show()
    edited = pl.concat([with_layers_text(edited.filter(pl.col("model") == model)) for model in models])
    rows = {model: _rows(edited.filter(pl.col("model") == model)) for model in models}
    panels = {model: _panels(edited.filter(pl.col("model") == model)) for model in models}
    columns = max(map(len, panels.values()))
    heights = [len(rows[model]) + 1 for model in models]
    figure = style.laid_out(sum(heights) * ROW_HEIGHT + len(models) * 0.9)
    parts = figure.subfigures(len(models), 1, squeeze=False, height_ratios=heights)[:, 0]
    first: dict[str, Axes] = {}  # of each quantity, whose x axis the others share
    for model, part in zip(models, parts, strict=True):
        size = style.TITLE_SIZE + 1
        label = style.wrapped(labels[model], 0.85 * style.PAGE, size)
        part.suptitle(label, x=0.01, ha="left", size=size, weight="bold")
        grid = part.add_gridspec(1, columns)
        for j, (prompts, quantity) in enumerate(panels[model]):
            ax = part.add_subplot(grid[0, j], sharex=first.get(quantity))
            first.setdefault(quantity, ax)
            here = (pl.col("model") == model) & (pl.col("prompts") == prompts)
            edits = edited.filter(here)
            if quantity == "loss":
                _losses(ax, edits, rows[model])
                ax.set_xlabel("change of loss\n(nats per token)")
            else:
                _attention(ax, edits, at_first.filter(here & (pl.col("kind") == BASELINE)), rows[model])
                ax.set_xlabel("sink score (share\nof attention)")
            _lines(ax, rows[model], labelled=j == 0)
            what = "loss" if quantity == "loss" else "attention"
            style.title(ax, "", f"{style.as_words(prompts)}: {what}", beside=LABELS_WIDTH)
    highest = at_first.select(
        pl.max_horizontal(pl.col("first_score", "first_score_high", "other_position_score").max())
    )
    first["attention"].set_xlim(0, 1.08 * highest.item())
    if "loss" in first:
        ends = pl.col("loss_change", "loss_change_low", "loss_change_high")
        low, high = edited.select(pl.min_horizontal(ends.min()), pl.max_horizontal(ends.max()).alias("high")).row(0)
        first["loss"].set_xlim(min(1.5 * low, -0.05), max(12 * high, 0.3))  # room for the number beside the largest
    style.legend(
        figure,
        [
            style.line_handle("position 0", **FIRST),
            style.line_handle("the highest other position, by its number", **OTHER),
            style.line_handle("position 0, unedited", **UNEDITED),
            style.line_handle(f"position 0 is {SINK_WORDS}", **SINK),
            *([style.line_handle("change of the loss", **LOSS)] if "loss" in first else []),
            style.line_handle("95 % bootstrap interval over sequences", color=style.REFERENCE, linewidth=2.0),
        ],
    )
    return figure


def _rows(edits: pl.DataFrame) -> list[_Row]:
    """The edits of a model on any prompts, in the order of the table."""
    return edits.select(_ROW).unique(maintain_order=True).rows()


def _panels(edits: pl.DataFrame) -> list[tuple[str, str]]:
    """(prompts, attention or loss) of a model."""
    found = []
    for prompts in style.in_order(edits["prompts"]):
        known = edits.filter(pl.col("prompts") == prompts)["loss_change"].is_not_null().any()
        found += [(prompts, "attention"), *([(prompts, "loss")] if known else [])]
    return found


def _find(edits: pl.DataFrame, row: _Row) -> dict[str, Any] | None:
    *values, positions = row
    same = (pl.col(name).eq_missing(pl.lit(value)) for name, value in zip(_ROW, values, strict=False))
    found = edits.filter(*same, has("positions", positions))
    return found.row(0, named=True) if len(found) else None


def _attention(ax: Axes, edits: pl.DataFrame, baseline: pl.DataFrame, rows: Sequence[_Row]) -> None:
    unedited = baseline.row(0, named=True) if len(baseline) else None
    for y, facts in enumerate([unedited, *(_find(edits, row) for row in rows)]):
        if facts is None:
            if y:
                _say_not_run(ax, y)
            continue
        style.bar(ax, y, facts["first_score_low"], facts["first_score_high"], color=FIRST["color"])
        ax.plot([facts["first_score"]], [y], zorder=4, **FIRST)
        ax.plot([facts["other_position_score"]], [y], zorder=4, **OTHER)
        number, at = str(facts["other_position"]), (facts["other_position_score"], y)
        style.beside(ax, number, at, 5.5, color=OTHER["color"], bbox=style.BEHIND, zorder=3)
    for levels, look in ((edits["first_baseline"], UNEDITED), (SINK_FACTOR * edits["uniform"], SINK)):
        for value in levels.unique():
            ax.axvline(value, zorder=1, **look)


def _say_not_run(ax: Axes, y: int) -> None:
    """Mark the line of an edit that was not made on these prompts, so that it does not look like one without an effect."""
    ax.text(0.02, y, "not run", transform=ax.get_yaxis_transform(), bbox=style.BEHIND, **NOT_RUN)


def _losses(ax: Axes, edits: pl.DataFrame, rows: Sequence[_Row]) -> None:
    for y, row in enumerate(rows, start=1):
        facts = _find(edits, row)
        if facts is None or facts["loss_change"] is None:
            _say_not_run(ax, y)
            continue
        style.bar(ax, y, facts["loss_change_low"], facts["loss_change_high"], color=LOSS["color"])
        ax.plot([facts["loss_change"]], [y], zorder=4, **LOSS)
        end = max(facts["loss_change_high"] or -np.inf, facts["loss_change"])
        style.beside(ax, f"{facts['loss_change']:+.2f}".replace("-", "−"), (end, y), 5, zorder=3)
    ax.axvline(0, **UNEDITED)
    ax.set_xscale("symlog", linthresh=LINEAR, linscale=0.6)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())


def _lines(ax: Axes, rows: Sequence[_Row], *, labelled: bool) -> None:
    """One line an edit, the unedited model at the top."""
    names = ["unedited"]
    for intervention, kind, strength, mean_factor, layers_text, positions in rows:
        name = [style.as_words(intervention), kind_named(kind).strength_text(strength, mean_factor)]
        name += [f"positions {', '.join(map(str, positions))}"] if len(positions) > 1 else []
        names.append(f"{', '.join(filter(None, name))}\n({layers_text})")
    ax.set_yticks(range(len(names)), names if labelled else [""] * len(names), linespacing=1.05)
    ax.set_ylim(len(names) - 0.45, -0.55)
    ax.tick_params(axis="y", length=0)
