"""Variance discrepancy before and after the output projection, layer by layer (V2)."""

from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sinkorigin.figures import style

RATIOS: dict[str, tuple[str, dict[str, Any]]] = {
    "ratio_before": ("value aggregation, before W_O", {"color": style.PALETTE[0], "marker": "o"}),
    "ratio_after": (
        "what leaves W_O",
        {"color": style.PALETTE[1], "marker": "s", "linestyle": style.DASHES[1]},
    ),
}
TAUS: dict[str, tuple[str, dict[str, Any]]] = {
    "dim_tau": ("τ over dims: std of a dim and norm of its column of W_O", {"color": style.PALETTE[2], "marker": "^"}),
    "position_tau": (
        "τ over positions: variance before and after W_O",
        {"color": style.PALETTE[3], "marker": "D", "linestyle": style.DASHES[2]},
    ),
}


@style.styled
def draw(*, variance_through_output: pl.DataFrame, labels: dict[str, str]) -> Figure:
    """One column a model: position 0 against the other positions above, the two rank correlations below."""
    # the panels do not share their x axis: where one of them is empty, it would take the other's ticks away
    figure, axes = style.panels(style.models_of(variance_through_output, labels), rows=2)
    for model, (above, below) in axes.items():
        rows = variance_through_output.filter(pl.col("model") == model).sort("layer")
        if _has_data(above, rows, list(RATIOS)):
            for name, (_, look) in RATIOS.items():
                style.line(above, rows, "layer", name, band=False, **look)
            above.axhline(1, **style.LEVEL)
            above.set_yscale("log")
        if _has_data(below, rows, list(TAUS)):
            for name, (_, look) in TAUS.items():
                style.line(below, rows, "layer", name, **look)
            below.axhline(0, **style.LEVEL)
            below.set_ylim(-1.05, 1.05)
            below.set_xlabel("layer")
        style.title(above, labels[model], style.prompts_of(rows))
        if style.is_leftmost(above):
            above.set_ylabel("variance at position 0 /\nmean at the other positions")
            below.set_ylabel("Kendall’s τ\n(−1 to 1)")
    # a flat line's margin is too small for its markers
    style.same_y([above for above, _ in axes.values() if above.lines], margin=0.02)
    style.legend(
        figure,
        [style.line_handle(label, **look) for label, look in (*RATIOS.values(), *TAUS.values())]
        + [
            style.line_handle("as at the other positions (above), no relation (below)", **style.LEVEL),
            style.band_handle(),
        ],
    )
    return figure


def _has_data(ax: Axes, rows: pl.DataFrame, names: list[str]) -> bool:
    """Let the axis span all layers, also those without a value; say instead why no column has any, and return False."""
    if not any(rows[name].is_not_null().any() for name in names):
        style.no_data(ax, next(iter(rows["not_applicable"].drop_nulls()), "not measured"))
        return False
    layers = rows["layer"].to_list()
    margin = 0.5 + 0.03 * (layers[-1] - layers[0])
    ax.set_xlim(layers[0] - margin, layers[-1] + margin)
    style.whole_x(ax)
    return True
