"""Loss, sink, disparity, norm and rank over the tokens trained on, one line a run with a band over seeds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sinkorigin.figures import run_looks, style

# panel → (title, label of the y axis); _rows says what it shows
PANELS = {
    "loss": ("validation loss", "cross-entropy (nats per token)"),
    "sink_mass": ("sink mass of position 0, largest layer", "share of attention"),
    "sink_rate": ("sink rate", "share with score > ε"),
    "dominance_ratio_first": ("first token's dominance ratio, largest layer", "max |h| / mean |h|"),
    "norm_ratio": ("first token's norm over the others', largest layer", "ratio of ℓ2 norms"),
    "effective_rank": ("effective rank, mean over layers", "effective rank (dims)"),
}
# look of a run's other tokens, or of its normalised rows
BESIDE: dict[str, Any] = {"linestyle": (0, (1, 1.6)), "linewidth": 1.1}
SAME = 1e-3  # normalised rows that change the mass by less, relatively, are not drawn


@style.styled
def draw(*, history: pl.DataFrame, training: pl.DataFrame, groups: Mapping[str, str], prompts: str) -> Figure:
    """Six panels for each group of runs that are compared with one another."""
    training = training.filter(pl.col("prompts") == prompts)
    runs_of = run_looks.by_group(groups)
    figure, axes = style.panels([(group, panel) for group in runs_of for panel in PANELS], most=3, height=1.3)
    looks = run_looks.looks(list(groups))
    epsilon = run_looks.shown_epsilon(training)
    drawn: set[str] = set()
    for (group, panel), (ax,) in axes.items():
        for run in runs_of[group]:
            measured = training.filter(pl.col("run") == run)
            rows = _rows(panel, history.filter(pl.col("run") == run), measured, epsilon)
            style.line(ax, rows, "tokens", "mean", marker="" if panel == "loss" else "o", **looks[run])
            beside = _beside(panel, measured, rows)
            if not beside.is_empty():
                style.line(ax, beside, "tokens", "mean", band=False, **looks[run] | BESIDE)
                drawn.add(panel)
            if panel == "sink_mass":
                for level in measured["uniform"].drop_nulls().unique():
                    ax.axhline(level, **run_looks.UNIFORM)
        _axes(ax, panel, epsilon, group)
    handles: list = [
        style.line_handle(run_looks.label(history.filter(pl.col("run") == run)), **look)
        for run, look in looks.items()
        if run in history["run"]
    ]
    handles += [
        style.band_handle(f"lowest to highest seed; structure measured on {style.prompts_of(training)}"),
        style.line_handle("sink mass under uniform attention", **run_looks.UNIFORM),
    ]
    others = {
        "dominance_ratio_first": "dominance ratio of the other tokens",
        "sink_mass": "sink mass with rows that sum to one",
    }
    thin = [text for panel, text in others.items() if panel in drawn]
    if thin:
        handles.append(style.line_handle("thin: " + ", ".join(thin), color=style.REFERENCE, **BESIDE))
    style.legend(figure, handles)
    return figure


def _rows(panel: str, history: pl.DataFrame, training: pl.DataFrame, epsilon: float | None) -> pl.DataFrame:
    """Curve of one run in one panel, see :func:`_over_seeds`."""
    if panel == "loss":
        return _over_seeds(history.drop_nulls("validation_loss").rename({"validation_loss": "value"}, strict=False))
    over = "mean" if panel in ("sink_rate", "effective_rank") else "largest"
    rows = training.filter((pl.col("quantity") == panel) & (pl.col("over") == over))
    return _over_seeds(rows.filter(pl.col("epsilon") == epsilon) if panel == "sink_rate" else rows)


def _beside(panel: str, training: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Thin curve of a run in one panel: the other tokens' dominance ratio, or row-normalised mass if it differs."""
    quantity = {"dominance_ratio_first": "dominance_ratio_rest", "sink_mass": "sink_mass_normalised"}.get(panel, "")
    found = _over_seeds(training.filter((pl.col("quantity") == quantity) & (pl.col("over") == "largest")))
    if panel == "sink_mass" and np.allclose(found["mean"].to_numpy(), rows["mean"].to_numpy(), rtol=SAME):
        return found.clear()
    return found


def _over_seeds(rows: pl.DataFrame) -> pl.DataFrame:
    """Mean of ``value`` over seeds by tokens trained on, from the lowest (mean_low) to the highest seed (mean_high)."""
    value = pl.col("value")
    return rows.group_by("tokens").agg(mean=value.mean(), mean_low=value.min(), mean_high=value.max()).sort("tokens")


def _axes(ax: Axes, panel: str, epsilon: float | None, group: str) -> None:
    title, label = PANELS[panel]
    style.title(ax, title, style.as_words(group), beside=0.8)
    ax.set_ylabel(label.replace("ε", f"{epsilon:g}") if epsilon is not None else label)
    run_looks.tokens_axis(ax)
    if panel == "sink_rate":  # a rate of 0 throughout is a line at the bottom, not an axis from −0.05 to 0.05
        ax.set_ylim(-0.02 * max(ax.get_ylim()[1], 0.05), max(ax.get_ylim()[1], 0.05))
    elif panel in ("sink_mass", "dominance_ratio_first", "norm_ratio", "effective_rank"):
        ax.set_ylim(0, ax.get_ylim()[1] + 0.02 * ax.get_ylim()[1])
