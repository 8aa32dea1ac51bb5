"""Values of each run by seed, and differences to the baseline of the same seed with their interval."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sinkorigin.figures import run_looks, style

# quantity → (title, label of the y axis)
PANELS = {
    "train_loss": ("train loss", "nats per token"),
    "validation_loss": ("validation loss", "nats per token"),
    "effective_rank": ("effective rank, mean over layers", "dims"),
    "dimension_disparity": ("dimension disparity, mean over layers", "max |h| / mean |h|"),
    "sink_mass_normalised": ("sink mass (rows sum to one), largest layer", "share of attention"),
    "sink_rate": ("sink rate", "share with score > ε"),
}
DOTS: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 2.6, "alpha": 0.8, "markeredgewidth": 0}
ASIDE = 0.28  # of the mean, from the run's tick
MEAN: dict[str, Any] = {"marker": "D", "markersize": 4, "markerfacecolor": "white", "linestyle": "", "linewidth": 1.4}


@style.styled
def draw(*, by_seed: pl.DataFrame, comparison: pl.DataFrame, groups: Mapping[str, str], prompts: str) -> Figure:
    """Six columns of two panels, values above differences, for each group of runs compared with one another.

    Args:
        by_seed, comparison: pretraining_by_seed.parquet and pretraining_comparison.parquet.
        prompts: the prompt set on which the models are shown; losses are measured on none.
    """
    runs_of = run_looks.by_group(groups)
    shown = pl.col("prompts").is_null() | (pl.col("prompts") == prompts)
    by_seed, comparison = by_seed.filter(shown), comparison.filter(shown)
    epsilon = run_looks.shown_epsilon(by_seed)
    chosen = pl.col("epsilon").is_null() | (pl.col("epsilon") == epsilon)
    by_seed, comparison = by_seed.filter(chosen), comparison.filter(chosen)
    figure, axes = style.panels(
        [(group, panel) for group in runs_of for panel in PANELS], rows=2, share_x=True, most=3, height=0.95
    )
    colour = style.colours(list(groups))
    letter = {run: "abcdefghijklmnopqrstuvwxyz"[i % 26] for runs in runs_of.values() for i, run in enumerate(runs)}
    seeds = sorted(by_seed["seed"].unique())
    for (group, panel), (above, below) in axes.items():
        values = by_seed.filter(pl.col("quantity") == panel)
        means = comparison.filter(pl.col("quantity") == panel)
        runs = runs_of[group]
        baseline = next((b for b in values.filter(pl.col("run").is_in(runs))["baseline"] if b is not None), None)
        _values(above, values, means, runs, seeds, colour)
        _differences(below, values, means, runs, baseline, seeds, colour)
        title, label = PANELS[panel]
        label = label.replace("ε", f"{epsilon:g}") if epsilon is not None else label
        style.title(above, title, style.as_words(group), beside=0.8)
        above.set_ylabel(label)
        if style.is_leftmost(below):
            below.set_ylabel("difference to\nthe baseline" if baseline else "no baseline")
        below.set_xticks(range(len(runs)), [letter[run] for run in runs])
        below.set_xlim(-0.6, len(runs) - 0.4)
    grey = {"color": style.REFERENCE}
    handles = [
        style.line_handle(f"{letter[run]}: {style.as_words(run)}", **DOTS | {"color": colour[run], "markersize": 4.5})
        for run in groups
    ]
    handles += [
        style.line_handle("one seed", **DOTS, **grey),
        style.line_handle("mean over seeds", **MEAN, **grey),
        style.line_handle("95 % Student interval over pairs of seeds", linewidth=1.4, **grey),
        style.line_handle(
            f"sink mass under uniform attention; structure measured on {style.prompts_of(by_seed)}", **run_looks.UNIFORM
        ),
    ]
    style.legend(figure, handles)
    return figure


def _places(run: int, seeds: Sequence[int]) -> dict[int, float]:
    """Seed → x of its dot; the dots lie side by side to the left of the mean."""
    spread = np.linspace(-0.3, 0.06, len(seeds)) if len(seeds) > 1 else [-0.12]
    return {seed: run + float(x) for seed, x in zip(seeds, spread, strict=True)}


def _dots(ax: Axes, number: int, values: Mapping[int, float], seeds: Sequence[int], colour: tuple) -> None:
    places = _places(number, seeds)
    known = [seed for seed in seeds if values.get(seed) is not None]
    ax.plot([places[seed] for seed in known], [values[seed] for seed in known], color=colour, **DOTS)


def _by_seed(rows: pl.DataFrame, run: str) -> dict[int, float]:
    return dict(rows.filter(pl.col("run") == run).select("seed", "value").rows())


def _values(ax: Axes, values: pl.DataFrame, means: pl.DataFrame, runs, seeds, colour) -> None:
    for number, run in enumerate(runs):
        _dots(ax, number, _by_seed(values, run), seeds, colour[run])
        for mean in means.filter(pl.col("run") == run)["mean"].drop_nulls():
            ax.plot([number + ASIDE], [mean], color=colour[run], **MEAN)
    for level in values.filter(pl.col("run").is_in(runs))["uniform"].drop_nulls().unique():
        ax.axhline(level, **run_looks.UNIFORM)
    ax.margins(y=0.15)


def _differences(ax: Axes, values: pl.DataFrame, means: pl.DataFrame, runs, baseline, seeds, colour) -> None:
    ax.axhline(0, color=style.REFERENCE, linewidth=0.9)
    of_baseline = _by_seed(values, baseline) if baseline else {}
    for number, run in enumerate(runs):
        if run == baseline or baseline is None:
            continue
        pairs = {
            seed: value - of_baseline[seed]
            for seed, value in _by_seed(values, run).items()
            if value is not None and of_baseline.get(seed) is not None
        }
        _dots(ax, number, pairs, seeds, colour[run])
        for row in means.filter(pl.col("run") == run).drop_nulls("difference").to_dicts():
            if row["difference_low"] is not None:
                ax.plot(
                    [number + ASIDE] * 2, [row["difference_low"], row["difference_high"]], color=colour[run],
                    linewidth=1.4, zorder=1,
                )  # fmt: skip
            ax.plot([number + ASIDE], [row["difference"]], color=colour[run], **MEAN)
    ax.margins(y=0.15)
