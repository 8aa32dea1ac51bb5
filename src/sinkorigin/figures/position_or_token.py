"""Position or token: the attention on position 0 whatever stands there, and on later positions that get its token or its mask."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sinkorigin.figures import style
from sinkorigin.figures.intervention_looks import SINK_WORDS, is_any, kinds_in, nothing_to_show
from sinkorigin.interventions.kind import BASELINE
from sinkorigin.interventions.layers import RULES
from sinkorigin.statistics.uniform import SINK_FACTOR

ROW_HEIGHT, LABELS_WIDTH = 0.2, 1.65  # inches
MOST_COLUMNS = 2
FIRST: dict[str, Any] = {"color": style.PALETTE[0], "marker": "o", "markersize": 4.5, "linestyle": ""}
LATER: dict[str, Any] = {"color": style.PALETTE[3], "marker": "D", "markersize": 4, "linestyle": ""} | {
    "markerfacecolor": "white",
    "markeredgewidth": 1.1,
}
SINK: dict[str, Any] = {"color": "0.2", "marker": "|", "markersize": 7, "markeredgewidth": 1.2, "linestyle": ""}
CONDITIONS = {
    "drawn": "another token in each sequence",
    "bos": "BOS in every sequence",
    "fixed": "one token in every sequence",
}

_Row = tuple[
    str, dict[str, Any], dict[str, Any] | None
]  # label, look, and score with its ends and the uniform one; None: a heading


@style.styled
def draw(
    *,
    interventions: pl.DataFrame,
    mediation: pl.DataFrame,
    labels: dict[str, str],
    groups: Sequence[Mapping[str, str]],
) -> Figure:
    """A panel a model, a row a position with what stands there or is done to it.

    Args:
        groups: condition of the first token → prompt set, for sets that differ in their first token alone.
    """
    swapped = mediation.filter(pl.col("cause").is_null())
    models = style.models_of(swapped, labels)
    if not models:
        return nothing_to_show()
    rows = {model: _rows(interventions.filter(model=model), swapped.filter(model=model), groups) for model in models}
    lines, columns = style.blocks_of(len(models), MOST_COLUMNS)
    heights = [max(len(rows[m]) for m in models[i * columns : (i + 1) * columns]) for i in range(lines)]
    figure = style.laid_out(sum(heights) * ROW_HEIGHT + lines * (style.TITLE_HEIGHT + 0.35))
    grid = figure.add_gridspec(lines, columns, height_ratios=heights)
    highest = max(row["high"] or row["score"] for found in rows.values() for *_, row in found if row is not None)
    for i, model in enumerate(models):
        ax = figure.add_subplot(grid[i // columns, i % columns])
        beside = models[i - 1] if i % columns else None
        _panel(ax, rows[model], labelled=beside is None or _labels(rows[beside]) != _labels(rows[model]))
        ax.set_xlim(-0.02 * highest, 1.05 * highest)
        style.title(ax, labels[model], beside=LABELS_WIDTH)
    style.legend(
        figure,
        [
            style.line_handle("position 0", **FIRST),
            style.line_handle("a later position", **LATER),
            style.line_handle(SINK_WORDS, **SINK),
            style.line_handle("95 % bootstrap interval over sequences", color=style.REFERENCE, linewidth=1.6),
        ],
    )
    return figure


def _rows(edits: pl.DataFrame, swapped: pl.DataFrame, groups: Sequence[Mapping[str, str]]) -> list[_Row]:
    """The rows of a model from top to bottom."""
    base = swapped["prompts"][0]
    swaps = {row["direction"]: row for row in swapped.filter(prompts=base, mediator="embedding").to_dicts()}
    unedited = swapped.filter(prompts=base, direction="none").row(0, named=True)
    group = next((group for group in groups if base in group.values()), {"drawn": base})
    uniform = dict(edits.filter(prompts=base).select("target", "uniform").rows())
    target = unedited["target"]
    rows: list[_Row] = [("position 0 holds", {}, None)]
    for condition, words in CONDITIONS.items():
        for row in (
            edits.filter(pl.col("kind") == BASELINE, pl.col("prompts") == group.get(condition, "")).head(1).to_dicts()
        ):
            rows.append((words, FIRST, _score(row, "first_score", uniform.get(0))))
    if swap := swaps.get("target into first"):
        rows.append(
            (
                f"the token of position {target}",
                FIRST,
                _changed(swap, unedited, "first_score", "first_effect", uniform.get(0)),
            )
        )
    rows.append((f"position {target} holds", {}, None))
    for row in edits.filter(
        pl.col("kind") == BASELINE, pl.col("prompts") == base, pl.col("target") == target
    ).to_dicts():
        rows.append(("its own token", LATER, _score(row, "score", row["uniform"])))
    if swap := swaps.get("first into target"):
        rows.append(
            ("the token of position 0", LATER, _changed(swap, unedited, "score", "effect", uniform.get(target)))
        )
    masks = _masks(edits.filter(prompts=base))
    if masks:
        rows.append(("attends to itself only", {}, None))
    rows += [(f"position {row['target']}", LATER, _score(row, "score", row["uniform"])) for row in masks]
    return rows


def _masks(edits: pl.DataFrame) -> list[dict[str, Any]]:
    """Masks of single positions in the layers before the sink begins; in the first ones of the table without such a rule."""
    masks = edits.filter(
        is_any(kind for kind in kinds_in(edits.filter(pl.col("kind") != BASELINE)) if kind.compared_at == "layers"),
        pl.col("positions").list.len() == 1,
        pl.col("target") > 0,
    )
    early = masks.filter(pl.col("layers_rule").is_in([word for word, rule in RULES.items() if rule.place == "early"]))
    masks = masks if early.is_empty() else early
    return masks.filter(pl.col("layers") == pl.col("layers").first()).sort("target").to_dicts() if len(masks) else []


def _score(row: Mapping[str, Any], name: str, uniform: float | None) -> dict[str, Any]:
    return {"score": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"], "uniform": uniform}


def _changed(
    row: Mapping[str, Any], unedited: Mapping[str, Any], name: str, effect: str, uniform: float | None
) -> dict[str, Any]:
    """A score after an exchange, with the interval of its change around the unedited one, paired by sequence."""
    before = unedited["unedited" if name == "score" else name]
    low, high = (None if row[f"{effect}{end}"] is None else before + row[f"{effect}{end}"] for end in ("_low", "_high"))
    return {"score": row[name], "low": low, "high": high, "uniform": uniform}


def _labels(rows: Sequence[_Row]) -> list[str]:
    return [label + (" …" if row is None else "") for label, _, row in rows]


def _panel(ax: Axes, rows: Sequence[_Row], *, labelled: bool) -> None:
    for y, (_, look, row) in enumerate(rows):
        if row is None:
            ax.axhline(y - 0.5, color="0.8", linewidth=0.6, zorder=1)
            continue
        style.bar(ax, y, row["low"], row["high"], color=look["color"], linewidth=1.6)
        ax.plot([row["score"]], [y], zorder=4, **look)
        if row["uniform"] is not None:
            ax.plot([SINK_FACTOR * row["uniform"]], [y], zorder=3, **SINK)
    ax.set_yticks(range(len(rows)), _labels(rows) if labelled else [""] * len(rows))
    for tick, (*_, row) in zip(ax.get_yticklabels(), rows, strict=True):
        tick.set_color("0.35" if row is None else "0.1")
        tick.set_fontstyle("italic" if row is None else "normal")
    ax.set_ylim(len(rows) - 0.4, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("sink score (share of attention)")
