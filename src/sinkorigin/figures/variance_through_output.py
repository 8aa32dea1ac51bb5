"""Variance discrepancy before and after the output projection, layer by layer (V2)."""

from collections.abc import Collection
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
def draw(*, variance_through_output: pl.DataFrame, labels: dict[str, str], trained: Collection[str] = ()) -> Figure:
    """One column a model: position 0 against the other positions above, the two rank correlations below.

    Args:
        trained: models trained here, in rows of their own.
    """
    # the panels do not share their x axis: where one of them is empty, it would take the other's ticks away
    models = style.models_of(variance_through_output, labels)
    names = [*RATIOS, *TAUS]
    measured = variance_through_output.filter(pl.any_horizontal(pl.col(n).is_not_null() for n in names))[
        "model"
    ].unique()
    lacking = {
        labels[model]: next(
            iter(variance_through_output.filter(pl.col("model") == model)["not_applicable"].drop_nulls()),
            "not measured",
        )
        for model in models
        if model not in measured
    }
    if len(lacking) == len(models):
        return style.without_data("; ".join(style.left_out("for want of a variance", lacking)))
    figure, axes = style.panels([model for model in models if model in measured], rows=2, apart=trained)
    for model, (above, below) in axes.items():
        rows = variance_through_output.filter(pl.col("model") == model).sort("layer")
        if _has_data(above, rows, list(RATIOS)):
            for name, (_, look) in RATIOS.items():
                style.line(above, rows, "layer", name, band=False, **look)
            above.axhline(1, **style.LEVEL)
            style.log_y(above)
        if _has_data(below, rows, list(TAUS)):
            for name, (_, look) in TAUS.items():
                style.line(below, rows, "layer", name, **look)
            below.axhline(0, **style.LEVEL)
            below.set_ylim(-1.05, 1.05)
            below.set_yticks([-1, 0, 1])
            below.set_xlabel("layer")
        style.title(above, labels[model], style.prompts_of(rows))
        if style.is_leftmost(above):
            above.set_ylabel("variance at 0 / mean\nat other positions")
            below.set_ylabel("Kendall’s τ")
    # a flat line's margin is too small for its markers
    for group in style.with_and_without(axes, trained):
        style.same_y([above for above, _ in group if above.lines], margin=0.02)
    style.same_y([below for _, below in axes.values() if below.lines])
    style.legend(
        figure,
        [style.line_handle(label, **look) for label, look in (*RATIOS.values(), *TAUS.values())]
        + [
            style.line_handle("as at the other positions (above), no relation (below)", **style.LEVEL),
            style.band_handle(),
        ],
        style.left_out("for want of a variance", lacking),
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
