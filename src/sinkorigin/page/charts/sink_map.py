"""The sink by layer and head: attention to position 0 over all later queries."""

from collections.abc import Mapping

import altair as alt
import polars as pl

from sinkorigin.page.charts.parts import WIDTH, Drawn, chosen, numbered, places, short
from sinkorigin.page.page_tables import PageTables

TITLE = "Which heads attend to position 0"
DESCRIPTION = (
    "A cell for each layer (across) and head (down); the colour is the mean attention that later queries give to "
    "position 0. Choose model and prompts below the chart."
)
TABLE = "query_alignment"


def draw(tables: PageTables, labels: Mapping[str, str]) -> Drawn | None:
    """A cell a layer and head, darker for more attention; a switch between models and prompts."""
    parts = [
        table.select("layer", "head", "mass", "positive_ratio", "alignment").with_columns(pl.lit(place).alias("shown"))
        for place, _, table in places(tables, TABLE, labels)
    ]
    if not parts:
        return None
    rows, [shown] = numbered(pl.concat(parts), "shown")
    chart = (
        alt.Chart(alt.Data(values=short(rows, 3)))
        .mark_rect(aria=False)
        .encode(
            x=alt.X("layer:O", title="layer", axis=alt.Axis(labelOverlap=True, labelAngle=0)),
            y=alt.Y("head:O", title="head"),
            color=alt.Color(
                "mass:Q", title="attention to position 0", scale=alt.Scale(domain=[0, 1], scheme="viridis"),
                legend=alt.Legend(orient="top", format=".1f"),
            ),
            tooltip=[
                alt.Tooltip("layer:O"), alt.Tooltip("head:O"), alt.Tooltip("mass:Q", title="attention to position 0"),
                alt.Tooltip("positive_ratio:Q", title="share of positive scores"),
                alt.Tooltip("alignment:Q", title="alignment |cos(u₁, k₀)|"),
            ],
        )
        .properties(width=WIDTH, height={"step": 18}, description=DESCRIPTION)
    )  # fmt: skip
    return chosen(chart, shown=("Model and prompts", shown))


def say(tables: PageTables, labels: Mapping[str, str]) -> str:
    """Where the sink is strongest, in the first model."""
    for place, _, table in places(tables, TABLE, labels):
        top = table.sort("mass", descending=True).row(0, named=True)
        strong = int((table["mass"] > 0.5).sum())
        return (
            f"{place}: {strong} of {len(table)} heads give more than half of their attention to position 0; the most is "
            f"{100 * top['mass']:.0f} %, in head {top['head']} of layer {top['layer']}."
        )
    return ""
