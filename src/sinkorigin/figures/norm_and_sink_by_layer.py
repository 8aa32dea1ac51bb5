"""Norm of the first token and, under it, the sink mass, layer by layer: do they rise together (V3)?"""

from collections.abc import Collection

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from sinkorigin.figures import style

SITE = "residual"
SURGE: dict = {"marker": "v", "linestyle": (0, (4, 2))}
ONSET: dict = {"marker": "^", "linestyle": (0, (1, 1.2))}


@style.styled
def draw(
    *,
    norm_ratio: pl.DataFrame,
    norm_surge: pl.DataFrame,
    sink_mass: pl.DataFrame,
    sink_onset: pl.DataFrame,
    labels: dict[str, str],
    trained: Collection[str] = (),
) -> Figure:
    """One column a model: norms with their surge above, sink mass with its onset below, on the same layers.

    Args:
        trained: models trained here, in rows of their own.
    """
    norms = norm_ratio.filter(pl.col("site") == SITE)
    surges = norm_surge.filter(pl.col("site") == SITE)
    prompts = style.in_order(norms["prompts"])
    colour = style.colours(prompts)
    figure, axes = style.panels(style.models_of(norms, labels), rows=2, share_x=True, apart=trained)
    for model, (above, below) in axes.items():
        for kind in prompts:
            here = (pl.col("model") == model) & (pl.col("prompts") == kind)
            _norms(above, norms.filter(here).sort("layer"), colour[kind])
            _mass(below, sink_mass.filter(here).sort("layer"), colour[kind])
            _mark(above, norms.filter(here), "first", surges.filter(here), SURGE, colour[kind])
            _mark(below, sink_mass.filter(here), "mass", sink_onset.filter(here), ONSET, colour[kind])
        _connect(above, below, surges.filter(pl.col("model") == model), SURGE, colour)
        _connect(above, below, sink_onset.filter(pl.col("model") == model), ONSET, colour)
        style.title(above, labels[model], style.prompts_of(norms.filter(pl.col("model") == model)))
        below.set_xlabel("layer (−1: embedding)")
        style.whole_x(below)
        if style.is_leftmost(above):
            above.set_ylabel("residual norm\n(ℓ2)")
            below.set_ylabel("sink mass (share\nof attention)")
        style.log_y(above)
    for group in style.with_and_without(axes, trained):
        style.same_y([above for above, _ in group])
    style.share_ticks([below for _, below in axes.values()])
    style.legend(figure, _handles(colour, surges, sink_onset))
    return figure


def _norms(ax: Axes, rows: pl.DataFrame, colour: tuple) -> None:
    for name, (_, look) in style.FIRST_AND_REST.items():
        style.line(ax, rows, "layer", name, color=colour, **look)


def _mass(ax: Axes, rows: pl.DataFrame, colour: tuple) -> None:
    style.line(ax, rows, "layer", "mass", color=colour, marker="o")
    ax.plot(rows["layer"].to_numpy(), rows["uniform"].to_numpy(), color=colour, linestyle="--", linewidth=1.0)


def _mark(ax: Axes, rows: pl.DataFrame, column: str, found: pl.DataFrame, look: dict, colour: tuple) -> None:
    """Put a large marker on the curve at the layer that was found, if one was."""
    at = rows.filter(pl.col("layer").is_in(found["layer"].drop_nulls().to_list()))
    ax.plot(
        at["layer"].to_numpy(),
        at[column].to_numpy(),
        linestyle="",
        marker=look["marker"],
        markersize=6,
        color=colour,
        markeredgecolor="black",
        markeredgewidth=0.8,
        zorder=4,
    )


def _connect(above: Axes, below: Axes, found: pl.DataFrame, look: dict, colour: dict) -> None:
    """Draw lines through both panels at the layers found, side by side where several fall on one layer."""
    places = found.drop_nulls("layer").select("prompts", "layer").rows()
    shift = 1.2 if look is ONSET else -1.2  # points
    for prompts, layer in places:
        apart = [kind for kind, other in places if other == layer].index(prompts)
        for ax in (above, below):
            aside = ScaledTranslation(shift * (1 + 2 * apart) / 72, 0, ax.figure.dpi_scale_trans)
            shown = {"color": colour[prompts], "linestyle": look["linestyle"], "linewidth": 1.0, "zorder": 1}
            ax.add_artist(Line2D([layer, layer], [0, 1], transform=ax.get_xaxis_transform() + aside, **shown))


def _handles(colour: dict, surges: pl.DataFrame, onsets: pl.DataFrame) -> list:
    marker = {"color": "0.6", "markersize": 6, "markeredgecolor": "black", "linewidth": 1.0}
    return [
        *style.prompt_handles(colour),
        *style.rest_handles(),
        style.line_handle("sink mass under uniform attention", color=style.REFERENCE, linestyle="--", linewidth=1.0),
        style.line_handle(f"norm surge: first layer with first / others > {_threshold(surges)}", **SURGE, **marker),
        style.line_handle(f"sink onset: first layer with sink mass > {_threshold(onsets)}", **ONSET, **marker),
        style.band_handle(),
    ]


def _threshold(rows: pl.DataFrame) -> str:
    return " or ".join(f"{value:g}" for value in sorted(rows["threshold"].unique()))
