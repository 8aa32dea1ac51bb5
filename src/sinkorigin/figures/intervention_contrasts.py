"""Each treatment against its controls, paired by sequence: differences and effect sizes (I2, I3)."""

from collections.abc import Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sinkorigin.figures import style
from sinkorigin.figures.intervention_looks import layers_text, look, place_text, with_most_strengths
from sinkorigin.interventions.kind import SHOWN_STRENGTH, kind_named

ROW_HEIGHT = 0.155  # inches
ALONE: dict[str, Any] = {"linewidth": 2.6}
AMONG_ALL: dict[str, Any] = {"linewidth": 0.8}
POINT: dict[str, Any] = {"linestyle": "", "markeredgecolor": "white", "markeredgewidth": 0.5, "markersize": 4.5}
ZERO: dict[str, Any] = {"color": style.REFERENCE, "linewidth": 1.0, "zorder": 1}

_Row = tuple[str, dict[str, Any] | None, dict[str, Any]]  # label, row of the table (none in a heading), and look


@style.styled
def draw(*, intervention_contrasts: pl.DataFrame, labels: dict[str, str], kinds: Sequence[str]) -> Figure:
    """One block a (model, prompts): differences on the left, effect sizes on the right, a row a control and target."""
    contrasts = _shown(intervention_contrasts)
    blocks = style.columns_of(contrasts, labels)
    if not blocks:
        return style.without_data("no edit at the same layers, positions and strength as an amplification")
    tables = [
        contrasts.filter((pl.col("model") == model) & (pl.col("prompts") == prompts)) for model, prompts in blocks
    ]
    rows = [_rows(table, kinds) for table in tables]
    lengths = [len(some) + 0.6 for some in rows]
    figure = style.laid_out(sum(lengths) * ROW_HEIGHT + len(blocks) * 0.55 + 0.4)
    grid = figure.add_gridspec(len(blocks), 3, height_ratios=lengths)  # the differences take two of three columns
    first: list[Axes] = []
    for i, (model, prompts) in enumerate(blocks):
        difference = figure.add_subplot(grid[i, :2], sharex=first[0] if first else None)
        size = figure.add_subplot(grid[i, 2], sharex=first[1] if first else None, sharey=difference)
        first = first or [difference, size]
        _block(difference, size, rows[i])
        style.title(difference, labels[model], style.as_words(prompts))
        if i == len(blocks) - 1:
            difference.set_xlabel(
                "score of amplified variance − score of the control\n(share of attention, paired by sequence)"
            )
            size.set_xlabel("effect size d (mean / standard\ndeviation of the difference)")
    style.legend(
        figure,
        [
            style.line_handle("95 % bootstrap interval over sequences", color=style.REFERENCE, **ALONE),
            style.line_handle(
                "the same among all comparisons of the model and prompts", color=style.REFERENCE, **AMONG_ALL
            ),
        ],
    )
    return figure


def _shown(contrasts: pl.DataFrame) -> pl.DataFrame:
    """The treatment with the most strengths at each place, against each control at the strength nearest to the shown one: chosen before the run."""
    place = ["model", "prompts", "treatment_kind", "layers", "positions"]
    treated = {name: kind_named(name).control_of for name in style.in_order(contrasts["control_kind"])}
    controlled = pl.col("control_kind").replace_strict(treated, return_dtype=pl.String)
    contrasts = contrasts.filter(pl.col("treatment_kind") == controlled)
    return (
        with_most_strengths(contrasts, place, ["treatment"])
        .sort((pl.col("strength") / SHOWN_STRENGTH).log().abs(), maintain_order=True)
        .unique([*place, "target", "control"], keep="first", maintain_order=True)
    )


def _rows(contrasts: pl.DataFrame, kinds: Sequence[str]) -> list[_Row]:
    """The rows of a block from top to bottom."""
    controls = contrasts.select("control", "control_kind", "control_site", "site").unique(maintain_order=True).rows()
    found: list[_Row] = []
    several = contrasts["layers"].n_unique() > 1
    for control, kind, control_site, site in sorted(
        controls, key=lambda row: (kinds.index(row[1]), row[3] != row[2], row[0])
    ):
        alike = sum(row[1:] == (kind, control_site, site) for row in controls) > 1
        heading = kind_named(kind).label + (" after W_O" if control_site != site else "")
        marked = look(kind_named(kind))
        found.append((f"− {heading}" + (f" ({style.as_words(control)})" if alike else ""), None, marked))
        for row in contrasts.filter(pl.col("control") == control).sort("target", "positions", "layers").to_dicts():
            where = [place_text(row["positions"], row["target"])]
            where += [layers_text(row["layers"])] if several else []
            found.append((f"{', '.join(where)}, λ = {row['strength']:g}", row, marked))
    return found


def _block(difference: Axes, size: Axes, rows: Sequence[_Row]) -> None:
    for y, (_, row, marked) in enumerate(rows):
        if row is None:
            continue
        for ax, name, ends in ((difference, "difference", ("_all", "")), (size, "effect_size", ("",))):
            if row[name] is None:  # an effect size of differences that do not vary
                continue
            ax.plot([row[name]], [y], zorder=4, **POINT | marked)
            for end in ends:
                thickness = AMONG_ALL if end else ALONE
                low, high = row[f"{name}_low{end}"], row[f"{name}_high{end}"]
                style.bar(ax, y, low, high, color=marked["color"], **thickness)
    for ax in (difference, size):
        ax.axvline(0, **ZERO)
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
    difference.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    for tick, (_, row, _) in zip(difference.get_yticklabels(), rows, strict=True):
        if row is None:
            tick.set_fontweight("bold")
    difference.set_ylim(len(rows) - 0.4, -0.8)
    size.tick_params(labelleft=False)
