"""The sink by position, unedited and under each edit."""

from collections.abc import Mapping
from pathlib import Path

import altair as alt
import polars as pl

from sinkorigin.interventions.kind import BASELINE, SHOWN_POSITION, SHOWN_STRENGTH, kind_named
from sinkorigin.page.charts.parts import WIDTH, Drawn, chosen, numbered, short
from sinkorigin.page.page_tables import PageTables
from sinkorigin.statistics.uniform import uniform_score
from sinkorigin.tables import read_table

TITLE = "Where the attention goes under an edit"
DESCRIPTION = (
    "Attention that later queries give to each position, mean over layers, heads and sequences: without an edit, "
    "under the edit, and what uniform attention would give. Choose model, prompts and edit below the chart."
)
STATES = ("unedited", "under the edit", "uniform attention")


def by_position(folder: Path) -> pl.DataFrame | None:
    """Mean score over layers of each position, unedited and under each edit, at the position and strength that stand for all.

    Args:
        folder: of the interventions on a model and prompt set, which has ``baseline`` and ``edited``.
    """
    files = sorted(folder.glob("edited/*/*/positions.parquet"))
    if not files:
        return None
    edits = pl.concat(pl.DataFrame(read_table(file)) for file in files)
    edits = edits.with_columns(pl.col("positions").list.first().alias("target"))
    one = edits.filter(pl.col("positions").list.len() == 1)
    edits = edits if one.is_empty() else one
    places = edits.select("intervention", "mean_factor", "strength", "target").unique()
    nearest = places.sort(
        (pl.col("target") - SHOWN_POSITION).abs(),
        (pl.col("strength") - SHOWN_STRENGTH).abs(),
        "mean_factor",
        "strength",
        "target",
    ).unique("intervention", keep="first", maintain_order=True)
    keys = ["intervention", "mean_factor", "strength", "target"]
    shown = edits.join(nearest, on=keys, how="semi", nulls_equal=True)
    groups = ["intervention", "kind", "strength", "target", "position"]
    mean = shown.group_by(groups, maintain_order=True).agg(pl.col("score").mean())
    unedited = pl.DataFrame(read_table(folder / "baseline" / "positions.parquet")).filter(kind=BASELINE)
    before = unedited.group_by("position", maintain_order=True).agg(pl.col("score").mean().alias("unedited"))
    length = len(before)
    uniform = pl.col("position").map_elements(lambda k: uniform_score(k, length), return_dtype=pl.Float64)
    rows = mean.join(before, on="position").drop_nulls("score").with_columns(uniform.alias("uniform"))
    # edits of later positions first, before those that take from position 0
    return rows.sort(pl.col("target") == 0, pl.col("kind") != "mask", "intervention", "position")


def draw(tables: PageTables, labels: Mapping[str, str]) -> Drawn | None:
    """Two lines against the position, unedited and edited; switches between models and prompts, and between edits."""
    parts = []
    for (model, prompts), folder in tables.edited.items():
        rows = by_position(folder) if model in labels else None
        if rows is not None:
            parts.append(rows.with_columns(pl.lit(f"{labels[model]}, {prompts.replace('_', ' ')}").alias("shown")))
    if not parts:
        return None
    rows = pl.concat(parts)
    without = [kind for kind in rows["kind"].unique() if not kind_named(kind).takes("strength")]
    strength = pl.when(pl.col("kind").is_in(without)).then(None).otherwise(pl.col("strength"))
    edit = pl.concat_str(
        pl.col("intervention").str.replace_all("_", " "),
        pl.format("strength {}", strength.round_sig_figs(3).cast(pl.String).str.strip_suffix(".0")),
        pl.format("position {}", "target"),
        separator=", ",
        ignore_nulls=True,
    )
    rows = rows.with_columns(edit.alias("edit")).rename({"score": STATES[1], "uniform": STATES[2]})
    rows, [shown, edits] = numbered(rows, "shown", "edit")
    chart = (
        alt.Chart(alt.Data(values=short(rows.select("shown", "edit", "position", *STATES), 3)))
        .transform_fold(list(STATES), as_=["state", "attention"])
        .mark_line(point={"size": 18}, aria=False)
        .encode(
            x=alt.X("position:Q", title="position", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y("attention:Q", title="attention from later queries, mean"),
            color=alt.Color(
                "state:N", title=None, scale=alt.Scale(domain=list(STATES), range=["#4477aa", "#cc5522", "#999999"]),
                legend=alt.Legend(orient="top"),
            ),
            strokeDash=alt.StrokeDash("state:N", scale=alt.Scale(domain=list(STATES), range=[[1, 0], [6, 3], [2, 2]]), legend=None),
            tooltip=["state:N", "position:Q", "attention:Q"],
        )
        .properties(width=WIDTH, height=280, description=DESCRIPTION)
    )  # fmt: skip
    return chosen(chart, shown=("Model and prompts", shown), edit=("Edit", edits))


def say(tables: PageTables, labels: Mapping[str, str]) -> str:
    """What the first edit of the first model does to its target."""
    for (model, prompts), folder in tables.edited.items():
        rows = by_position(folder) if model in labels else None
        rows = None if rows is None else rows.filter(pl.col("position") == pl.col("target"))
        if rows is None or rows.is_empty():
            continue
        later = rows.filter(pl.col("target") > 0)
        top = (later if len(later) else rows).sort("score", descending=True).row(0, named=True)
        return (
            f"{labels[model]}, {prompts.replace('_', ' ')}: the largest share goes to position {top['target']} under "
            f"{top['intervention'].replace('_', ' ')}, {100 * top['score']:.1f} % where it received {100 * top['unedited']:.1f} %."
        )
    return ""
