"""Score at the target over a grid of factors of the mean and of the deviation from it (I2, I3)."""

from typing import Any

import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from sinkorigin.figures import style
from sinkorigin.figures.intervention_looks import (
    has,
    is_any,
    kinds_in,
    layers_text,
    look,
    nothing_to_show,
    place_text,
    sink_handle,
    sink_sign,
)
from sinkorigin.interventions.kind import BASELINE, Edit, kind_named

HEIGHT = 1.9  # inches of one grid


@style.styled
def draw(*, interventions: pl.DataFrame, dispersion_grid: pl.DataFrame, labels: dict[str, str]) -> Figure:
    """One panel a grid: a (model, prompts, intervention, target)."""
    edits = interventions.filter(pl.col("kind") != BASELINE)
    grids = [kind for kind in kinds_in(edits) if kind.takes("mean_factor")]
    edits = edits.filter(is_any(grids))
    if edits.is_empty():
        return nothing_to_show()
    names = ("model", "prompts", "intervention", "target", "positions")
    keys = [
        (*key, tuple(positions))
        for model in style.models_of(edits, labels)
        for *key, positions in edits.filter(pl.col("model") == model).select(names).unique(maintain_order=True).rows()
    ]
    # one grid for all, so that the colour bar can stand beside them
    figure = style.laid_out(len(keys) * (HEIGHT + style.TITLE_HEIGHT))
    grid = figure.add_gridspec(len(keys), 1)
    axes = {key: figure.add_subplot(grid[i, 0]) for i, key in enumerate(keys)}
    highest = edits.select(pl.col("score").max()).item()
    mesh = None
    for key, ax in axes.items():
        here = has("positions", key[-1])
        for name, value in zip(names, key[:-1], strict=False):
            here &= pl.col(name) == value
        table = edits.filter(here)
        means, deviations = (table[name].unique().sort().to_list() for name in ("mean_factor", "strength"))
        deviations.reverse()  # the largest at the top
        cells = {
            (deviations.index(row["strength"]), means.index(row["mean_factor"])): (
                row["score"],
                f"{row['score']:.3f}" + sink_sign(row),
            )
            for row in table.to_dicts()
        }
        mesh = style.heat_map(
            ax,
            cells,
            rows=[f"{deviation:g}" for deviation in deviations],
            columns=[f"{mean:g}" for mean in means],
            colours=sns.color_palette("mako_r", as_cmap=True),
            limits=(0, highest),
        )
        facts = table.row(0, named=True)
        _mark(ax, kind_named(facts["kind"]), means, deviations)
        ax.set_xlabel("factor α of the mean over sequences")
        if style.is_leftmost(ax):
            ax.set_ylabel("factor λ of the deviation from it")
        where = f"{style.as_words(facts['prompts'])}, {place_text(facts['positions'], facts['target'])}, {layers_text(facts['layers'])}"
        levels = f"unedited {facts['baseline']:.3f}, uniform {facts['uniform']:.3f}"
        style.title(
            ax, labels[key[0]], f"{where}; {levels}; {_taus(dispersion_grid.filter(here))}", beside=style.COLOUR_BAR
        )
    if mesh is not None:
        figure.colorbar(mesh, ax=[*axes.values()], label="sink score at the target\n(share of attention)", aspect=14)
    style.legend(
        figure,
        [
            *(
                Patch(label=f"{line.label}: α = {factor}", **_frame(line))
                for kind in grids
                for line, factor in ((kind.at_mean_factor_one, "1"), (kind.at_equal_factors, "λ"))
            ),
            sink_handle(),
        ],
    )
    return figure


def _taus(found: pl.DataFrame) -> str:
    """Rank correlations of the score with the factors, as they stand in the title."""
    if found.is_empty():
        return "rank correlations not measured"
    row = found.row(0, named=True)

    def written(name: str) -> str:
        value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
        if value is None:
            return "not defined"
        return style.number(value, "z.2f") + style.ends(low, high, "z.2f")

    return (
        f"Kendall’s τ-b of the score with λ/α {written('dispersion_tau')}, with λ {written('variance_tau')}, "
        f"difference {written('difference')}"
    )


def _frame(kind: type[Edit]) -> dict[str, Any]:
    return {"facecolor": "none", "edgecolor": look(kind)["color"], "linewidth": 2.4}


def _mark(ax: Axes, grid: type[Edit], means: list[float], deviations: list[float]) -> None:
    """Frames around the two lines of the grid that are kinds by themselves; that of equal factors lies inside."""
    for j, mean in enumerate(means):
        if mean == 1:
            frame = _frame(grid.at_mean_factor_one)
            ax.add_patch(Rectangle((j + 0.03, 0.03), 0.94, len(deviations) - 0.06, zorder=3, **frame))
        if mean in deviations:
            i = deviations.index(mean)
            ax.add_patch(Rectangle((j + 0.09, i + 0.09), 0.82, 0.82, zorder=4, **_frame(grid.at_equal_factors)))
