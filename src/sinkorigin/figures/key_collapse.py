"""Collapse of the key of position 0 to one direction, and to the one that a single dim gives it (K1)."""

from collections.abc import Collection
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from sinkorigin.figures import style

COSINES: dict[str, tuple[str, dict[str, Any]]] = {
    "between_sequences": ("keys of position 0 of two sequences", {"color": style.PALETTE[0], "marker": "o"}),
    "one_hot": (
        "normalised residual and its largest dim",
        {"color": style.PALETTE[1], "marker": "s", "linestyle": style.DASHES[1]},
    ),
    "one_dim": (
        "key and its prediction from the largest dim",
        {"color": style.PALETTE[2], "marker": "^", "linestyle": style.DASHES[2]},
    ),
    "two_dims": (
        "key and its prediction from the two largest dims",
        {"color": style.PALETTE[3], "marker": "D", "linestyle": style.DASHES[3]},
    ),
}


@style.styled
def draw(*, key_collapse: pl.DataFrame, labels: dict[str, str], trained: Collection[str] = ()) -> Figure:
    """One panel a model: four cosines by layer, means over heads; models ``trained`` here in rows of their own."""
    means = key_collapse.filter(pl.col("head").is_null())
    models = style.models_of(means, labels)
    measured = means.filter(pl.any_horizontal(pl.col(name).is_not_null() for name in COSINES))["model"].unique()
    lacking = {
        labels[model]: next(iter(means.filter(pl.col("model") == model)["not_applicable"].drop_nulls()), "not measured")
        for model in models
        if model not in measured
    }
    if len(lacking) == len(models):
        return style.without_data("; ".join(style.left_out("for want of these cosines", lacking)))
    figure, axes = style.panels([model for model in models if model in measured], apart=trained, height=1.6)
    lowest = min([-0.1, *(low - 0.03 for name in COSINES for low in means[f"{name}_low"].drop_nulls())])
    for model, (ax,) in axes.items():
        rows = means.filter(pl.col("model") == model).sort("layer")
        for name, (_, look) in COSINES.items():
            style.line(ax, rows, "layer", name, **look)
        ax.axhline(0, **style.LEVEL, zorder=1)
        ax.set_ylim(lowest, 1.05)
        ax.set_xlabel("layer")
        style.whole_x(ax)
        style.title(ax, labels[model], style.prompts_of(rows))
        if style.is_leftmost(ax):
            ax.set_ylabel("cosine at position 0")
    style.same_y([ax for (ax,) in axes.values()])
    handles = [style.line_handle(label, **look) for label, look in COSINES.values()]
    partly: dict[str, list[str]] = {}
    for model in axes:
        for reason in style.in_order(means.filter(pl.col("model") == model)["not_applicable"].drop_nulls()):
            partly.setdefault(reason, []).append(labels[model])
    notes = [f"Without some of the lines: {'; '.join(names)}. There {reason}." for reason, names in partly.items()]
    style.legend(
        figure, [*handles, style.band_handle()], [*notes, *style.left_out("for want of these cosines", lacking)]
    )
    return figure
