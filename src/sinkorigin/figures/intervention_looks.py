"""Looks and names of the interventions in every figure that shows them, and the choice of one among several alike."""

from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from sinkorigin.figures import style
from sinkorigin.interventions.kind import Edit, kind_named
from sinkorigin.interventions.layers import FOUND, RULES
from sinkorigin.interventions.schemas import layer_runs
from sinkorigin.statistics.uniform import SINK_FACTOR

UNEDITED: dict[str, Any] = {"color": style.REFERENCE, "linestyle": "--", "linewidth": 1.2}
UNIFORM: dict[str, Any] = {"color": style.REFERENCE, "linestyle": ":", "linewidth": 1.4}
SINK: dict[str, Any] = UNIFORM | {"linestyle": style.DASHES[3]}  # of the score from which a position is a sink
SINK_WORDS = f"a sink from here on: {SINK_FACTOR:g} × what uniform attention gives"


def look(kind: type[Edit]) -> dict[str, Any]:
    """Colour and marker of a kind, which it keeps whatever else a study runs."""
    return {"color": style.PALETTE[kind.look.colour], "marker": kind.look.marker}


def kinds_in(edits: pl.DataFrame) -> list[type[Edit]]:
    """The kinds of some rows, in the order in which they appear."""
    return [kind_named(name) for name in style.in_order(edits["kind"])]


def is_any(kinds: Iterable[type[Edit]]) -> pl.Expr:
    """Whether a row's kind is one of these."""
    return pl.col("kind").is_in([kind.kind for kind in kinds])


def has(column: str, numbers: Sequence[int]) -> pl.Expr:
    """Whether a row has just these layers or positions."""
    return pl.col(column) == pl.lit(list(numbers), dtype=pl.List(pl.Int32))


def layers_text(layers: Sequence[int]) -> str:
    """[0, 1, 2, 3, 5] as ``layers 0–3, 5``."""
    return f"layer{'s' if len(layers) > 1 else ''} {', '.join(layer_runs(layers)).replace('-', '–')}"


def with_layers_text(edits: pl.DataFrame) -> pl.DataFrame:
    """Rows with a column ``layers_text``: the numbers, or the rule where it gives other numbers in another row."""
    several = edits.group_by("layers_rule").agg(pl.col("layers").n_unique().alias("sets"))
    by_rule = {rule for rule, sets in several.rows() if sets > 1 and (rule in RULES or rule == FOUND)}
    texts = [
        f"layers: {style.as_words(rule)}" if rule in by_rule else layers_text(layers)
        for rule, layers in edits.select("layers_rule", "layers").rows()
    ]
    return edits.with_columns(pl.Series("layers_text", texts, dtype=pl.String))


def nothing_to_show(reason: str = "no edit that is shown here could be made; the claims say why") -> Figure:
    """A figure that says why it is empty."""
    return style.without_data(reason)


def place_text(positions: Sequence[int], target: int) -> str:
    """The target, with the positions that are edited together with it."""
    others = [str(position) for position in positions if position != target]
    return f"position {target}" + (f" (with {', '.join(others)})" if others else "")


def sink_sign(edit: dict[str, Any]) -> str:
    """The sign of a sink, as it stands after the score in a cell of a heat map."""
    return " ●" if edit["sink"] else ""


def sink_handle() -> Line2D:
    """The legend's entry for the sign in the cells."""
    text = f"a sink is made: score above {SINK_FACTOR:g} × uniform and above unedited, among all comparisons"
    return style.line_handle(text, color="0.1", marker="o", linestyle="", markersize=5)


def one_of_each(edits: pl.DataFrame) -> pl.DataFrame:
    """Rows of one intervention for each model, prompts, kind, layers and positions.

    Where there are several: one that edits before W_O, and of these the one with the most strengths.

    Args:
        edits: rows of interventions.parquet or intervention_layers.parquet, without the baseline.
    """
    place = ["model", "prompts", "kind", "layers", "positions"]
    return with_most_strengths(edits, place, ["site", "intervention"], pl.col("site") != "value_aggregation")


def with_most_strengths(table: pl.DataFrame, place: list[str], names: list[str], *last: pl.Expr) -> pl.DataFrame:
    """Rows of the one of ``names`` at each ``place`` that has the most strengths; ``last`` is true where another goes first."""
    chosen = (
        table.group_by([*place, *names], maintain_order=True)
        .agg(pl.col("strength").n_unique().cast(pl.Int64).alias("strengths"))
        .sort(*last, -pl.col("strengths"), maintain_order=True)
        .unique(place, keep="first", maintain_order=True)
    )
    return table.join(chosen, on=[*place, *names], how="semi", maintain_order="left")


def strength_axis(ax: Axes, strengths: list[float]) -> None:
    """Give a panel a logarithmic x axis with these strengths, and 1, where an edit by a factor changes nothing."""
    if not strengths:  # a study of masks alone
        ax.set_xticks([])
        return
    ends = min(1.0, strengths[0]), max(1.0, strengths[-1])
    ax.set_xscale("log", base=2)
    ax.set_xlim(ends[0] / 2**0.3, ends[1] * 2**0.3)
    ax.xaxis.set_major_locator(FixedLocator(_apart(sorted({1.0, *strengths}))))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("strength λ (log scale)")


def _apart(strengths: list[float]) -> list[float]:
    """The strengths that get a tick: all, unless two are so close that their labels would touch."""
    least = (strengths[-1] / strengths[0]) ** (1 / 8)
    ticks = strengths[:1]
    for strength in strengths[1:]:
        if strength >= ticks[-1] * least:
            ticks.append(strength)
    return ticks
