"""An edited position by layer: its sink, its norm and its keys, beside those of position 0 (I1 to I3)."""

from collections.abc import Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sinkorigin.figures import style
from sinkorigin.figures.intervention_looks import UNEDITED, has, is_any, look, nothing_to_show, one_of_each, place_text
from sinkorigin.interventions.kind import BASELINE, Edit, kind_named
from sinkorigin.interventions.layers import RULES

FIRST: dict[str, Any] = {"color": "0.6", "linewidth": 2.4}
EDITED: dict[str, Any] = {"facecolor": "0.93", "linewidth": 0}


@style.styled
def draw(*, intervention_layers: pl.DataFrame, labels: dict[str, str], kinds: Sequence[str]) -> Figure:
    """One column a (model, prompts), at one target: score above, norm in the middle, cosine of keys below."""
    shown = [kind for kind in map(kind_named, kinds) if kind.look is not None and kind.look.dashes is not None]
    edits = one_of_each(intervention_layers.filter(is_any(shown) & (pl.col("target") > 0)))
    if edits.is_empty():
        return nothing_to_show()
    figure, axes = style.panels(style.columns_of(edits, labels), rows=3, share_x=True, height=1.15)
    common = edits.group_by("positions", "target").agg(pl.struct("model", "prompts").n_unique().alias("in"))
    wanted = common.sort(-pl.col("in").cast(pl.Int64), "target", "positions").select("positions", "target").rows()
    firsts = False
    for (model, prompts), (above, middle, below) in axes.items():
        here = (pl.col("model") == model) & (pl.col("prompts") == prompts)
        edited, unedited = edits.filter(here), intervention_layers.filter(here & (pl.col("kind") == BASELINE))
        positions, target = next(place for place in wanted if place in edited.select("positions", "target").rows())
        chosen, strength = _curves(edited.filter(has("positions", positions), pl.col("target") == target), shown)
        for layer in chosen[0]["layers"][0]:
            for ax in (above, middle, below):
                ax.axvspan(layer - 0.5, layer + 0.5, zorder=0, **EDITED)
        first = unedited.filter(pl.col("target") == 0).sort("layer")
        firsts |= not first.is_empty()
        for table, line in (
            (first, FIRST),
            (unedited.filter(pl.col("target") == target).sort("layer"), UNEDITED),
            *((table, _line(kind_named(table["kind"][0]))) for table in chosen),
        ):
            _draw(above, middle, below, table, line)
        style.log_y(middle)
        below.axhline(0, color=style.REFERENCE, linestyle=":", linewidth=0.9, zorder=1)
        below.set_xlabel("layer")
        style.whole_x(below)
        amplified = [] if strength is None else [f"λ = {strength:g}"]
        style.title(
            above, labels[model], ", ".join([style.as_words(prompts), place_text(positions, target), *amplified])
        )
        if style.is_leftmost(above):
            above.set_ylabel("sink score (share\nof attention)")
            middle.set_ylabel("norm of the\nresidual (ℓ2)")
            below.set_ylabel("cosine of keys of\ntwo sequences")
    for row in zip(*axes.values(), strict=True):  # one scale a quantity in all columns
        style.same_y(row)
    for above, *_ in axes.values():
        above.set_ylim(bottom=0)
    style.legend(
        figure,
        [
            *(style.line_handle(kind.label, **_line(kind)) for kind in shown if kind.kind in edits["kind"]),
            style.line_handle("unedited, the same position", **UNEDITED),
            *([style.line_handle("unedited, position 0", **FIRST)] if firsts else []),
            Patch(label="edited layers", **EDITED),
            style.band_handle(),
        ],
    )
    return figure


def _line(kind: type[Edit]) -> dict[str, Any]:
    return look(kind) | {"linestyle": style.DASHES[kind.look.dashes], "linewidth": 1.2, "markersize": 2.6}


def _curves(edits: pl.DataFrame, kinds: Sequence[type[Edit]]) -> tuple[list[pl.DataFrame], float | None]:
    """Each kind by layer at the layers of the treatment, and the strength where its mean score is highest.

    Layers of an early rule come first. Without a treatment that has a strength: at the layers, and strength, where that of
    any kind is highest.
    """
    treated = edits.filter(is_any(kind for kind in kinds if kind.compared_at == "strength"))
    leading = edits if treated.is_empty() else treated
    early = leading.filter(pl.col("layers_rule").is_in([word for word, rule in RULES.items() if rule.place == "early"]))
    leading = leading if early.is_empty() else early
    means = leading.group_by("layers", "strength", maintain_order=True).agg(pl.col("score").mean())
    layers, strength, _ = means.sort("score", descending=True, maintain_order=True).row(0)
    scaled = kind_named(leading["kind"][0]).takes("strength")
    found = []
    for kind in kinds:
        rows = edits.filter(is_any([kind]), has("layers", layers))
        rows = rows.filter(pl.col("strength") == strength) if kind.takes("strength") else rows
        if len(rows):
            found.append(rows.sort("layer"))
    return found, strength if scaled else None


def _draw(above: Axes, middle: Axes, below: Axes, table: pl.DataFrame, line: dict[str, Any]) -> None:
    order = 2 if line in (FIRST, UNEDITED) else 3
    line = line | {"markevery": max(table["layer"].n_unique() // 10, 1)}
    style.line(above, table, "layer", "score", zorder=order, **line)
    for ax, name in ((middle, "norm"), (below, "key_cosine")):
        ax.plot(table["layer"].to_numpy(), table[name].cast(pl.Float64).to_numpy(), zorder=order, **line)
