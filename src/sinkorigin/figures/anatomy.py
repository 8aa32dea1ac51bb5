"""The anatomy of each model's sink: facts in words, and under them the first token's norm and the sink mass by layer."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sinkorigin.figures import style
from sinkorigin.statistics.anatomy import facts, main_row

SITE = "residual"


@style.styled
def draw(*, anatomy: pl.DataFrame, norm_ratio: pl.DataFrame, sink_mass: pl.DataFrame, labels: dict[str, str]) -> Figure:
    """One column a model: its card, the norms on the card's prompt set, and the sink mass on all of its prompt sets."""
    norms = norm_ratio.filter(site=SITE)
    colour = style.colours(style.in_order(anatomy["prompts"]))
    figure, axes = style.panels(style.models_of(anatomy, labels), rows=3, most=3)
    for model, (card, above, below) in axes.items():
        rows = anatomy.filter(model=model)
        main = main_row(rows)
        _card(card, facts(rows))
        style.title(card, labels[model], f"on {style.as_words(main['prompts'])}")
        if main["not_applicable"] is None:
            _norms(
                above, norms.filter(model=model, prompts=main["prompts"]).sort("layer"), main, colour[main["prompts"]]
            )
        for prompts in style.in_order(rows["prompts"]):
            mass = sink_mass.filter(model=model, prompts=prompts).sort("layer")
            style.line(below, mass, "layer", "mass", color=colour[prompts], marker="o")
            style.line(
                below, mass, "layer", "uniform", band=False, color=style.REFERENCE, linestyle="--", linewidth=1.0
            )
        below.set_ylim(-0.02, 1.02)
        below.set_xlabel("layer (−1: the embedding)")
        for ax in (above, below):
            ax.set_xlim(-1.5, (main["layers"] or 1) - 0.5)
            style.whole_x(ax)
        if style.is_leftmost(above):
            above.set_ylabel("norm of the residual\nstream (ℓ2)")
            below.set_ylabel("sink mass of position 0\n(share of attention)")
    style.legend(
        figure,
        [
            *style.prompt_handles(colour),
            *style.rest_handles(),
            style.line_handle("surge of the norm", color=style.REFERENCE, linestyle=style.DASHES[2], linewidth=1.0),
            style.line_handle("uniform attention", color=style.REFERENCE, linestyle="--", linewidth=1.0),
            style.band_handle(),
        ],
    )
    return figure


def _card(ax: Axes, lines: dict[str, str]) -> None:
    """Write the facts of a model into a panel without axes."""
    ax.set_axis_off()
    size = style.SUBTITLE_SIZE - 1
    wrapped = (style.wrapped(f"{name}: {words}", style.PANEL_WIDTH - 0.35, size) for name, words in lines.items())
    text = "\n".join(fact.replace("\n", "\n   ") for fact in wrapped)
    ax.text(0, 1, text, transform=ax.transAxes, ha="left", va="top", size=size, linespacing=1.15)


def _norms(ax: Axes, rows: pl.DataFrame, main: dict, colour: tuple) -> None:
    for name, (_, look) in style.FIRST_AND_REST.items():
        style.line(ax, rows, "layer", name, color=colour, **look)
    for layer in main["surges"]:
        ax.axvline(layer, color=style.REFERENCE, linestyle=style.DASHES[2], linewidth=1.0, zorder=1)
    style.log_y(ax)
