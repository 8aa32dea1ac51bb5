"""Groups, looks, names and axes that the figures of the pretraining comparison share."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator

from sinkorigin.claims.verdicts import PAPER_EPSILON
from sinkorigin.figures import style

UNIFORM: dict[str, Any] = {"color": style.REFERENCE, "linestyle": "--", "linewidth": 1.0}  # under uniform attention


def looks(runs: Sequence[Any]) -> dict[Any, dict[str, Any]]:
    """Run, or family of runs → colour and dashes of its lines."""
    dashes = {run: style.DASHES[i % len(style.DASHES)] for i, run in enumerate(runs)}
    return {run: {"color": colour, "linestyle": dashes[run]} for run, colour in style.colours(runs).items()}


def by_group(groups: Mapping[str, str]) -> dict[str, list[str]]:
    """Name of each group of runs → its runs; a group that is the only one has no name in figures."""
    found: dict[str, list[str]] = {}
    for run, group in groups.items():
        found.setdefault(group, []).append(run)
    return {"": list(groups)} if len(found) == 1 else found


def shown_epsilon(table: pl.DataFrame) -> float | None:
    """The threshold of the sink rate that is shown: of those in the table, the nearest to the paper's."""
    return min(table["epsilon"].drop_nulls().unique(), key=lambda e: abs(e - PAPER_EPSILON), default=None)


def tokens_axis(ax: Axes) -> None:
    """Let the x axis be the tokens trained on."""
    ax.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.set_xlabel("tokens trained on")


def label(history: pl.DataFrame) -> str:
    """Name, variant and number of seeds of the run that ``history`` is of."""
    run, variant = history["run"][0], history["variant"][0]
    name = style.as_words(run) if run == variant else f"{style.as_words(run)} ({style.as_words(variant)})"
    seeds = history["seed"].n_unique()
    return f"{name}, {seeds} seed{'' if seeds == 1 else 's'}"
