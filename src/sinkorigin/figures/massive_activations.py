"""Massive activations of the first token, layer by layer, against the two thresholds that define them (D2)."""

from collections.abc import Collection
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from sinkorigin.figures import style
from sinkorigin.statistics.disparity import MASSIVE_MAGNITUDE, MASSIVE_OVER_MEDIAN

MAGNITUDES: dict[str, tuple[str, float, dict[str, Any]]] = {
    "max_abs": ("largest |x| at position 0", MASSIVE_MAGNITUDE, {"color": style.PALETTE[0], "marker": "o"}),
    "max_over_median": (
        "the same / median |x|",
        MASSIVE_OVER_MEDIAN,
        {"color": style.PALETTE[1], "marker": "s", "linestyle": style.DASHES[1]},
    ),
}
FIRST: dict[str, Any] = {"color": style.PALETTE[2], "marker": "^"}
LATER: dict[str, Any] = {"color": style.PALETTE[3], "linestyle": style.DASHES[2]}


@style.styled
def draw(*, massive_activations: pl.DataFrame, labels: dict[str, str], trained: Collection[str] = ()) -> Figure:
    """One column a model: magnitudes at position 0 above, share of massive activations below.

    Models without any have no panels where others have some; a note gives their largest magnitude. Models ``trained`` here have
    rows of their own.
    """
    models = style.models_of(massive_activations, labels)
    any_massive = massive_activations.filter(pl.col("share") > 0)["model"].unique()
    shown = [model for model in models if model in any_massive] or models
    figure, axes = style.panels(shown, rows=2, share_x=True, apart=trained)
    for model, (above, below) in axes.items():
        rows = massive_activations.filter(pl.col("model") == model)
        first = rows.filter(pl.col("position") == 0).sort("layer")
        for name, (_, threshold, look) in MAGNITUDES.items():
            style.line(above, first, "layer", name, band=False, **look)
            above.axhline(threshold, **_dotted(look), zorder=1)
        style.log_y(above)
        style.line(below, first, "layer", "share", **FIRST)
        later = rows.filter(pl.col("position") > 0).group_by("layer").agg(pl.col("share").mean()).sort("layer")
        style.line(below, later, "layer", "share", band=False, **LATER)
        below.set_xlabel("layer (−1: embedding)")
        style.whole_x(below)
        style.title(above, labels[model], style.prompts_of(rows))
        if style.is_leftmost(above):
            above.set_ylabel("magnitude in the\nresidual (mean)")
            below.set_ylabel("share of sequences\nwith a massive one")
    style.same_y([above for above, _ in axes.values()])
    style.share_ticks([below for _, below in axes.values()])
    largest = massive_activations.group_by("model").agg(pl.col("max_abs").max())
    lacking = {labels[model]: f"largest |x| {value:.3g}" for model, value in largest.rows() if model not in shown}
    style.legend(
        figure,
        [
            *(style.line_handle(text, **look) for text, _, look in MAGNITUDES.values()),
            *(
                style.line_handle(f"threshold of {text}: {threshold:g}", **_dotted(look))
                for text, (_, threshold, look) in zip(("|x|", "|x| / median"), MAGNITUDES.values(), strict=True)
            ),
            style.line_handle("share at position 0", **FIRST),
            style.line_handle("share at the later positions, mean", **LATER),
            style.band_handle(),
        ],
        style.left_out(
            "because no activation is massive", {label: lacking[label] for label in labels.values() if label in lacking}
        ),
    )
    return figure


def _dotted(look: dict[str, Any]) -> dict[str, Any]:
    """Look of a threshold, in the colour of the line that has to pass it."""
    return {"color": look["color"], "linestyle": ":", "linewidth": 1.2}
