"""The sink score at the edited position under each intervention and strength (I1 to I3)."""

from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from sinkorigin.figures import style

MASK = "mask"
COLOUR = {  # an intervention keeps its colour whatever else a study runs
    MASK: style.PALETTE[2],
    "variance_amplification": style.PALETTE[0],
    "norm_control": style.PALETTE[3],
}
MARKER = {"variance_amplification": "o", "norm_control": "s"}


@style.styled
def draw(interventions: pl.DataFrame, labels: dict[str, str]) -> Figure:
    """One panel a (model, prompts, target).

    Args:
        interventions: interventions.parquet of every model and prompts, one below the other.
        labels: model → label, in the order of the panels.
    """
    edits = interventions.filter(pl.col("kind") != "baseline")
    keys = [
        (model, *key)
        for model in style.models_of(edits, labels)
        for key in edits.filter(pl.col("model") == model).select("prompts", "target").unique(maintain_order=True).rows()
    ]
    looks = _looks(edits)
    figure, axes = style.panels(keys)
    for (model, prompts, target), (ax,) in axes.items():
        here = (pl.col("model") == model) & (pl.col("prompts") == prompts) & (pl.col("target") == target)
        _panel(ax, edits.filter(here), looks)
        style.title(ax, labels[model], f"{style.spoken(prompts)}, target position {target}")
        ax.set_xlabel("strength λ (factor; log2 scale)")
        if style.is_leftmost(ax):
            ax.set_ylabel("sink score at the target (share of\nattention, mean over layers, heads)")
    top = max(ax.get_ylim()[1] for (ax,) in axes.values())
    for (ax,) in axes.values():
        ax.set_ylim(0, top)
    style.legend(
        figure,
        [
            *(style.line_handle(label, **look) for label, look in looks.values()),
            style.line_handle("unedited", **UNEDITED),
            style.line_handle("uniform attention", **UNIFORM),
            style.band_handle(),
        ],
    )
    return figure


UNEDITED: dict[str, Any] = {"color": style.REFERENCE, "linestyle": "--", "linewidth": 1.2}
UNIFORM: dict[str, Any] = {"color": style.REFERENCE, "linestyle": ":", "linewidth": 1.4}


def _looks(edits: pl.DataFrame) -> dict[tuple[str, str], tuple[str, dict]]:
    """(kind, layers) → its label and its look: the colour says the kind, the dashes tell the layers apart."""
    looks: dict[tuple[str, str], tuple[str, dict]] = {}
    for kind in sorted(style.in_order(edits["kind"]), key=lambda kind: ([*COLOUR, kind].index(kind), kind)):
        for i, layers in enumerate(style.in_order(edits.filter(pl.col("kind") == kind)["layers"])):
            word = "layers" if any(mark in layers for mark in "-,") else "layer"
            looks[kind, layers] = (
                f"{style.spoken(kind)}, {word} {layers.replace('-', '–')}",
                {
                    "color": COLOUR.get(kind, style.PALETTE[4]),
                    "linestyle": style.DASHES[i % len(style.DASHES)],
                    **({"marker": MARKER.get(kind, "D"), "markersize": 4.5} if kind != MASK else {"linewidth": 2.0}),
                },
            )
    return looks


def _panel(ax: Axes, edits: pl.DataFrame, looks: dict[tuple[str, str], tuple[str, dict]]) -> None:
    for (kind, layers), (_, look) in looks.items():
        rows = (
            edits.filter((pl.col("kind") == kind) & (pl.col("layers") == layers)).sort("strength").drop_nulls("score")
        )
        if kind == MASK:  # has no strength: one value, across the panel
            for score, low, high in rows.select("score", "score_low", "score_high").rows():
                ax.axhline(score, zorder=2, **look)
                ax.axhspan(low, high, color=look["color"], alpha=style.BAND_ALPHA, linewidth=0, zorder=1)
        else:
            style.line(ax, rows["strength"], rows["score"], rows["score_low"], rows["score_high"], zorder=3, **look)
    for name, look in (("baseline", UNEDITED), ("uniform", UNIFORM)):
        for value in edits[name].drop_nulls().unique():
            ax.axhline(value, **look)
    strengths = edits.filter(pl.col("kind") != MASK)["strength"].drop_nulls().unique().sort().to_list()
    ax.set_xscale("log", base=2)
    if not strengths:  # a study of masks alone
        ax.set_xticks([])
    else:
        ax.set_xlim(strengths[0] / 2**0.3, strengths[-1] * 2**0.3)
        ax.xaxis.set_major_locator(FixedLocator(_apart(strengths)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_locator(NullLocator())


def _apart(strengths: list[float]) -> list[float]:
    """The strengths that get a tick: all, unless two are so close that their labels would touch."""
    least = (strengths[-1] / strengths[0]) ** (1 / 9)
    ticks = strengths[:1]
    for strength in strengths[1:]:
        if strength >= ticks[-1] * least:
            ticks.append(strength)
    return ticks
