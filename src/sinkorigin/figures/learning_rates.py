"""Last validation loss against the peak learning rate, one line a run, its best rate marked."""

from collections.abc import Mapping
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from sinkorigin.figures import run_looks, style

DOTS: dict[str, Any] = {"linestyle": "", "marker": "o", "alpha": 0.6}
BEST: dict[str, Any] = {
    "linestyle": "",
    "marker": "*",
    "markersize": 8,
    "markeredgecolor": "black",
    "markeredgewidth": 0.8,
}
DIVERGED: dict[str, Any] = {"linestyle": "", "marker": "x", "markersize": 5, "markeredgewidth": 1.3}


@style.styled
def draw(*, learning_rates: pl.DataFrame, groups: Mapping[str, str]) -> Figure:
    """One panel for each group of runs that are compared with one another."""
    runs_of = run_looks.by_group(groups)
    figure, axes = style.panels(list(runs_of), height=1.9)
    looks = run_looks.looks(list(groups))
    for group, (ax,) in axes.items():
        for run in runs_of[group]:
            _losses(ax, learning_rates.filter(pl.col("run") == run), looks[run])
        for number, run in enumerate(runs_of[group]):
            _diverged(ax, learning_rates.filter(pl.col("run") == run), number, looks[run]["color"])
        rates = sorted(learning_rates.filter(pl.col("run").is_in(runs_of[group]))["learning_rate"].unique())
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(FixedLocator(rates))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xlabel("peak learning rate")
        if style.is_leftmost(ax):
            ax.set_ylabel("last validation loss\n(nats per token)")
        style.title(ax, "learning rates", style.as_words(group))
    handles = [style.line_handle(_label(learning_rates, run), **looks[run]) for run in groups]
    handles.append(style.line_handle("best: lowest mean over seeds, none diverged", color="0.6", **BEST))
    if learning_rates["diverged"].is_not_null().any():
        handles.append(style.line_handle("a seed diverged", color=style.REFERENCE, **DIVERGED))
    style.legend(figure, handles)
    return figure


def _losses(ax: Axes, rows: pl.DataFrame, look: dict[str, Any]) -> None:
    """Draw the losses of one run: a dot a seed, a line through the means with each value of a tuned option, a star at the best."""
    known = rows.drop_nulls("validation_loss").sort("learning_rate")
    ax.plot(known["learning_rate"].to_numpy(), known["validation_loss"].to_numpy(), **look | DOTS)
    means = rows.drop_nulls("mean_validation_loss").unique(["learning_rate", "option_value"]).sort("learning_rate")
    for _, line in means.group_by("option_value", maintain_order=True):
        style.line(ax, line, "learning_rate", "mean_validation_loss", band=False, **look)
    best = means.filter("best")
    style.line(ax, best, "learning_rate", "mean_validation_loss", band=False, zorder=4, **look | BEST)


def _diverged(ax: Axes, rows: pl.DataFrame, number: int, colour: tuple) -> None:
    """Draw crosses at the upper edge where a seed diverged, at a height for each run so that none hides another."""
    for rate in rows.filter(pl.col("diverged").is_not_null())["learning_rate"].unique().sort():
        ax.plot([rate], [0.96 - 0.07 * number], color=colour, transform=ax.get_xaxis_transform(), **DIVERGED)


def _label(table: pl.DataFrame, run: str) -> str:
    best = table.filter((pl.col("run") == run) & pl.col("best"))
    if best.is_empty():
        return f"{style.as_words(run)}: every rate diverged"
    row = best.to_dicts()[0]
    edge = ", an end of the grid" if row["at_edge"] else ""
    option = "" if row["option"] is None else f", {style.as_words(row['option'])} {row['option_value']:g}"
    return f"{style.as_words(run)}: {row['learning_rate']:g}{option} ({row['mean_validation_loss']:.3f}{edge})"
