"""Collapse of the key of position 0 to one direction, and to the one that a single dim gives it (K1)."""

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
def draw(*, key_collapse: pl.DataFrame, labels: dict[str, str]) -> Figure:
    """One panel a model: four cosines by layer, means over heads."""
    means = key_collapse.filter(pl.col("head").is_null())
    figure, axes = style.panels(style.models_of(means, labels))
    lowest = min([-0.1, *(low - 0.03 for name in COSINES for low in means[f"{name}_low"].drop_nulls())])
    for model, (ax,) in axes.items():
        rows = means.filter(pl.col("model") == model).sort("layer")
        reasons = style.in_order(rows["not_applicable"].drop_nulls())
        if all(rows[name].is_null().all() for name in COSINES):
            style.no_data(ax, next(iter(reasons), "not measured"))
            reasons = []
        else:
            for name, (_, look) in COSINES.items():
                style.line(ax, rows, "layer", name, **look)
            ax.axhline(0, **style.LEVEL, zorder=1)
            ax.set_ylim(lowest, 1.05)
            ax.set_xlabel("layer")
            style.whole_x(ax)
        style.title(ax, labels[model], "; ".join([style.prompts_of(rows), *reasons]))
        if style.is_leftmost(ax):
            ax.set_ylabel("cosine at position 0\n(mean over sequences, heads)")
    style.legend(figure, [*(style.line_handle(label, **look) for label, look in COSINES.values()), style.band_handle()])
    return figure
