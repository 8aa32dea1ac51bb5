"""Variance of the value aggregation against position: layer 0 in front, a few other layers behind it (V1)."""

from collections.abc import Collection, Sequence

import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sinkorigin.figures import style

SITE = "value_aggregation"


@style.styled
def draw(
    *,
    variance: pl.DataFrame,
    variance_trend: pl.DataFrame,
    labels: dict[str, str],
    layers: Sequence[int] = (),
    trained: Collection[str] = (),
) -> Figure:
    """One panel a model (a row of them for each kind of prompts).

    Args:
        layers: layers to show beside layer 0; one that a model does not have is left out there.
        trained: models trained here, in rows of their own.
    """
    variance = variance.filter(pl.col("site") == SITE)
    others = [layer for layer in layers if layer != 0 and layer in variance["layer"]]
    prompts = style.in_order(variance["prompts"])
    models = style.models_of(variance, labels)
    defined = variance.filter(pl.col("layer").is_in([0, *others])).drop_nulls("variance")["model"].unique()
    lacking = {labels[model]: "" for model in models if model not in defined}
    reason = "because the variance is not defined where every sequence begins with the same tokens"
    if len(lacking) == len(models):
        return style.without_data("; ".join(style.left_out(reason, lacking)))
    figure, axes = style.panels([m for m in models if m in defined], rows=len(prompts), apart=trained, height=1.5)
    looks = {
        layer: {"color": colour, "linewidth": 0.9, "linestyle": style.DASHES[i % len(style.DASHES)], "zorder": 2}
        for i, (layer, colour) in enumerate(zip(others, sns.color_palette("flare", len(others)), strict=True))
    }
    looks[0] = {"color": style.PALETTE[0], "linewidth": 1.5, "linestyle": "-", "zorder": 3}
    for model, column in axes.items():
        for row, (ax, kind) in enumerate(zip(column, prompts, strict=True)):
            here = (pl.col("model") == model) & (pl.col("prompts") == kind)
            _panel(ax, variance.filter(here), looks)
            style.title(
                ax, labels[model] if row == 0 else "", f"{style.as_words(kind)}{_ratio(variance_trend.filter(here))}"
            )
            if style.is_leftmost(ax):
                ax.set_ylabel("variance of the value\naggregation (mean over dims)")
            if row == len(prompts) - 1 and ax.lines:
                ax.set_xlabel("position (token)")
    handles = [style.line_handle(f"layer {layer}", **looks[layer]) for layer in [0, *others]]
    style.legend(figure, [*handles, style.band_handle()], style.left_out(reason, lacking))
    return figure


def _panel(ax: Axes, variance: pl.DataFrame, looks: dict[int, dict]) -> None:
    defined = variance.filter(pl.col("layer").is_in(list(looks))).drop_nulls("variance")
    if defined.is_empty():
        reason = "not defined: every sequence begins with the same tokens" if len(variance) else "not measured"
        style.no_data(ax, reason)
        return
    for layer, look in looks.items():
        rows = variance.filter(pl.col("layer") == layer).sort("position")
        alpha = style.BAND_ALPHA if layer == 0 else 0.13
        style.line(ax, rows, "position", "variance", band_alpha=alpha, **look)
    first = defined.filter((pl.col("layer") == 0) & (pl.col("position") == 0))
    ax.plot(first["position"].to_numpy(), first["variance"].to_numpy(), "o", markersize=4, **looks[0])
    ax.set_xlim(-0.02 * float(variance["position"].max() or 1) - 0.5, None)  # type: ignore[arg-type]
    style.whole_x(ax)
    style.log_y(ax)


def _ratio(trend: pl.DataFrame) -> str:
    """The ratio of position 0 to the mean of the others in layer 0, as it stands in the title."""
    rows = trend.filter((pl.col("site") == SITE) & (pl.col("layer") == 0)).drop_nulls("ratio")
    if rows.is_empty():
        return ""
    ratio, low, high = rows.select("ratio", "ratio_low", "ratio_high").row(0)
    ends = "" if low is None else f" [{style.number(low, '.3g')}, {style.number(high, '.3g')}]"
    return f"; at 0 / others: {style.number(ratio, '.3g')}{ends}"
