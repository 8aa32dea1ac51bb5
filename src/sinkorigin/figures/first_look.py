"""The chain at first look: variance by position, norm and sink by layer, and what three edits of a later position do."""

from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sinkorigin.claims.first_look import shown_edits
from sinkorigin.figures import style
from sinkorigin.figures.intervention_looks import UNEDITED, UNIFORM
from sinkorigin.interventions.kind import kind_named

HEIGHT = 4.2  # inches


@style.styled
def draw(
    *,
    variance: pl.DataFrame,
    norm_ratio: pl.DataFrame,
    sink_mass: pl.DataFrame,
    super_neurons: pl.DataFrame,
    first_look: pl.DataFrame,
    labels: dict[str, str],
) -> Figure:
    """Four panels of one model on one prompt set, in the order of the chain.

    Args:
        first_look: rows of the table ``interventions`` of the edits of the first look.
        labels: of the one model.
    """
    [(_, label)] = labels.items()
    figure = style.laid_out(HEIGHT)
    grid = figure.add_gridspec(2, 2)
    panels = [figure.add_subplot(grid[i, j]) for i in range(2) for j in range(2)]
    _variance(panels[0], variance)
    _norms(panels[1], norm_ratio, super_neurons)
    _mass(panels[2], sink_mass)
    _edits(panels[3], first_look)
    style.title(panels[0], label, f"value aggregation of layer 0, {style.prompts_of(norm_ratio)}")
    for ax, words in zip(
        panels[1:],
        ("norm of the residual stream; super neurons", "attention to position 0", "a later position, edited"),
        strict=True,
    ):
        style.title(ax, "", words)
    style.legend(
        figure,
        [
            *style.rest_handles(),
            style.line_handle("layer with a super neuron", **style.SUPER_NEURON),
            style.line_handle("uniform attention", **UNIFORM),
            style.line_handle("unedited", **UNEDITED),
            style.band_handle("95 % bootstrap interval over sequences"),
        ],
    )
    return figure


def _variance(ax: Axes, variance: pl.DataFrame) -> None:
    rows = variance.filter((pl.col("site") == "value_aggregation") & (pl.col("layer") == 0)).sort("position")
    style.line(ax, rows, "position", "variance", color=style.PALETTE[0], marker="o")
    ax.set_xlabel("position")
    ax.set_ylabel("variance over sequences\n(mean over dims)")
    if rows["variance"].drop_nulls().gt(0).any():
        style.log_y(ax)


def _norms(ax: Axes, norm_ratio: pl.DataFrame, super_neurons: pl.DataFrame) -> None:
    rows = norm_ratio.filter(pl.col("site") == "residual").sort("layer")
    for name, (_, look) in style.FIRST_AND_REST.items():
        style.line(ax, rows, "layer", name, color=style.REFERENCE, **look)
    layers = super_neurons.filter(pl.col("super_neuron") & (pl.col("norm_change") > 0))["layer"].unique().to_list()
    at = rows.filter(pl.col("layer").is_in(layers))
    ax.plot(at["layer"].to_numpy(), at["first"].to_numpy(), zorder=4, **style.SUPER_NEURON)
    style.log_y(ax)
    ax.set_xlabel("layer (−1: embedding)")
    ax.set_ylabel("norm (ℓ2)")
    style.whole_x(ax)


def _mass(ax: Axes, sink_mass: pl.DataFrame) -> None:
    rows = sink_mass.sort("layer")
    style.line(ax, rows, "layer", "mass", color=style.PALETTE[0], marker="o")
    ax.plot(rows["layer"].to_numpy(), rows["uniform"].to_numpy(), **UNIFORM)
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel("layer")
    ax.set_ylabel("sink mass\n(share of attention)")
    style.whole_x(ax)


def _edits(ax: Axes, edits: pl.DataFrame) -> None:
    """Score of the target under each edit."""
    rows = shown_edits(edits)
    if not rows:
        style.no_data(ax, "no edit can be made, see the table of resolved interventions")
        return
    for y, row in enumerate(rows):
        look = kind_named(row["kind"]).look
        colour: Any = style.REFERENCE if look is None else style.PALETTE[look.colour]
        style.bar(ax, y, row["score_low"], row["score_high"], color=colour)
        ax.plot([row["score"]], [y], marker="o", markersize=4.5, color=colour, zorder=4)
    names = [
        "\n".join(filter(None, (kind_named(r["kind"]).label, kind_named(r["kind"]).strength_text(r["strength"], None))))
        for r in rows
    ]
    ax.set_yticks(range(len(rows)), names)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    for name, line in (("baseline", UNEDITED), ("uniform", UNIFORM)):
        for value in {row[name] for row in rows}:
            ax.axvline(value, zorder=1, **line)
    ax.set_xlim(left=0)
    ax.set_xlabel(f"sink score of position {rows[0]['target']}")
