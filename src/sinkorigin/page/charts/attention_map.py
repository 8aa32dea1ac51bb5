"""The attention map before and after an edit."""

from collections.abc import Mapping

import altair as alt
import polars as pl

from sinkorigin.interventions.kind import kind_named
from sinkorigin.page.charts.parts import Drawn, chosen, numbered, places, short
from sinkorigin.page.page_tables import PageTables, mean_of

TITLE = "The attention map before and after an edit"
DESCRIPTION = (
    "A cell for each key (across) and query (down); the colour is the attention weight, mean over heads and sequences, on the left "
    "without the edit and on the right under it. A sink is a column. Choose model, prompts, edit and layer below the chart."
)
TABLE = "attention_map"
_STATES = ("unedited", "edited")


def draw(tables: PageTables, labels: Mapping[str, str]) -> Drawn | None:
    """Two maps beside each other; switches between models and prompts, and between edits and layers."""
    parts = [
        table.select(
            pl.col("query").alias("q"), pl.col("key").alias("k"), *_STATES,
            pl.lit(place).alias("shown"),
            pl.format("{}, {}", pl.col("cause").str.replace_all("_", " "),
                      pl.when(pl.col("layer").is_null()).then(pl.lit("mean over layers")).otherwise(pl.format("layer {}", "layer")))
            .alias("edit"),
        )
        for place, _, table in places(tables, TABLE, labels)
    ]  # fmt: skip
    if not parts:
        return None
    rows, [shown, edit] = numbered(pl.concat(parts), "shown", "edit")
    chart = (
        alt.Chart(alt.Data(values=short(rows, 2)))
        .transform_fold(list(_STATES), as_=["state", "attention"])
        .mark_rect(aria=False)
        .encode(
            x=alt.X("k:O", title="key", axis=alt.Axis(labelOverlap=True, labelAngle=0, ticks=False)),
            y=alt.Y("q:O", title="query", axis=alt.Axis(labelOverlap=True, ticks=False)),
            color=alt.Color(
                "attention:Q", title="attention weight", scale=alt.Scale(domain=[0, 1], scheme="viridis", type="sqrt"),
                legend=alt.Legend(orient="top", format=".2f"),
            ),
            column=alt.Column("state:N", title=None, sort=list(_STATES)),
            tooltip=[alt.Tooltip("q:O", title="query"), alt.Tooltip("k:O", title="key"), "state:N", "attention:Q"],
        )
        .properties(width=300, height=300, description=DESCRIPTION)
    )  # fmt: skip
    return chosen(chart, shown=("Model and prompts", shown), edit=("Edit and layer", edit))


def say(tables: PageTables, labels: Mapping[str, str]) -> str:
    """How much later queries give to the target of the first edit."""
    for place, _, table in places(tables, TABLE, labels):
        first = table.filter((pl.col("cause") == table["cause"][0]) & pl.col("layer").is_null())
        target = first["target"][0]
        later = first.filter((pl.col("key") == target) & (pl.col("query") > target))
        if len(later):
            return (
                f"{place}: under {kind_named(first['kind'][0]).label}, later queries give position {target} "
                f"{100 * mean_of(later, 'edited'):.1f} % of their attention where they gave it {100 * mean_of(later, 'unedited'):.1f} %, mean "
                "over layers."
            )
    return ""
