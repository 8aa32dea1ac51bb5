"""Last validation loss against the peak learning rate, one line a run, its best rate marked."""

from collections.abc import Mapping
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from sinkorigin.figures import style

BEST: dict[str, Any] = {
    "marker": "*",
    "markersize": 12,
    "markeredgecolor": "black",
    "markeredgewidth": 0.8,
    "linestyle": "",
}
DIVERGED: dict[str, Any] = {"marker": "x", "markersize": 7, "markeredgewidth": 1.8, "linestyle": ""}


@style.styled
def draw(table: pl.DataFrame, *, groups: Mapping[str, str]) -> Figure:
    """One panel for each group of runs that are compared with one another.

    Args:
        table: learning_rates.parquet.
        groups: run → name of its group, in the order of the panels.
    """
    names = list(dict.fromkeys(groups.values()))
    figure, axes = style.panels(names)
    colour = style.colours(list(groups))
    dashes = {run: style.DASHES[i % len(style.DASHES)] for i, run in enumerate(groups)}
    for group, (ax,) in axes.items():
        runs = [run for run, own in groups.items() if own == group]
        for run in runs:
            _run(ax, table.filter(pl.col("run") == run), colour[run], dashes[run])
        _diverged(ax, table.filter(pl.col("run").is_in(runs)), runs, colour)
        rates = sorted(table.filter(pl.col("run").is_in(runs))["learning_rate"].unique())
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(FixedLocator(rates))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.set_xlabel("peak learning rate")
        if style.is_leftmost(ax):
            ax.set_ylabel("last validation loss\n(nats per token)")
        style.title(ax, "learning rates", style.spoken(group) if len(names) > 1 else "")
    handles = [style.line_handle(_label(table, run), color=colour[run], linestyle=dashes[run]) for run in groups]
    handles.append(style.line_handle("best: lowest mean over seeds, none diverged", color="0.6", **BEST))
    if table["diverged"].is_not_null().any():
        handles.append(style.line_handle("a seed diverged", color=style.REFERENCE, **DIVERGED))
    style.legend(figure, handles)
    return figure


def _run(ax: Axes, rows: pl.DataFrame, colour: tuple, dashes) -> None:
    known = rows.drop_nulls("validation_loss").sort("learning_rate")
    ax.plot(
        known["learning_rate"].to_numpy(), known["validation_loss"].to_numpy(), linestyle="", marker="o", color=colour,
        alpha=0.6,
    )  # fmt: skip
    means = rows.drop_nulls("mean_validation_loss").unique("learning_rate").sort("learning_rate")
    x, y = means["learning_rate"].to_numpy(), means["mean_validation_loss"].to_numpy()
    ax.plot(x, y, color=colour, linestyle=dashes)
    best = means.filter("best")
    ax.plot(best["learning_rate"].to_numpy(), best["mean_validation_loss"].to_numpy(), color=colour, zorder=4, **BEST)


def _diverged(ax: Axes, rows: pl.DataFrame, runs: list[str], colour: dict) -> None:
    """Crosses at the upper edge, one row a run so that none hides another."""
    for number, run in enumerate(runs):
        lost = rows.filter((pl.col("run") == run) & pl.col("diverged").is_not_null())
        for rate in lost["learning_rate"].unique().sort():
            ax.plot([rate], [0.96 - 0.07 * number], color=colour[run], transform=ax.get_xaxis_transform(), **DIVERGED)


def _label(table: pl.DataFrame, run: str) -> str:
    best = table.filter((pl.col("run") == run) & pl.col("best"))
    if best.is_empty():
        return f"{style.spoken(run)}: every rate diverged"
    row = best.to_dicts()[0]
    edge = ", an end of the grid" if row["at_edge"] else ""
    return f"{style.spoken(run)}: {row['learning_rate']:g} ({row['mean_validation_loss']:.3f}{edge})"
