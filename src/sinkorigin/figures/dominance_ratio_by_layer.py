"""Dimension disparity: the largest dimension of a token's vector against its mean one, layer by layer (D1)."""

from collections.abc import Collection

import polars as pl
from matplotlib.figure import Figure

from sinkorigin.figures import style

SITES = {"residual": "residual stream", "attention_input": "attention input"}


@style.styled
def draw(*, disparity_by_layer: pl.DataFrame, labels: dict[str, str], trained: Collection[str] = ()) -> Figure:
    """One column a model: the residual stream above, the attention's input below; models ``trained`` here in rows of their own."""
    prompts = style.in_order(disparity_by_layer["prompts"])
    colour = style.colours(prompts)
    sites = [site for site in SITES if site in disparity_by_layer["site"]]
    figure, axes = style.panels(
        style.models_of(disparity_by_layer, labels), rows=len(sites), share_x=True, apart=trained
    )
    for model, column in axes.items():
        for row, (ax, site) in enumerate(zip(column, sites, strict=True)):
            here = disparity_by_layer.filter((pl.col("model") == model) & (pl.col("site") == site)).sort("layer")
            for kind in prompts:
                rows = here.filter(pl.col("prompts") == kind)
                for name, (_, look) in style.FIRST_AND_REST.items():
                    style.line(ax, rows, "layer", name, color=colour[kind], **look)
            for width in here["width"].unique():
                ax.axhline(width, **style.LEVEL)
            style.log_y(ax)
            style.title(ax, labels[model] if row == 0 else "", SITES[site])
            style.whole_x(ax)
            if style.is_leftmost(ax):
                ax.set_ylabel("dominance ratio\n(max |h| / mean |h|)")
        column[-1].set_xlabel("layer (−1: embedding)")
    for group in style.with_and_without(axes, trained):
        style.same_y([ax for column in group for ax in column])
    width_handle = style.line_handle("largest possible: the width", **style.LEVEL)
    style.legend(figure, [*style.prompt_handles(colour), *style.rest_handles(), width_handle, style.band_handle()])
    return figure
