"""Heads whose queries align with the first key, against the attention that they give to it (K2)."""

from collections.abc import Collection
from typing import Any

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sinkorigin.figures import style

QUANTITIES = {
    "alignment": "|cos| of queries and first key",
    "positive_ratio": "queries with q · (first key) > 0",
}
FEWEST_HEADS = 24  # of a model that has panels; of others a note gives the correlations
FEWEST_RANKS = 5  # heads whose correlation is given: of two it is 1 or −1
DEPTHS: list[tuple[str, dict[str, Any]]] = [
    (f"head in the {part} third of the layers", {"color": colour, "marker": marker})
    for part, colour, marker in zip(("first", "middle", "last"), sns.color_palette("flare", 3), "o^s", strict=True)
]
LOOK: dict[str, Any] = {"linestyle": "", "markersize": 2.8, "markeredgewidth": 0.2, "markeredgecolor": "white"}


@style.styled
def draw(
    *,
    query_alignment: pl.DataFrame,
    alignment_correlation: pl.DataFrame,
    labels: dict[str, str],
    trained: Collection[str] = (),
) -> Figure:
    """One column a model, on its first prompts: alignment above, positive ratio below, against the sink mass.

    Args:
        trained: models trained here, in rows of their own.
    """
    first = pl.col("prompts") == pl.col("prompts").first().over("model")
    heads_of = {model: rows.sort("layer", "head") for (model,), rows in query_alignment.filter(first).group_by("model")}
    correlations = alignment_correlation.filter(pl.col("over") == "heads")
    models = style.models_of(query_alignment, labels)
    measured = [m for m in models if any(heads_of[m][name].is_not_null().any() for name in QUANTITIES)]
    if not measured:
        return style.without_data("the alignment of queries was not measured")
    shown = [model for model in measured if len(heads_of[model]) >= FEWEST_HEADS] or measured
    figure, axes = style.panels(shown, rows=len(QUANTITIES), apart=trained, height=1.35)
    said = {
        model: {
            name: _correlation(correlations.filter(model=model, prompts=heads_of[model]["prompts"][0], quantity=name))
            for name in QUANTITIES
        }
        for model in measured
    }
    for model, column in axes.items():
        heads = heads_of[model]
        for row, (ax, (name, label)) in enumerate(zip(column, QUANTITIES.items(), strict=True)):
            above = f"{style.prompts_of(heads)}, {len(heads)} heads: " if row == 0 else ""
            style.title(ax, labels[model] if row == 0 else "", above + said[model][name])
            if heads[name].is_null().all():
                style.no_data(ax, "not measured")
                continue
            _heads(ax, heads, name)
            ax.set_xlabel(label)
            if style.is_leftmost(ax):
                ax.set_ylabel("sink mass of the head\n(share of attention)")
    style.share_ticks([ax for column in axes.values() for ax in column if ax.axison])
    few = {
        labels[
            model
        ]: f"{len(heads_of[model])}: {said[model]['alignment']} above, {said[model]['positive_ratio']} below"
        for model in measured
        if model not in shown
    }
    spearman = "ρ: Spearman’s rank correlation over heads, with its 95 % bootstrap interval over sequences."
    style.legend(
        figure,
        [style.line_handle(text, **LOOK | look | {"markersize": 5}) for text, look in DEPTHS],
        [
            spearman,
            *style.left_out(f"because it has fewer than {FEWEST_HEADS} heads", few),
            *style.left_out("because they were not measured", {labels[m]: "" for m in models if m not in measured}),
        ],
    )
    return figure


def _heads(ax: Axes, heads: pl.DataFrame, name: str) -> None:
    layers = np.unique(heads["layer"].to_numpy())
    thirds = np.searchsorted(layers, heads["layer"].to_numpy()) * len(DEPTHS) // len(layers)
    for third, (_, look) in enumerate(DEPTHS):
        rows = heads.filter(thirds == third)
        x, y = (rows[column].cast(pl.Float64).to_numpy() for column in (name, "mass"))
        ax.plot(x, y, zorder=3 - 0.1 * third, rasterized=len(rows) > style.MOST_POINTS, **LOOK | look)
    ax.set_xlim(-0.02, 1.02)


def _correlation(found: pl.DataFrame) -> str:
    """Spearman's correlation over the heads with its interval, as it stands over the panel."""
    found = found.drop_nulls("correlation")
    if found.is_empty() or found["count"][0] < FEWEST_RANKS:
        return "no ρ"
    middle, low, high = (
        None if value is None else f"{round(value, 2) + 0.0:.2f}".replace("-", "−")  # 0.0 turns −0.00 into 0.00
        for value in found.select("correlation", "correlation_low", "correlation_high").row(0)
    )
    return f"ρ = {middle}{'' if low is None else f' [{low}, {high}]'}"
