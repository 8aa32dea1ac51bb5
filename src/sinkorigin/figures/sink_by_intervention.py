"""The sink score at the edited position under each intervention, by strength, with its controls (I1 to I3)."""

from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from sinkorigin.figures import style
from sinkorigin.figures.intervention_looks import (
    AMPLIFICATION,
    LOOKS,
    MASK,
    UNEDITED,
    UNIFORM,
    layers_text,
    one_of_each,
    place_text,
)

MOST_COLUMNS, PANEL_WIDTH = 5, 2.2  # more and narrower than elsewhere: they have one y axis
AT_ONE = (AMPLIFICATION, "norm_control", "random_directions", "mean_shift")  # kinds that do nothing at strength 1
HIGHLIGHT = {AMPLIFICATION: {"linewidth": 2.2}, MASK: {"linewidth": 2.0}}
CONTROL = {"linewidth": 1.3, "markersize": 3.8}


@style.styled
def draw(interventions: pl.DataFrame, labels: dict[str, str]) -> Figure:
    """One block of panels a model, one panel a (prompts, target); all have the same y axis.

    Args:
        interventions: interventions.parquet of every model and prompts, one below the other.
        labels: model → label, in the order of the blocks.
    """
    edits = _shown(interventions)
    models = style.models_of(edits, labels)
    keys = edits.select("prompts", "positions", "target").unique(maintain_order=True)
    prompts = style.in_order(keys["prompts"])
    places = sorted(keys.rows(), key=lambda key: (prompts.index(key[0]), key[2], key[1]))
    strengths = edits.filter(pl.col("kind") != MASK)["strength"].unique().sort().to_list()
    looks = _looks(edits)

    rows, columns = style.blocks_of(len(places), MOST_COLUMNS)
    height = rows * (style.PANEL_HEIGHT + 0.35) + 0.3
    figure = style.laid_out(columns * PANEL_WIDTH + style.MARGIN, max(len(models), 1) * height + 0.8)
    blocks = figure.subfigures(max(len(models), 1), 1, squeeze=False)[:, 0]
    axes: list[Axes] = []
    for model, block in zip(models, blocks, strict=False):
        own = edits.filter(pl.col("model") == model)
        axes += _block(block, own, labels[model], places, (rows, columns), strengths, looks)
    top = max((ax.get_ylim()[1] for ax in axes), default=1.0)
    for ax in axes:
        ax.set_ylim(0, top)
    style.legend(
        figure,
        [
            *(style.line_handle(label, **look) for label, look in looks.values()),
            style.line_handle("unedited", **UNEDITED),
            style.line_handle("uniform attention", **UNIFORM),
            style.band_handle(),
        ],
    )
    return figure


def _shown(interventions: pl.DataFrame) -> pl.DataFrame:
    """Edits of later positions of the kinds shown; masks only of layers whose variance is amplified, where any is."""
    edits = one_of_each(interventions.filter(pl.col("kind").is_in(list(LOOKS)) & (pl.col("target") > 0)))
    where = ["model", "prompts", "positions"]
    amplified = edits.filter(pl.col("kind") == AMPLIFICATION).select(*where, "layers").unique()
    beside = edits.join(amplified.select(where).unique(), on=where, how="anti", maintain_order="left")
    like = edits.join(amplified, on=[*where, "layers"], how="semi", maintain_order="left")
    other = edits.filter(pl.col("kind") != MASK)
    return pl.concat([other, *(table.filter(pl.col("kind") == MASK) for table in (like, beside))])


def _looks(edits: pl.DataFrame) -> dict[tuple[str, str], tuple[str, dict[str, Any]]]:
    """(kind, layers) → its label and its look: colour and marker say the kind, the dashes tell the layers apart."""
    looks = {}
    for kind in LOOKS:
        for i, layers in enumerate(style.in_order(edits.filter(pl.col("kind") == kind)["layers"])):
            look = LOOKS[kind] | {"linestyle": style.DASHES[i % len(style.DASHES)]} | HIGHLIGHT.get(kind, CONTROL)
            looks[kind, layers] = f"{style.as_words(kind)}, {layers_text(layers)}", look
    return looks


def _block(
    block: SubFigure,
    edits: pl.DataFrame,
    label: str,
    places: list[tuple[str, str, int]],
    shape: tuple[int, int],
    strengths: list[float],
    looks: dict[tuple[str, str], tuple[str, dict[str, Any]]],
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
        here = (pl.col("prompts") == prompts) & (pl.col("positions") == positions) & (pl.col("target") == target)
        own = edits.filter(here)
        row, column = divmod(i, shape[1])
        ax = block.add_subplot(grid[row, column])
        if own.is_empty():
            ax.set_axis_off()  # holds the place, so that the columns of all blocks stand below one another
            continue
        _panel(ax, own, looks)
        _strengths(ax, strengths)
        style.title(ax, "", f"{style.as_words(prompts)}, {place_text(positions, target)}")
        if row in labelled:
            ax.tick_params(labelleft=False)
        else:
            ax.set_ylabel("sink score at the target (share of\nattention, mean over layers, heads)")
        labelled.add(row)
        axes.append(ax)
    return axes


def _panel(ax: Axes, edits: pl.DataFrame, looks: dict[tuple[str, str], tuple[str, dict[str, Any]]]) -> None:
    for order, ((kind, layers), (_, look)) in enumerate(looks.items()):
        rows = edits.filter((pl.col("kind") == kind) & (pl.col("layers") == layers)).drop_nulls("score")
        rows = rows.sort("strength")
        above = 4 + (len(looks) - order) / len(looks)  # what comes first in the legend lies on top
        if kind == MASK:  # has no strength: one value, across the panel
            for score, low, high in rows.select("score", "score_low", "score_high").rows():
                ax.axhline(score, zorder=above, **look)
                ax.axhspan(low, high, color=look["color"], alpha=style.BAND_ALPHA, linewidth=0, zorder=1)
        elif len(rows) == 1:  # one strength makes no curve
            strength, score, low, high = rows.select("strength", "score", "score_low", "score_high").row(0)
            ax.vlines(strength, low, high, color=look["color"], linewidth=1.4, zorder=above)
            ax.plot([strength], [score], zorder=above, **look)
        elif len(rows):
            curve = rows.select("strength", "score", "score_low", "score_high")
            if kind in AT_ONE and 1.0 not in rows["strength"]:
                unedited = rows.head(1).select(
                    pl.lit(1.0).alias("strength"),
                    *(pl.col(f"baseline{end}").alias(f"score{end}") for end in ("", "_low", "_high")),
                )
                curve = pl.concat([curve, unedited]).sort("strength")
            style.line(ax, curve, "strength", "score", zorder=above, **look)
    for name, look in (("baseline", UNEDITED), ("uniform", UNIFORM)):
        for value in edits[name].drop_nulls().unique():
            ax.axhline(value, zorder=3, **look)


def _strengths(ax: Axes, strengths: list[float]) -> None:
    """The x axis, the same in every panel."""
    if not strengths:  # a study of masks alone
        ax.set_xticks([])
        return
    ends = min(1.0, strengths[0]), max(1.0, strengths[-1])
    ax.set_xscale("log", base=2)
    ax.set_xlim(ends[0] / 2**0.3, ends[1] * 2**0.3)
    ax.xaxis.set_major_locator(FixedLocator(_apart(sorted({1.0, *strengths}))))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("strength λ (factor; log2 scale)")


def _apart(strengths: list[float]) -> list[float]:
    """The strengths that get a tick: all, unless two are so close that their labels would touch."""
    least = (strengths[-1] / strengths[0]) ** (1 / 8)
    ticks = strengths[:1]
    for strength in strengths[1:]:
        if strength >= ticks[-1] * least:
            ticks.append(strength)
    return ticks
