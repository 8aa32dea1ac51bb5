"""The chain from an edit to the sink that it makes, with the share of the effect that goes through each link."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from sinkorigin.figures import style
from sinkorigin.figures.intervention_looks import layers_text, nothing_to_show
from sinkorigin.interventions.kind import kind_named
from sinkorigin.interventions.links import DIMS, KEY, LINKS, NEURONS
from sinkorigin.statistics.uniform import SINK_FACTOR

MOST_PANELS = 2  # beside one drawing of the chain; more go on below
ROW_HEIGHT, CHAIN_WIDTH, PANEL_WIDTH, NUMBERS_WIDTH = 0.4, 1.35, 1.5, 1.15  # inches
RANGE = (-60.0, 200.0)  # shares in per cent that the axis shows at most; an arrow and the numbers say what lies beyond
# direction → what the legend says, its look, and its place in the row of a link
DIRECTIONS: dict[str, tuple[str, dict[str, Any], float]] = {
    "inserted": (
        "inserted: unedited, with this link alone as under the edit (sufficient where it makes all of the effect)",
        {"color": style.PALETTE[0], "marker": "o", "markersize": 4.5, "linestyle": ""},
        -0.17,
    ),
    "restored": (
        "restored: edited, with this link alone as unedited (necessary where it takes all of the effect)",
        {"color": style.PALETTE[3], "marker": "D", "markersize": 4, "linestyle": ""}
        | {"markerfacecolor": "white", "markeredgewidth": 1.1},
        0.17,
    ),
}
# link → why a model has no row of it
LACKING = {
    NEURONS: "no super neuron starts a surge of the norm",
    DIMS: "no super neuron starts a surge, so none writes them",
    KEY: "keys of this model’s attention cannot be replaced",
}
BOX: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.12", "linewidth": 0.9, "mutation_aspect": 0.35}
ARROW: dict[str, Any] = {"arrowstyle": "-|>", "color": "0.25", "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0}
WORDS: dict[str, Any] = {"size": style.TEXT_SIZE, "va": "center", "ha": "left", "color": "0.2"}

_Column = tuple[str, str, int]  # prompts, cause, target


@style.styled
def draw(*, mediation: pl.DataFrame, labels: dict[str, str]) -> Figure:
    """A line a model: the chain from top to bottom, and beside it a panel for each prompts and edit that is followed."""
    followed = mediation.drop_nulls("cause")
    models = style.models_of(followed, labels)
    if not models:
        return nothing_to_show()
    lines = [(model, columns) for model in models for columns in _lines(followed.filter(pl.col("model") == model))]
    most = max(len(columns) for _, columns in lines)
    figure = style.laid_out(len(lines) * ((len(LINKS) + 2) * ROW_HEIGHT + 1.0))
    blocks = figure.subfigures(len(lines), 1, squeeze=False)[:, 0]
    limits = _limits(followed)
    for i, ((model, columns), block) in enumerate(zip(lines, blocks, strict=True)):
        size = style.TITLE_SIZE + 1
        if not i or model != lines[i - 1][0]:
            label = style.wrapped(labels[model], 0.85 * figure.get_figwidth(), size)
            block.suptitle(label, x=0.01, ha="left", size=size, weight="bold")
        grid = block.add_gridspec(1, 1 + most, width_ratios=[CHAIN_WIDTH, *[PANEL_WIDTH] * most])
        here = followed.filter(pl.col("model") == model)
        _chain(block.add_subplot(grid[0, 0]), here, columns)
        for j, (prompts, cause, target) in enumerate(columns):
            rows = here.filter(prompts=prompts, cause=cause, target=target)
            _panel(block.add_subplot(grid[0, 1 + j]), rows, limits)
    style.legend(
        figure,
        [
            *(style.line_handle(words, **look) for words, look, _ in DIRECTIONS.values()),
            style.line_handle("95 % bootstrap interval over sequences", color=style.REFERENCE, linewidth=2.0),
        ],
    )
    return figure


def _lines(rows: pl.DataFrame) -> list[list[_Column]]:
    """What is followed in a model, in lines of panels."""
    columns = rows.select("prompts", "cause", "target").unique(maintain_order=True).rows()
    count, width = style.blocks_of(len(columns), MOST_PANELS)
    return [columns[i * width : (i + 1) * width] for i in range(count)]


def _limits(followed: pl.DataFrame) -> tuple[float, float]:
    """Ends of the axis of shares, in per cent, for all panels."""
    ends = followed.select(pl.col("share_low").min(), pl.col("share_high").max()).row(0)
    low, high = min(0.0, 100 * (ends[0] or 0.0)), max(100.0, 100 * (ends[1] or 0.0))
    return max(low, RANGE[0]) - 8, min(high, RANGE[1]) + 8


def _chain(ax: Axes, rows: pl.DataFrame, columns: Sequence[_Column]) -> None:
    """Boxes from the edit to the sink with arrows between them; a link that no panel has is drawn pale."""
    _rows_of_links(ax)
    ax.set_xlim(0, 1)
    ax.set_axis_off()
    shown = pl.concat([rows.filter(prompts=prompts, cause=cause) for prompts, cause, _ in columns])
    target = columns[0][2]
    texts = [
        (f"edit of position {target}", _layers(shown, "layers")),
        *((link, _layers(shown.filter(mediator=link), "mediator_layers")) for link in LINKS),
        (f"sink at position {target}", "all layers"),
    ]
    for y, (name, layers) in enumerate(texts):
        there = layers is not None
        end = y in (0, len(texts) - 1)
        face = "0.25" if end else "0.95" if there else "white"
        ax.add_patch(
            FancyBboxPatch(
                (0.02, y - 0.3), 0.96, 0.6, facecolor=face, edgecolor="0.25" if there else "0.7", clip_on=False, **BOX
            )
        )
        colour = "white" if end else "0.1" if there else "0.6"
        ax.text(0.5, y - 0.11 if layers else y, name, size=style.TITLE_SIZE, va="center", ha="center", color=colour)
        if layers:
            ax.text(0.5, y + 0.16, layers, size=style.TEXT_SIZE, va="center", ha="center", color=colour)
        if y:
            ax.annotate("", (0.5, y - 0.3), (0.5, y - 0.7), arrowprops=ARROW)


def _layers(rows: pl.DataFrame, name: str) -> str | None:
    """Layers of some rows; None where there are no rows."""
    found = rows[name].unique(maintain_order=True).to_list()
    return None if not found else layers_text(found[0]) if len(found) == 1 else "layers differ, see the table"


def _rows_of_links(ax: Axes) -> None:
    ax.set_ylim(len(LINKS) + 1.5, -0.5)


def _panel(ax: Axes, rows: pl.DataFrame, limits: tuple[float, float]) -> None:
    """Shares of one edit, a row a link, and above and below them the effect and the sinks that are made of it."""
    _rows_of_links(ax)
    whole, unedited = (rows.filter(direction=name).row(0, named=True) for name in ("all", "none"))
    inside = ax.get_yaxis_transform()
    for row, text in ((0, _effect(whole)), (len(LINKS) + 1, _sinks(whole, unedited))):
        ax.text(0.0, row, text, transform=inside, linespacing=1.25, **WORDS)
    shares = rows.drop_nulls("share")
    reasons = rows["not_applicable"].drop_nulls().unique(maintain_order=True)
    if shares.is_empty() and len(reasons):
        _say(ax, (len(LINKS) + 1) / 2, f"not applicable: {reasons[0]}")
    else:
        for row, link in enumerate(LINKS, start=1):
            found = shares.filter(mediator=link)
            if found.is_empty():
                _say(ax, row, f"not applicable: {LACKING.get(link, 'not patched')}")
            for share in found.to_dicts():
                _share(ax, row, share, limits)
    ax.vlines([0, 100], 0.5, len(LINKS) + 0.5, zorder=1, **style.LEVEL)
    ax.set_xlim(limits)
    ax.set_xticks(np.arange(50 * np.ceil(limits[0] / 50), limits[1], 50))
    ax.grid(axis="x", visible=False)
    ax.set_xlabel("share of the effect (%)")
    ax.set_yticks(range(1, len(LINKS) + 1), [])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    strength = kind_named(whole["kind"]).strength_text(whole["strength"], None)
    lines = [", ".join(filter(None, [style.as_words(whole["cause"]), strength])), style.as_words(whole["prompts"])]
    room = PANEL_WIDTH + NUMBERS_WIDTH - 0.2
    words = "\n".join(style.wrapped(line, room, style.TITLE_SIZE) for line in lines)
    ax.set_title(words, loc="left", pad=5, linespacing=1.25)


def _share(ax: Axes, row: int, share: dict[str, Any], limits: tuple[float, float]) -> None:
    _, look, offset = DIRECTIONS[share["direction"]]
    y = row + offset
    value, (low, high) = 100 * share["share"], _percent(share, "share")
    style.bar(ax, y, low, high, color=look["color"])
    beyond = {"marker": "<" if value < limits[0] else ">"} if not limits[0] <= value <= limits[1] else {}
    ax.plot([np.clip(value, *limits)], [y], zorder=4, clip_on=False, **look | beyond)
    text = f"{style.number(value, 'z.0f')} %" + style.ends(low, high, "z.0f")
    ax.text(1.02, y, text, transform=ax.get_yaxis_transform(), **WORDS | {"color": look["color"]})


def _say(ax: Axes, row: float, text: str) -> None:
    """Words in the place of shares that are not there."""
    text = style.wrapped(text, PANEL_WIDTH + NUMBERS_WIDTH - 0.2, style.TEXT_SIZE)
    ax.text(
        0.02,
        row,
        text,
        transform=ax.get_yaxis_transform(),
        style="italic",
        bbox=style.BEHIND,
        **WORDS | {"color": "0.4"},
    )


def _effect(whole: dict[str, Any]) -> str:
    change = style.number(whole["effect"], "+z.3f") + style.ends(whole["effect_low"], whole["effect_high"], "z.3f")
    return f"score {whole['unedited']:.3f} → {whole['score']:.3f}\nchange {change}"


def _sinks(whole: dict[str, Any], unedited: dict[str, Any]) -> str:
    share = f"{100 * whole['sink_share']:.0f} %" + style.ends(*_percent(whole, "sink_share"), "z.0f")
    return (
        f"above {SINK_FACTOR:g} × uniform in {whole['sinks']} of {whole['sequences']} sequences:\n"
        f"{share}; unedited in {unedited['sinks']}"
    )


def _percent(row: dict[str, Any], name: str) -> tuple[float | None, float | None]:
    """Ends of an interval of a share, in per cent."""
    low, high = (None if row[f"{name}{end}"] is None else 100 * row[f"{name}{end}"] for end in ("_low", "_high"))
    return low, high
