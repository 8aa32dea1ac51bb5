"""Heads whose queries align with the first key, against the attention that they give to it (K2)."""

from typing import Any

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sinkorigin.figures import style

QUANTITIES = {
    "alignment": "|cos| of queries’ main direction and first key",
    "positive_ratio": "share of queries with q · (first key) > 0",
}
DEPTHS: list[tuple[str, dict[str, Any]]] = [
    (f"head in the {part} third of the layers", {"color": colour, "marker": marker})
    for part, colour, marker in zip(("first", "middle", "last"), sns.color_palette("flare", 3), "o^s", strict=True)
]
LOOK: dict[str, Any] = {"linestyle": "", "markersize": 3.6, "markeredgewidth": 0.4, "markeredgecolor": "white"}


@style.styled
def draw(*, query_alignment: pl.DataFrame, alignment_correlation: pl.DataFrame, labels: dict[str, str]) -> Figure:
    """One column a model, on its first prompts: alignment above, positive ratio below, against the sink mass."""
    figure, axes = style.panels(style.models_of(query_alignment, labels), rows=len(QUANTITIES))
    for model, column in axes.items():
        heads = query_alignment.filter(pl.col("model") == model)
        prompts = heads["prompts"][0]
        here = (pl.col("model") == model) & (pl.col("prompts") == prompts)
        heads = heads.filter(here).sort("layer", "head")
        for row, (ax, (name, label)) in enumerate(zip(column, QUANTITIES.items(), strict=True)):
            found = alignment_correlation.filter(here & (pl.col("quantity") == name))
            text = f"{style.as_words(prompts)}: {_correlation(found)}"
            style.title(ax, labels[model] if row == 0 else "", text)
            if heads[name].is_null().all():
                style.no_data(ax, "not measured")
                continue
            _heads(ax, heads, name)
            ax.set_xlabel(label)
            if style.is_leftmost(ax):
                ax.set_ylabel("sink mass of the head\n(share of attention)")
    style.legend(figure, [style.line_handle(text, **LOOK | look | {"markersize": 6}) for text, look in DEPTHS])
    return figure


def _heads(ax: Axes, heads: pl.DataFrame, name: str) -> None:
    layers = np.unique(heads["layer"].to_numpy())
    thirds = np.searchsorted(layers, heads["layer"].to_numpy()) * len(DEPTHS) // len(layers)
    for third, (_, look) in enumerate(DEPTHS):
        rows = heads.filter(thirds == third)
        x, y = (rows[column].cast(pl.Float64).to_numpy() for column in (name, "mass"))
        ax.plot(x, y, zorder=3 - 0.1 * third, **LOOK | look)
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)


def _correlation(found: pl.DataFrame) -> str:
    """Spearman's correlation over the heads with its interval, as it stands over the panel."""
    found = found.drop_nulls("correlation")
    if found.is_empty():
        return "no Spearman correlation defined"
    middle, low, high = (
        None if value is None else f"{round(value, 2) + 0.0:.2f}".replace("-", "−")  # 0.0 turns −0.00 into 0.00
        for value in found.select("correlation", "correlation_low", "correlation_high").row(0)
    )
    return f"Spearman correlation {middle}" + ("" if low is None else f" ({low} to {high})")
