"""The sink score at the edited position under each intervention, by strength, with its controls (I1 to I3)."""

from collections.abc import Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from sinkorigin.figures import style
from sinkorigin.figures.intervention_looks import (
    SINK,
    SINK_WORDS,
    UNEDITED,
    has,
    is_any,
    layers_text,
    look,
    nothing_to_show,
    one_of_each,
    place_text,
    strength_axis,
    with_layers_text,
)
from sinkorigin.interventions.kind import Edit, kind_named
from sinkorigin.statistics.uniform import SINK_FACTOR

PANEL_HEIGHT = 1.25  # inches
CONTROL = {"linewidth": 1.0, "markersize": 2.8}

_Look = tuple[type[Edit], str, str, dict[str, Any]]  # kind and layers, their label and look


@style.styled
def draw(*, interventions: pl.DataFrame, labels: dict[str, str], kinds: Sequence[str]) -> Figure:
    """One block of panels a model, one panel a (prompts, target); all have the same y axis."""
    shown = [kind for kind in map(kind_named, kinds) if kind.look is not None]
    edits = with_layers_text(_shown(interventions, shown))
    if edits.is_empty():
        return nothing_to_show()
    models = style.models_of(edits, labels)
    keys = edits.select("prompts", "positions", "target").unique(maintain_order=True)
    prompts = style.in_order(keys["prompts"])
    places = sorted(keys.rows(), key=lambda key: (prompts.index(key[0]), key[2], key[1]))
    scaled = edits.filter(is_any(kind for kind in shown if kind.takes("strength")))
    strengths = scaled["strength"].unique().sort().to_list()
    looks = _looks(edits, shown)

    rows, columns = style.blocks_of(len(places), style.MOST_COLUMNS)
    figure = style.laid_out(len(models) * (rows * (PANEL_HEIGHT + 0.3) + 0.25))
    blocks = figure.subfigures(len(models), 1, squeeze=False)[:, 0]
    axes: list[Axes] = []
    for model, block in zip(models, blocks, strict=True):
        axes += _block(
            block, edits.filter(pl.col("model") == model), labels[model], places, (rows, columns), strengths, looks
        )
    top = max((ax.get_ylim()[1] for ax in axes), default=1.0)
    for ax in axes:
        ax.set_ylim(0, top)
    style.legend(
        figure,
        [
            *(style.line_handle(label, **line) for *_, label, line in looks),
            style.line_handle("unedited", **UNEDITED),
            style.line_handle(SINK_WORDS, **SINK),
            style.band_handle(),
        ],
    )
    return figure


def _shown(interventions: pl.DataFrame, kinds: Sequence[type[Edit]]) -> pl.DataFrame:
    """Edits of later positions; masks only of layers that a treatment with a strength edits, where there is any."""
    edits = one_of_each(interventions.filter(is_any(kinds) & (pl.col("target") > 0)))
    where = ["model", "prompts", "positions"]
    treated = edits.filter(is_any(kind for kind in kinds if kind.compared_at == "strength"))
    treated = treated.select(*where, "layers").unique()
    beside = edits.join(treated.select(where).unique(), on=where, how="anti", maintain_order="left")
    alike = edits.join(treated, on=[*where, "layers"], how="semi", maintain_order="left")
    without = is_any(kind for kind in kinds if not kind.takes("strength"))
    return pl.concat([edits.filter(~without), alike.filter(without), beside.filter(without)])


def _looks(edits: pl.DataFrame, kinds: Sequence[type[Edit]]) -> list[_Look]:
    """Label and look of each kind and layers: colour and marker say the kind, the dashes tell the layers apart."""
    looks = []
    for kind in kinds:
        weight = CONTROL if kind.look.linewidth is None else {"linewidth": kind.look.linewidth}
        for i, layers in enumerate(style.in_order(edits.filter(is_any([kind]))["layers_text"])):
            shown = look(kind) | {"linestyle": style.DASHES[i % len(style.DASHES)]} | weight
            looks.append((kind, layers, f"{kind.label}, {layers}", shown))
    return looks


def _block(
    block: SubFigure,
    edits: pl.DataFrame,
    label: str,
    places: list[tuple[str, list[int], int]],
    shape: tuple[int, int],
    strengths: list[float],
    looks: Sequence[_Look],
) -> list[Axes]:
    """The panels of one model, under its label; a place that it was not edited at stays empty."""
    size = style.TITLE_SIZE + 1
    # a bold letter is wider than the one that the wrapping counts with
    label = style.wrapped(label, 0.85 * block.get_figure(root=True).get_figwidth(), size)
    block.suptitle(label, x=0.01, ha="left", size=size, weight="bold")
    grid = block.add_gridspec(*shape)
    axes: list[Axes] = []
    labelled = set()
    for i, (prompts, positions, target) in enumerate(places):
        here = edits.filter(pl.col("prompts") == prompts, has("positions", positions), pl.col("target") == target)
        row, column = divmod(i, shape[1])
        ax = block.add_subplot(grid[row, column])
        if here.is_empty():
            ax.set_axis_off()  # holds the place, so that the columns of all blocks stand below one another
            continue
        _panel(ax, here, looks)
        strength_axis(ax, strengths)
        layers = style.in_order(here["layers"])
        # where the legend has the rule, because other models have other layers
        numbers = (
            [layers_text(layers[0])] if len(layers) == 1 and here["layers_text"][0] != layers_text(layers[0]) else []
        )
        style.title(ax, "", ", ".join([style.as_words(prompts), place_text(positions, target), *numbers]))
        if row in labelled:
            ax.tick_params(labelleft=False)
        else:
            ax.set_ylabel("sink score at the target\n(share of attention)")
        labelled.add(row)
        axes.append(ax)
    return axes


def _panel(ax: Axes, edits: pl.DataFrame, looks: Sequence[_Look]) -> None:
    for order, (kind, layers, _, line) in enumerate(looks):
        rows = edits.filter(is_any([kind]), pl.col("layers_text") == layers).drop_nulls("score").sort("strength")
        above = 4 + (len(looks) - order) / len(looks)  # what comes first in the legend lies on top
        if not kind.takes("strength"):  # one value, across the panel
            for score, low, high in rows.select("score", "score_low", "score_high").rows():
                ax.axhline(score, zorder=above, **line)
                if None not in (low, high):
                    ax.axhspan(low, high, color=line["color"], alpha=style.BAND_ALPHA, linewidth=0, zorder=1)
        elif len(rows) == 1:  # one strength makes no curve
            strength, score, low, high = rows.select("strength", "score", "score_low", "score_high").row(0)
            style.bar(ax, strength, low, high, upright=True, color=line["color"], linewidth=1.4, zorder=above)
            ax.plot([strength], [score], zorder=above, **line)
        elif len(rows):
            curve = rows.select("strength", "score", "score_low", "score_high")
            if kind.identity_at == 1 and 1.0 not in rows["strength"]:
                unedited = rows.head(1).select(
                    pl.lit(1.0).alias("strength"),
                    *(pl.col(f"baseline{end}").alias(f"score{end}") for end in ("", "_low", "_high")),
                )
                curve = pl.concat([curve, unedited]).sort("strength")
            style.line(ax, curve, "strength", "score", zorder=above, **line)
    for levels, line in ((edits["baseline"], UNEDITED), (SINK_FACTOR * edits["uniform"], SINK)):
        for value in levels.drop_nulls().unique():
            ax.axhline(value, zorder=3, **line)
