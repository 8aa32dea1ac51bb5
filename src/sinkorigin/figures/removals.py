"""What position 0 loses when something is taken from it, beside what its controls take, and whether position 1 becomes the sink."""

from collections.abc import Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from sinkorigin.figures import style
from sinkorigin.figures.intervention_looks import layers_text, nothing_to_show

ROW_HEIGHT, LABELS_WIDTH = 0.27, 1.8  # inches
TREATMENT: dict[str, Any] = {"color": style.PALETTE[3], "marker": "o", "markersize": 4.5, "linestyle": ""}
CONTROL: dict[str, Any] = {"color": style.REFERENCE, "marker": "D", "markersize": 3.8, "linestyle": ""} | {
    "markerfacecolor": "white",
    "markeredgewidth": 1.2,
}
# how the table says what takes the place of what is removed → in words
BY = {
    "zero": "{} to zero",
    "mean": "{} to their mean at a later position",
    "target": "{} of the edited position",
    "next": "{} of another sequence",
}
# quantity → what the panel is called
PANELS = {
    "lost_share": "position 0 is\nno sink any more",
    "gone": "attention on\nposition 0 that goes",
    "moved_share": "position 1 becomes\na sink (its score)",
}


@style.styled
def draw(*, removals: pl.DataFrame, labels: dict[str, str]) -> Figure:
    """A block a model and prompts, a line a removal, each followed by its controls; a panel a quantity."""
    blocks = style.columns_of(removals, labels)
    if not blocks:
        return nothing_to_show()
    found = [_rows(removals.filter(model=model, prompts=prompts)) for model, prompts in blocks]
    heights = [len(rows) * ROW_HEIGHT + 1.0 for rows in found]
    figure = style.laid_out(sum(heights))
    parts = figure.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)[:, 0]
    lowest = min([0.0, *removals["gone"].to_list(), *removals["gone_low"].drop_nulls().to_list()])
    for (model, prompts), rows, part in zip(blocks, found, parts, strict=True):
        size = style.TITLE_SIZE + 1
        label = style.wrapped(f"{labels[model]}: {style.as_words(prompts)}", 0.85 * figure.get_figwidth(), size)
        part.suptitle(label, x=0.01, ha="left", size=size, weight="bold")
        grid = part.add_gridspec(1, len(PANELS))
        for i, (name, words) in enumerate(PANELS.items()):
            ax = part.add_subplot(grid[0, i])
            _panel(ax, rows, name)
            ax.set_xlim(max(lowest, -1) - 0.06 if name == "gone" else -0.06, 1.06)
            _lines(ax, rows, labelled=not i)
            ax.set_title(words, loc="left", size=style.TEXT_SIZE, color="0.2", linespacing=1.25)
            ax.set_xlabel("share of that attention" if name == "gone" else "share of sequences")
    style.legend(
        figure,
        [
            style.line_handle("removal", **TREATMENT),
            style.line_handle("control of the removal above it", **CONTROL),
            style.line_handle(
                "95 % interval: exact binomial of sequences, bootstrap of attention",
                color=style.REFERENCE,
                linewidth=2.0,
            ),
        ],
    )
    return figure


def _rows(removals: pl.DataFrame) -> list[dict[str, Any]]:
    """A row a removal or control, without repetition; a control is one that another removal is held against."""
    controls = set(removals["control"].drop_nulls())
    return [
        row | {"is_control": row["removal"] in controls}
        for row in removals.unique("removal", keep="first", maintain_order=True).to_dicts()
    ]


def _panel(ax: Axes, rows: Sequence[dict[str, Any]], name: str) -> None:
    for y, row in enumerate(rows):
        if row[name] is None:
            ax.text(
                0.03,
                y,
                "no sink to lose",
                size=style.TEXT_SIZE,
                va="center",
                color="0.4",
                style="italic",
                bbox=style.BEHIND,
            )
            continue
        shown = CONTROL if row["is_control"] else TREATMENT
        style.bar(ax, y, row[f"{name}_low"], row[f"{name}_high"], color=shown["color"])
        ax.plot([row[name]], [y], zorder=4, clip_on=False, **shown)
        at_right: dict[str, Any] = {
            "transform": ax.get_yaxis_transform(),
            "size": style.TEXT_SIZE,
            "va": "center",
            "color": "0.2",
        }
        ax.text(1.02, y, _text(row, name), **at_right)
    for level in (0, 1):
        ax.axvline(level, zorder=1, **style.LEVEL)
    ax.xaxis.set_major_locator(MultipleLocator(0.5))


def _text(row: dict[str, Any], name: str) -> str:
    """What stands beside a point: the counts, or the scores."""
    if name == "lost_share":
        return f"{row['lost']} of {row['before']}"
    if name == "moved_share":
        return f"{row['moved']} of {row['sequences']} ({row['second_score']:.2f})"
    return f"{row['first_unedited']:.2f} → {row['first_score']:.2f}"


def _lines(ax: Axes, rows: Sequence[dict[str, Any]], *, labelled: bool) -> None:
    """A line a removal, controls set in below the one that they belong to."""
    names = []
    for row in rows:
        what, _, by = row["removal"].rpartition(" by ")
        name = BY[by].format(what)
        name = name if row["is_control"] else f"{name} ({layers_text(row['layers'])})"
        names.append(style.wrapped(name, LABELS_WIDTH, style.TEXT_SIZE) + "  " * row["is_control"])
    ax.set_yticks(range(len(rows)), names if labelled else [""] * len(rows), size=style.TEXT_SIZE)
    for tick, row in zip(ax.get_yticklabels(), rows, strict=True):
        tick.set_color(CONTROL["color"] if row["is_control"] else "0.1")
    for y, row in enumerate(rows):
        if y and not row["is_control"]:
            ax.axhline(y - 0.5, color="0.85", linewidth=0.8, zorder=1)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
