"""Sparsity of the down weights: how few residual dims a neuron writes to, super neurons above all neurons (S2)."""

from collections.abc import Collection
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator

from sinkorigin.figures import style

MEASURES = {
    "max_over_mean": "largest / mean |weight|",
    "participation_ratio": "participation ratio (dims)",
}
BINS = 30
MOST_DIMS = 4  # named one by one; super neurons that write elsewhere share a line
LANE = 0.17  # share of the panel's height that the super neurons of one dim take
NEURONS: dict[str, Any] = {"facecolor": "0.8", "edgecolor": "0.4", "linewidth": 0.8}
SUPER: dict[str, Any] = style.SUPER_NEURON | {"markersize": 3.8}


@style.styled
def draw(*, super_neurons: pl.DataFrame, labels: dict[str, str], trained: Collection[str] = ()) -> Figure:
    """One column a model: largest over mean weight above, participation ratio below; models ``trained`` here in rows of their own."""
    models = style.models_of(super_neurons, labels)
    measured = super_neurons.filter(pl.any_horizontal(pl.col(name).is_not_null() for name in MEASURES))[
        "model"
    ].unique()
    lacking = {
        labels[model]: next(iter(super_neurons.filter(pl.col("model") == model)["not_applicable"].drop_nulls()), "")
        for model in models
        if model not in measured
    }
    if len(lacking) == len(models):
        return style.without_data("; ".join(style.left_out("for want of such neurons", lacking)))
    figure, axes = style.panels([m for m in models if m in measured], rows=len(MEASURES), apart=trained, height=1.3)
    edges = {name: _edges(super_neurons[name]) for name in MEASURES}
    for model, column in axes.items():
        neurons = super_neurons.filter(pl.col("model") == model)
        lanes = _lanes(neurons)
        for row, (ax, (name, label)) in enumerate(zip(column, MEASURES.items(), strict=True)):
            known = neurons.drop_nulls(name)
            _panel(ax, known, name, edges[name], lanes)
            ax.set_xlabel(label)
            if style.is_leftmost(ax):
                ax.set_ylabel("neurons")
            if row == 0:
                count = int(neurons["super_neuron"].sum())
                style.title(ax, labels[model], f"{count} super neurons on {style.prompts_of(neurons)}")
    style.legend(
        figure,
        [
            Patch(label="all neurons of all layers", **NEURONS),
            style.line_handle("super neuron, on the line of the dim that it writes to most", **SUPER),
        ],
        style.left_out("for want of such neurons", lacking),
    )
    return figure


def _edges(values: pl.Series) -> np.ndarray:
    """Bins of equal width on a logarithmic axis, the same for all models."""
    known = values.drop_nulls().to_list() or [1.0, 10.0]
    return np.geomspace(min(known) / 1.01, max(known) * 1.01, BINS + 1)


def _lanes(neurons: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Label of a dim → the super neurons that write to it most; the dims with most super neurons come first."""
    found = neurons.filter("super_neuron").drop_nulls("dim_1")
    dims = found.group_by("dim_1").len().sort("len", "dim_1", descending=[True, False])["dim_1"].to_list()
    named = dims if len(dims) <= MOST_DIMS + 1 else dims[:MOST_DIMS]
    lanes = {f"dim {dim}": found.filter(pl.col("dim_1") == dim) for dim in named}
    if others := dims[len(named) :]:
        lanes[f"{len(others)} other dims"] = found.filter(pl.col("dim_1").is_in(others))
    return lanes


def _panel(ax: Axes, known: pl.DataFrame, name: str, edges: np.ndarray, lanes: dict[str, pl.DataFrame]) -> None:
    counts, _, _ = ax.hist(known[name].to_numpy(), bins=edges.tolist(), log=True, histtype="stepfilled", **NEURONS)
    ax.set_xlim(edges[0] / 1.1, edges[-1] * 1.1)
    style.log_axis(ax.xaxis)
    # the axis goes on above the largest count, so that the lanes are free of the histogram; its ticks do not
    bottom, free = 0.7, 1 - LANE * (len(lanes) + 0.5)
    ax.set_ylim(bottom, bottom * (1.3 * np.max(counts) / bottom) ** (1 / free))
    for i, (label, neurons) in enumerate(lanes.items()):
        height = 1 - LANE * (i + 0.5)
        ax.axhline(_at(ax, height), color="0.85", linewidth=0.7, zorder=1)
        heights = np.full(len(neurons), height)
        ax.plot(neurons[name].to_numpy(), heights, transform=ax.get_xaxis_transform(), zorder=4, **SUPER)
        style.beside(ax, label, (1, height), xycoords="axes fraction")
    decades = np.arange(int(np.log10(np.max(counts))) + 1)
    ax.yaxis.set_major_locator(FixedLocator((10.0 ** decades[:: 1 + len(decades) // 4]).tolist()))
    ax.yaxis.set_major_formatter(lambda count, _: style.plain(count))
    ax.yaxis.set_minor_locator(NullLocator())


def _at(ax: Axes, height: float) -> float:
    """The count at a height of the panel, a share of it."""
    low, high = ax.get_ylim()
    return low * (high / low) ** height
