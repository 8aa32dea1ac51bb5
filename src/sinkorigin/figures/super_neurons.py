"""Super neurons: few neurons fire for the first token alone, and with them goes the surge of its norm (S1)."""

from collections.abc import Collection
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sinkorigin.figures import style

NAMED = 6  # super neurons written out in a panel; the table has them all
CELLS = 160  # places of neurons along an axis
NEURON: dict[str, Any] = {"color": "0.7", "marker": ".", "markersize": 4, "markeredgewidth": 0, "linestyle": ""}
UNNAMED: dict[str, Any] = style.SUPER_NEURON | {"markerfacecolor": "white", "markersize": 5}
NORM: dict[str, Any] = {"color": style.PALETTE[0], "marker": "."}
WITHOUT: dict[str, Any] = {"color": style.PALETTE[1], "linestyle": style.DASHES[1], "linewidth": 1.3}
LEADER = {"arrowstyle": "-", "relpos": (0, 0.5), "linewidth": 0.6, "color": "0.45", "shrinkA": 1, "shrinkB": 2}
HAS_SUPER: dict[str, Any] = style.SUPER_NEURON | {"marker": "v"}


@style.styled
def draw(
    *,
    super_neurons: pl.DataFrame,
    super_neuron_surge: pl.DataFrame,
    labels: dict[str, str],
    trained: Collection[str] = (),
) -> Figure:
    """One column a model that has super neurons, or each where none has: its neurons above, the norm of the first token below.

    A note says of the others how far their neurons are from it.

    Args:
        trained: models trained here, in rows of their own.
    """
    every = style.models_of(super_neurons, labels)
    with_some = super_neurons.filter("super_neuron")["model"].unique()
    models = [model for model in every if model in with_some] or every
    figure, axes = style.panels(models, rows=2, apart=trained, height=1.25)
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
            above.set_xlabel(f"norm of {weight[model]} weights /\nlayer’s median")
        _norms(below, super_neuron_surge.filter(pl.col("model") == model).sort("layer"))
        below.set_xlabel("layer")
        style.title(above, labels[model], style.prompts_of(neurons))
        if style.is_leftmost(above):
            above.set_ylabel("mean |activation|:\nposition 0 / others")
            below.set_ylabel("norm of the\nfirst token (ℓ2)")
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
        style.left_out(
            "because it has no super neuron",
            {labels[m]: _largest(super_neurons.filter(pl.col("model") == m)) for m in every if m not in models},
        ),
    )
    return figure


def _largest(neurons: pl.DataFrame) -> str:
    """The largest ratio of activations in a model without super neurons, or why there is none."""
    ratios = neurons.filter(pl.col("activation_ratio").is_finite())["activation_ratio"].to_list()
    if not ratios:
        return next(iter(neurons["not_applicable"].drop_nulls()), "not measured")
    return f"largest ratio of activations {max(ratios):.3g}"


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
    # one neuron for each place that can be told apart, or the cloud is a large picture of itself
    cell = (pl.col(name).log() / np.log(high / low) * CELLS for name, (low, high) in (("x", x_limits), ("y", y_limits)))
    others = neurons.filter(~pl.col("super_neuron"))
    if len(others) > style.MOST_POINTS:
        others = others.unique([at.round() for at in cell], maintain_order=True)
    found = neurons.filter("super_neuron").sort("rank")
    rasterized = len(others) > style.MOST_POINTS
    ax.plot(
        others["x"].to_numpy(),
        others["y"].to_numpy(),
        antialiased=not rasterized,
        rasterized=rasterized,
        zorder=2,
        **NEURON,
    )
    for rows, look in ((found[NAMED:], UNNAMED), (found[:NAMED], style.SUPER_NEURON)):
        ax.plot(rows["x"].to_numpy(), rows["y"].to_numpy(), zorder=4, **look)
    for limits, set_limits in ((x_limits, ax.set_xlim), (y_limits, ax.set_ylim)):
        margin = (limits[1] / limits[0]) ** 0.04
        set_limits(limits[0] / margin, limits[1] * margin)
    style.log_axis(ax.xaxis)
    style.log_y(ax)
    _name(ax, found[:NAMED])


def _name(ax: Axes, found: pl.DataFrame) -> None:
    """Write names beside the panel, where they cover nothing, each with a line to its neuron."""
    found = found.sort("y", "rank", descending=[True, False])
    low, high = np.log(ax.get_ylim())
    step = 0.17  # of the panel's height: a line of text
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
            size=style.TEXT_SIZE,
            annotation_clip=False,
            arrowprops=LEADER,
            zorder=3,
        )


def _norms(ax: Axes, surge: pl.DataFrame) -> None:
    style.line(ax, surge, "layer", "after", band=False, zorder=3, **NORM)
    style.line(ax, surge, "layer", "without_largest", band=False, zorder=2, **WITHOUT)
    marked = surge.filter(pl.col("super_neurons") > 0)
    ax.plot(marked["layer"].to_numpy(), marked["after"].to_numpy(), zorder=4, **HAS_SUPER)
    style.log_y(ax)
    style.whole_x(ax)
