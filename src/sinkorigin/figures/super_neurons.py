"""Super neurons: few neurons fire for the first token alone, and with them goes the surge of its norm (S1)."""

from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from sinkorigin.figures import style

NAMED = 6  # super neurons written out in a panel; the table has them all
NEURON: dict[str, Any] = {"color": "0.6", "marker": ".", "markersize": 3, "markeredgewidth": 0, "linestyle": ""}
UNNAMED: dict[str, Any] = style.SUPER_NEURON | {"markerfacecolor": "white", "markersize": 5}
NORM: dict[str, Any] = {"color": style.PALETTE[0], "marker": "."}
WITHOUT: dict[str, Any] = {"color": style.PALETTE[1], "linestyle": style.DASHES[1], "linewidth": 1.3}
LEADER = {"arrowstyle": "-", "relpos": (0, 0.5), "linewidth": 0.6, "color": "0.45", "shrinkA": 1, "shrinkB": 2}
HAS_SUPER: dict[str, Any] = style.SUPER_NEURON | {"marker": "v", "markersize": 7}


@style.styled
def draw(*, super_neurons: pl.DataFrame, super_neuron_surge: pl.DataFrame, labels: dict[str, str]) -> Figure:
    """One column a model: all its neurons above, the norm of the first token by layer below."""
    models = style.models_of(super_neurons, labels)
    figure, axes = style.panels(models, rows=2)
    weight = {model: _weight(super_neurons.filter(pl.col("model") == model)) for model in models}
    shown = {
        model: super_neurons.filter(pl.col("model") == model)
        .with_columns(pl.col(f"{weight[model]}_norm_ratio").alias("x"), pl.col("activation_ratio").alias("y"))
        .drop_nulls(["x", "y"])
        for model in models
    }
    limits = _limits(pl.concat(shown.values()))
    for model, (above, below) in axes.items():
        neurons = super_neurons.filter(pl.col("model") == model)
        if shown[model].is_empty():
            style.no_data(above, next(iter(neurons["not_applicable"].drop_nulls()), "not measured"))
        else:
            _scatter(above, shown[model], *limits)
            above.set_xlabel(f"norm of the {weight[model]} weights / layer’s median")
        _norms(below, super_neuron_surge.filter(pl.col("model") == model).sort("layer"))
        below.set_xlabel("layer")
        style.title(above, labels[model], style.prompts_of(neurons))
        if style.is_leftmost(above):
            above.set_ylabel("mean |activation|:\nposition 0 / other positions")
            below.set_ylabel("norm of the first token\n(ℓ2, mean over sequences)")
    # the large markers stand at the highest norm
    style.same_y([below for _, below in axes.values()], margin=0.03)
    style.legend(
        figure,
        [
            style.line_handle("a neuron, of any layer", **NEURON | {"markersize": 7}),
            style.line_handle(f"super neuron (layer.neuron), first {NAMED} by rank", **style.SUPER_NEURON),
            style.line_handle("further super neurons", **UNNAMED),
            style.line_handle("norm of the residual leaving the layer", **NORM),
            style.line_handle("the same without the layer’s largest neuron", **WITHOUT),
            style.line_handle("layer with super neurons", **HAS_SUPER),
        ],
    )
    return figure


def _weight(neurons: pl.DataFrame) -> str:
    """The weights whose norm is shown: gate, or up in a model without a gate."""
    return "gate" if neurons["gate_norm_ratio"].is_not_null().any() else "up"


def _limits(neurons: pl.DataFrame) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits of both axes for all models; a ratio of zero or infinity stands at the end of its axis."""
    found = []
    for name, least in (("x", 0.5), ("y", 0.1)):
        values = neurons.filter(pl.col(name).is_finite() & (pl.col(name) > 0))[name].to_list()
        found.append((min([*values, least]), max([*values, 1 / least])))
    return found[0], found[1]


def _scatter(ax: Axes, neurons: pl.DataFrame, x_limits: tuple[float, float], y_limits: tuple[float, float]) -> None:
    neurons = neurons.with_columns(pl.col("x").clip(*x_limits), pl.col("y").clip(*y_limits))
    others = neurons.filter(~pl.col("super_neuron"))
    found = neurons.filter("super_neuron").sort("rank")
    # tens of thousands of points: as vectors they would make a file that no browser opens
    ax.plot(others["x"].to_numpy(), others["y"].to_numpy(), alpha=0.5, rasterized=True, zorder=2, **NEURON)
    for rows, look in ((found[NAMED:], UNNAMED), (found[:NAMED], style.SUPER_NEURON)):
        ax.plot(rows["x"].to_numpy(), rows["y"].to_numpy(), zorder=4, **look)
    ax.set_xscale("log")
    ax.set_yscale("log")
    for limits, set_limits in ((x_limits, ax.set_xlim), (y_limits, ax.set_ylim)):
        margin = (limits[1] / limits[0]) ** 0.04
        set_limits(limits[0] / margin, limits[1] * margin)
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if x_limits[1] < 50 * x_limits[0] else (1.0,)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    style.log_y(ax)
    _name(ax, found[:NAMED])


def _name(ax: Axes, found: pl.DataFrame) -> None:
    """Write names beside the panel, where they cover nothing, each with a line to its neuron."""
    found = found.sort("y", "rank", descending=[True, False])
    low, high = np.log(ax.get_ylim())
    step = 0.085  # of the panel's height: a line of text
    heights: list[float] = []
    for wanted in (np.log(found["y"].to_numpy()) - low) / (high - low):
        heights.append(min(float(wanted), heights[-1] - step if heights else 1.0))
    for i in reversed(range(len(heights))):  # pushed below the panel: up again
        heights[i] = max(heights[i], step * (len(heights) - 1 - i))
    for (layer, neuron, x, y), height in zip(found.select("layer", "neuron", "x", "y").rows(), heights, strict=True):
        ax.annotate(
            f"{layer}.{neuron}",
            (x, y),
            (1.02, height),
            textcoords="axes fraction",
            va="center",
            size=7.5,
            annotation_clip=False,
            arrowprops=LEADER,
            zorder=3,
        )


def _norms(ax: Axes, surge: pl.DataFrame) -> None:
    style.line(ax, surge, "layer", "after", band=False, zorder=3, **NORM)
    style.line(ax, surge, "layer", "without_largest", band=False, zorder=2, **WITHOUT)
    marked = surge.filter(pl.col("super_neurons") > 0)
    ax.plot(marked["layer"].to_numpy(), marked["after"].to_numpy(), zorder=4, **HAS_SUPER)
    ax.set_yscale("log")
    style.whole_x(ax)
