"""The anatomy of each model's sink: facts in words, and beside them the first token's norm and the sink mass by layer."""

from collections.abc import Mapping
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sinkorigin.figures import style
from sinkorigin.statistics.anatomy import facts, main_row

SITE = "residual"
WIDTHS = (3.0, 1.8, 1.8)  # inches: the facts of a model, its norms, its sink mass
LEAST_HEIGHT, SMALL_HEIGHT = 1.3, 1.1  # inches: of a row of one model, and of one of several trained here
MARKERS = "os^D"
UNIFORM: dict = {"color": style.REFERENCE, "linestyle": "--", "linewidth": 0.8}


@style.styled
def draw(
    *,
    anatomy: pl.DataFrame,
    norm_ratio: pl.DataFrame,
    sink_mass: pl.DataFrame,
    labels: dict[str, str],
    small: Mapping[str, str] = {},
) -> Figure:
    """A row a model: its facts, the norms on the prompt set that they are about, and the sink mass on all of its prompt sets.

    Args:
        small: model that shares a row with others, such as one trained here → the prompt set on which its sink is told.
    """
    norms = norm_ratio.filter(site=SITE)
    prompts = style.in_order(sink_mass["prompts"])
    looks = {
        name: {"color": colour, "linestyle": style.DASHES[i % len(style.DASHES)], "marker": MARKERS[i % len(MARKERS)]}
        for i, (name, colour) in enumerate(style.colours(prompts).items())
    }
    models = style.models_of(anatomy, labels)
    alone, others = ([m for m in models if (m in small) is aside] for aside in (False, True))
    blocks, columns = style.blocks_of(len(others), style.MOST_COLUMNS) if others else (0, 1)
    rows = [[model] for model in alone] + [others[i * columns : (i + 1) * columns] for i in range(blocks)]
    cards = {model: _card(anatomy.filter(model=model)) for model in alone}
    heights = [max(LEAST_HEIGHT, cards[m].count("\n") * style.LINE_HEIGHT + 0.3) for m in alone] + [
        SMALL_HEIGHT
    ] * blocks
    figure = style.laid_out(sum(heights) + len(rows) * style.TITLE_HEIGHT)
    grid = figure.add_gridspec(len(rows), 1, height_ratios=heights)
    for i, row in enumerate(rows):
        if row[0] in small:
            inner = grid[i, 0].subgridspec(1, columns)
            for j, model in enumerate(row):
                ax = figure.add_subplot(inner[0, j])
                here = anatomy.filter(model=model)
                _mass(ax, sink_mass.filter(model=model), looks)
                style.title(ax, labels[model], f"{style.as_words(small[model])}: {_sink(main_row(here, small[model]))}")
                if j == 0:
                    ax.set_ylabel("sink mass")
            continue
        [model] = row
        inner = grid[i, 0].subgridspec(1, len(WIDTHS), width_ratios=WIDTHS)
        said, norm, mass = (figure.add_subplot(inner[0, k]) for k in range(len(WIDTHS)))
        here = anatomy.filter(model=model)
        main = main_row(here)
        _say(said, labels[model], f"on {style.as_words(main['prompts'])}", cards[model])
        _norms(
            norm,
            norms.filter(model=model, prompts=main["prompts"]).sort("layer"),
            main,
            looks[main["prompts"]]["color"],
        )
        _mass(mass, sink_mass.filter(model=model), looks)
        mass.set_ylabel("sink mass")
    style.legend(
        figure,
        [
            *(style.line_handle(style.as_words(name), **look) for name, look in looks.items()),
            *(
                style.line_handle(f"norm of the {text}", color=style.REFERENCE, **look)
                for text, look in style.FIRST_AND_REST.values()
            ),
            style.line_handle("surge of the norm", color=style.REFERENCE, linestyle=style.DASHES[2], linewidth=0.9),
            style.line_handle("sink mass under uniform attention", **UNIFORM),
            style.band_handle(),
        ],
    )
    return figure


def _card(rows: pl.DataFrame) -> str:
    """The facts of a model, a paragraph each, as wide as their place."""
    lines = (style.wrapped(f"{name}: {words}", WIDTHS[0] - 0.2, style.TEXT_SIZE) for name, words in facts(rows).items())
    return "\n".join(fact.replace("\n", "\n   ") for fact in lines)


def _sink(row: Mapping[str, Any]) -> str:
    """Where the sink begins on one prompt set."""
    if row["mass"] is None:
        return "not applicable"
    begins = "no sink" if row["onset"] is None else f"sink from layer {row['onset']}"
    return f"{begins}, mass up to {row['mass']:.2f}"


def _mass(ax: Axes, sink_mass: pl.DataFrame, looks: Mapping[str, dict[str, Any]]) -> None:
    """The sink mass of a model on each of its prompt sets."""
    for prompts in style.in_order(sink_mass["prompts"]):
        mass = sink_mass.filter(prompts=prompts).sort("layer")
        style.line(ax, mass, "layer", "mass", **looks[prompts])
        style.line(ax, mass, "layer", "uniform", band=False, **UNIFORM)
    ax.set_ylim(-0.02, 1.02)
    ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    ax.set_xlabel("layer")
    style.whole_x(ax)


def _say(ax: Axes, label: str, prompts: str, card: str) -> None:
    """Write the facts of a model into a panel without axes."""
    ax.set_axis_off()
    ax.annotate(prompts, (0, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", va="bottom", color="0.3")
    ax.set_title(label, loc="left", pad=14)
    ax.text(0, 1, card, transform=ax.transAxes, ha="left", va="top", size=style.TEXT_SIZE, linespacing=1.2)


def _norms(ax: Axes, rows: pl.DataFrame, main: dict, colour: Any) -> None:
    """The norms of a model, or words where it has none."""
    if rows.is_empty():
        style.no_data(ax, main["not_applicable"] or "not measured")
        return
    for name, (_, look) in style.FIRST_AND_REST.items():
        style.line(ax, rows, "layer", name, color=colour, **look)
    for layer in main["surges"] or []:
        ax.axvline(layer, color=style.REFERENCE, linestyle=style.DASHES[2], linewidth=0.9, zorder=1)
    style.log_y(ax)
    ax.set_ylabel("norm of the residual")
    ax.set_xlabel("layer")
    style.whole_x(ax)
