"""Effect of the mask on the score at the masked position, by the layers in which it stands and by position (I1)."""

import polars as pl
import seaborn as sns
from matplotlib.figure import Figure

from sinkorigin.figures import style
from sinkorigin.figures.intervention_looks import (
    has,
    is_any,
    kinds_in,
    layers_text,
    nothing_to_show,
    sink_handle,
    sink_sign,
)
from sinkorigin.interventions.kind import BASELINE
from sinkorigin.interventions.layers import RULES

CELL_HEIGHT = 0.24  # inches


@style.styled
def draw(*, interventions: pl.DataFrame, labels: dict[str, str]) -> Figure:
    """One panel a (model, prompts) whose masks stand at several sets of layers; of every one where none has several."""
    edits = interventions.filter(pl.col("kind") != BASELINE)
    masks = edits.filter(is_any(kind for kind in kinds_in(edits) if kind.compared_at == "layers"))
    if masks.is_empty():
        return nothing_to_show()
    several = pl.col("layers").n_unique().over("model", "prompts") > 1
    shown = masks.filter(several)
    shown = masks if shown.is_empty() else shown
    panels = [
        (model, prompts, shown.filter((pl.col("model") == model) & (pl.col("prompts") == prompts)))
        for model, prompts in style.columns_of(shown, labels)
    ]
    shapes = [(table["layers"].n_unique(), table.select("positions", "target").n_unique()) for *_, table in panels]
    figure = style.laid_out(sum(rows * CELL_HEIGHT + 0.75 for rows, _ in shapes))
    grid = figure.add_gridspec(len(panels), 1, height_ratios=[rows for rows, _ in shapes])
    largest = shown.select(pl.col("effect").abs().max()).item()
    axes = []
    for i, (model, prompts, table) in enumerate(panels):
        ax = figure.add_subplot(grid[i, 0])
        layers = sorted(style.in_order(table["layers"]))
        places = sorted(table.select("positions", "target").unique().rows(), key=lambda place: (place[1], place[0]))
        cells = {
            (layers.index(row["layers"]), places.index((row["positions"], row["target"]))): (
                row["effect"],
                f"{row['effect']:+.3f}".replace("-", "−") + sink_sign(row),
            )
            for row in table.to_dicts()
        }
        mesh = style.heat_map(
            ax,
            cells,
            rows=[_row_text(some, table.filter(has("layers", some))) for some in layers],
            columns=[
                str(target) if len(positions) == 1 else f"{target}\n(of {','.join(map(str, positions))})"
                for positions, target in places
            ],
            colours=sns.color_palette("vlag", as_cmap=True),
            limits=(-largest, largest),
        )
        ax.set_xlabel("masked position (token)")
        ax.set_ylabel("layers with the mask")
        style.title(ax, labels[model], style.as_words(prompts), beside=style.COLOUR_BAR + 0.6)
        axes.append(ax)
    figure.colorbar(mesh, ax=axes, label="score at the position,\nmasked − unedited", aspect=12, pad=0.02)
    style.legend(figure, [sink_handle()])
    return figure


def _row_text(layers: list[int], edits: pl.DataFrame) -> str:
    """Layers, with the rule that gives them if one does."""
    rules = [style.as_words(rule) for rule in style.in_order(edits["layers_rule"]) if rule in RULES]
    return layers_text(layers) + (f" ({', '.join(rules)})" if rules else "")
