"""Effective rank of the residual stream: how many directions it uses, with the first token and without it (E1)."""

from collections.abc import Collection
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from sinkorigin.figures import style

POSITIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "all": ("all positions", {"color": style.PALETTE[0], "linestyle": style.DASHES[0], "marker": "o"}),
    "later": ("without position 0", {"color": style.PALETTE[1], "linestyle": style.DASHES[1], "marker": "s"}),
}
RAW: dict[str, Any] = {"linewidth": 1.6, "markersize": 2.8}
CENTRED: dict[str, Any] = {"linewidth": 0.9, "marker": ""}


@style.styled
def draw(*, effective_rank: pl.DataFrame, labels: dict[str, str], trained: Collection[str] = ()) -> Figure:
    """One panel a model; models ``trained`` here in rows of their own."""
    models = style.models_of(effective_rank, labels)
    measured = effective_rank.drop_nulls("effective_rank")["model"].unique()
    lacking = {labels[model]: "" for model in models if model not in measured}
    if len(lacking) == len(models):
        return style.without_data("the effective rank was not measured")
    figure, axes = style.panels([model for model in models if model in measured], apart=trained, height=1.6)
    for model, (ax,) in axes.items():
        rows = effective_rank.filter(pl.col("model") == model).sort("layer")
        for positions, (_, look) in POSITIONS.items():
            for centred, thickness in ((False, RAW), (True, CENTRED)):
                here = rows.filter((pl.col("positions") == positions) & (pl.col("centred") == centred))
                style.line(ax, here, "layer", "effective_rank", band=False, **look | thickness)
        for width in rows["width"].unique():
            ax.axhline(width, **style.LEVEL)
        ax.set_ylim(0, 1.05 * max(rows["width"]))
        ax.set_xlabel("layer (−1: embedding)")
        style.whole_x(ax)
        style.title(ax, labels[model], f"{style.prompts_of(rows)}, {_tokens(rows)}")
        if style.is_leftmost(ax):
            ax.set_ylabel("effective rank of the\nresidual stream (dims)")
    grey = {"color": style.REFERENCE}
    style.legend(
        figure,
        [
            *(style.line_handle(text, **look, **RAW) for text, look in POSITIONS.values()),
            style.line_handle("thick, with markers: the residual as it is", **grey, **RAW, marker="o"),
            style.line_handle("thin: its mean over tokens subtracted", **grey, **CENTRED),
            style.line_handle("the width, the largest possible", **style.LEVEL),
        ],
        style.left_out("because it was not measured", lacking),
    )
    return figure


def _tokens(rows: pl.DataFrame) -> str:
    """Number of tokens of the matrix, the most that its rank can be."""
    counts = dict(rows.select("positions", "tokens").unique().drop_nulls().rows())
    text = f"{counts['all']} tokens" if "all" in counts else "no tokens"
    return text + (f", {counts['later']} without position 0" if "later" in counts else "")
