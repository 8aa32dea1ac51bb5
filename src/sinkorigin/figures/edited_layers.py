"""An edited position by layer: its sink, its norm and its keys, beside those of position 0 (I1 to I3)."""

from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sinkorigin.figures import style
from sinkorigin.figures.intervention_looks import AMPLIFICATION, LOOKS, MASK, NORM, UNEDITED, one_of_each, place_text

KINDS = (AMPLIFICATION, MASK, NORM)
DASHES = dict(zip(KINDS, style.DASHES, strict=False))
FIRST: dict[str, Any] = {"color": "0.6", "linewidth": 3.0}
EDITED: dict[str, Any] = {"facecolor": "0.93", "linewidth": 0}


@style.styled
def draw(intervention_layers: pl.DataFrame, labels: dict[str, str]) -> Figure:
    """One column a (model, prompts), at one target: score above, norm in the middle, cosine of keys below.

    Args:
        intervention_layers: intervention_layers.parquet of every model and prompts, one below the other.
        labels: model → label, in the order of the columns.
    """
    edits = one_of_each(intervention_layers.filter(pl.col("kind").is_in(KINDS) & (pl.col("target") > 0)))
    keys = [
        (model, prompts)
        for model in style.models_of(edits, labels)
        for prompts in style.in_order(edits.filter(pl.col("model") == model)["prompts"])
    ]
    figure, axes = style.panels(keys, rows=3, share_x=True)
    common = edits.group_by("positions", "target").agg(pl.struct("model", "prompts").n_unique().alias("in"))
    wanted = common.sort(-pl.col("in").cast(pl.Int64), "target", "positions").select("positions", "target").rows()
    firsts = False
    for (model, prompts), (above, middle, below) in axes.items():
        here = (pl.col("model") == model) & (pl.col("prompts") == prompts)
        own, unedited = edits.filter(here), intervention_layers.filter(here & (pl.col("kind") == "baseline"))
        positions, target = next(place for place in wanted if place in set(own.select("positions", "target").rows()))
        chosen, strength = _curves(own.filter((pl.col("positions") == positions) & (pl.col("target") == target)))
        for layer in _layers(chosen[0]["layers"][0]):
            for ax in (above, middle, below):
                ax.axvspan(layer - 0.5, layer + 0.5, zorder=0, **EDITED)
        first = unedited.filter(pl.col("target") == 0).sort("layer")
        firsts |= not first.is_empty()
        for table, look in (
            (first, FIRST),
            (unedited.filter(pl.col("target") == target).sort("layer"), UNEDITED),
            *((table, _look(table["kind"][0])) for table in chosen),
        ):
            _draw(above, middle, below, table, look)
        middle.set_yscale("log")
        below.axhline(0, color=style.REFERENCE, linestyle=":", linewidth=0.9, zorder=1)
        below.set_xlabel("layer")
        style.whole_x(below)
        amplified = [] if strength is None else [f"λ = {strength:g}"]
        style.title(
            above, labels[model], ", ".join([style.as_words(prompts), place_text(positions, target), *amplified])
        )
        if style.is_leftmost(above):
            above.set_ylabel("sink score (share of\nattention, mean over heads)")
            middle.set_ylabel("norm of the residual\n(ℓ2, mean over sequences)")
            below.set_ylabel("cosine of the key between\ntwo sequences (mean)")
    _same_limits(list(axes.values()))
    kinds = [kind for kind in KINDS if kind in set(edits["kind"])]
    style.legend(
        figure,
        [
            *(style.line_handle(style.as_words(kind), **_look(kind)) for kind in kinds),
            style.line_handle("unedited, the same position", **UNEDITED),
            *([style.line_handle("unedited, position 0", **FIRST)] if firsts else []),
            Patch(label="edited layers", **EDITED),
            style.band_handle(),
        ],
    )
    return figure


def _look(kind: str) -> dict[str, Any]:
    return LOOKS[kind] | {"linestyle": DASHES[kind], "linewidth": 1.6, "markersize": 3.2}


def _curves(edits: pl.DataFrame) -> tuple[list[pl.DataFrame], float | None]:
    """By layer, each kind at the layers of the amplification, and the strength where that has the highest mean score.

    Without an amplification: of the kind that there is, the first layers that it edits.
    """
    amplified = edits.filter(pl.col("kind") == AMPLIFICATION)
    leading = edits if amplified.is_empty() else amplified
    means = leading.group_by("layers", "strength", maintain_order=True).agg(pl.col("score").mean())
    layers, strength, _ = means.sort("score", descending=True, maintain_order=True).row(0)
    scaled = not amplified.is_empty() or leading["kind"][0] != MASK
    found = []
    for kind in KINDS:
        own = edits.filter((pl.col("kind") == kind) & (pl.col("layers") == layers))
        own = own if kind == MASK else own.filter(pl.col("strength") == strength)
        if len(own):
            found.append(own.sort("layer"))
    return found, strength if scaled else None


def _layers(text: str) -> list[int]:
    """``0-2,5`` as 0, 1, 2, 5."""
    ends = [[int(number) for number in part.split("-")] for part in text.split(",")]
    return [layer for part in ends for layer in range(part[0], part[-1] + 1)]


def _draw(above: Axes, middle: Axes, below: Axes, table: pl.DataFrame, look: dict[str, Any]) -> None:
    order = 2 if look in (FIRST, UNEDITED) else 3
    every = max(table["layer"].n_unique() // 10, 1)
    line = look | {"markevery": every}
    style.line(above, table, "layer", "score", zorder=order, **line)
    for ax, name in ((middle, "norm"), (below, "key_cosine")):
        ax.plot(table["layer"].to_numpy(), table[name].cast(pl.Float64).to_numpy(), zorder=order, **line)


def _same_limits(columns: list[list[Axes]]) -> None:
    """One scale a quantity in all columns."""
    for i, row in enumerate(zip(*columns, strict=True)):
        limits = [ax.get_ylim() for ax in row]
        low, high = min(low for low, _ in limits), max(high for _, high in limits)
        for ax in row:
            ax.set_ylim(low if i else 0, high)
            if ax.get_yscale() == "log":
                style.log_y(ax)
