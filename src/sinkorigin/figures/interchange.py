"""Exchange of position 0 and another position: the attention on both when one gets a link of the chain from the other."""

from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sinkorigin.figures import style
from sinkorigin.figures.intervention_looks import layers_text, nothing_to_show

ROW_HEIGHT = 0.38  # inches
FIRST: dict[str, Any] = {"color": style.PALETTE[0], "marker": "o", "markersize": 4.5, "linestyle": ""}
TARGET: dict[str, Any] = {"color": style.PALETTE[3], "marker": "D", "markersize": 4, "linestyle": ""} | {
    "markerfacecolor": "white",
    "markeredgewidth": 1.1,
}
# direction of the table → title of the panel
DIRECTIONS = {
    "first into target": "from position 0 into position {}",
    "target into first": "from position {} into position 0",
}
# score, effect and number of sinks in the table → look, and place in the row
POSITIONS = (("score", "effect", "sinks", TARGET, 0.16), ("first_score", "first_effect", "first_sinks", FIRST, -0.16))


@style.styled
def draw(*, mediation: pl.DataFrame, labels: dict[str, str]) -> Figure:
    """A line a model and prompts, a panel a direction, a row a link."""
    swapped = mediation.filter(pl.col("cause").is_null(), pl.col("direction").is_in(["none", *DIRECTIONS]))
    blocks = style.columns_of(swapped, labels)
    if not blocks:
        return nothing_to_show()
    found = [swapped.filter(model=model, prompts=prompts) for model, prompts in blocks]
    heights = [rows["mediator"].n_unique() * ROW_HEIGHT + 0.95 for rows in found]
    figure = style.laid_out(sum(heights))
    parts = figure.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)[:, 0]
    highest = _highest(swapped)
    target = swapped["target"][0]
    for (model, prompts), rows, part in zip(blocks, found, parts, strict=True):
        size = style.TITLE_SIZE + 1
        label = style.wrapped(f"{labels[model]}: {style.as_words(prompts)}", 0.85 * figure.get_figwidth(), size)
        part.suptitle(label, x=0.01, ha="left", size=size, weight="bold")
        grid = part.add_gridspec(1, len(DIRECTIONS))
        for i, (direction, words) in enumerate(DIRECTIONS.items()):
            ax = part.add_subplot(grid[0, i])
            _panel(ax, rows, direction, labelled=not i)
            ax.set_xlim(-0.03 * highest, 1.04 * highest)
            ax.set_xlabel("sink score (share of attention,\nmean over layers, heads)")
            style.title(ax, words.format(rows["target"][0]))
    style.legend(
        figure,
        [
            style.line_handle("position 0", **FIRST),
            style.line_handle(f"position {target}", **TARGET),
            style.line_handle("the same position, unedited", color=style.REFERENCE, linestyle=":", linewidth=1.4),
            style.line_handle("95 % bootstrap interval over sequences", color=style.REFERENCE, linewidth=2.0),
        ],
    )
    return figure


def _highest(rows: pl.DataFrame) -> float:
    """The highest score of any position, or end of its interval."""
    ends = [pl.col(score) + pl.col(f"{effect}_high") - pl.col(effect) for score, effect, *_ in POSITIONS]
    scores = [pl.col(score) for score, *_ in POSITIONS]
    return rows.select(pl.max_horizontal(*(end.max() for end in ends), *(score.max() for score in scores))).item()


def _panel(ax: Axes, rows: pl.DataFrame, direction: str, *, labelled: bool) -> None:
    shown = rows.filter(direction=direction).to_dicts()
    unedited = rows.filter(direction="none").row(0, named=True)
    for score, effect, sinks, look, offset in POSITIONS:
        ax.axvline(unedited[score], color=look["color"], linestyle=":", linewidth=1.4, zorder=1)
        for y, row in enumerate(shown):
            # the interval of the change, paired by sequence, around the score
            ends = (row[f"{effect}{end}"] for end in ("_low", "_high"))
            low, high = (None if end is None else unedited[score] + end for end in ends)
            style.bar(ax, y + offset, low, high, color=look["color"])
            ax.plot([row[score]], [y + offset], zorder=4, **look)
            text = f"{row[sinks]} of {row['sequences']}"
            at_right: dict[str, Any] = {
                "transform": ax.get_yaxis_transform(),
                "color": look["color"],
                "size": style.TEXT_SIZE,
            }
            ax.text(1.02, y + offset, text, va="center", **at_right)
    ax.text(1.02, 1.02, "is a sink in", transform=ax.transAxes, color="0.3", size=style.TEXT_SIZE)
    names = [f"{row['mediator']}\n({layers_text(row['mediator_layers'])})" for row in shown]
    ax.set_yticks(range(len(shown)), names if labelled else [""] * len(shown), linespacing=1.1)
    ax.set_ylim(len(shown) - 0.45, -0.55)
    ax.tick_params(axis="y", length=0)
