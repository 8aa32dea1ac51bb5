"""The sink by layer at the edited position, under an edit at several strengths."""

from collections.abc import Mapping

import altair as alt
import polars as pl

from sinkorigin.interventions.kind import SHOWN_POSITION, kind_named
from sinkorigin.page.charts.parts import WIDTH, Drawn, chosen, numbered, places, short
from sinkorigin.page.page_tables import PageTables

TITLE = "How the sink grows with the strength of an edit, layer by layer"
DESCRIPTION = (
    "Attention that later queries give to the edited position, by layer, a line for each strength of the edit; "
    "bands are 95 % bootstrap intervals over sequences. Choose model, prompts and edit below the chart."
)
TABLE = "intervention_layers"


def curves(table: pl.DataFrame) -> pl.DataFrame:
    """Scores by layer, of the edits that have several strengths, at the target nearest to the shown position."""
    edits = table.drop_nulls("strength")
    several = edits.group_by("intervention", "target", "mean_factor").agg(
        pl.col("strength").n_unique().alias("strengths")
    )
    nearest = (
        several.filter(pl.col("strengths") > 1)
        .sort((pl.col("target") - SHOWN_POSITION).abs(), "target", "mean_factor", nulls_last=False)
        .unique("intervention", keep="first", maintain_order=True)
        .select("intervention", "target", "mean_factor")
    )
    shown = edits.join(nearest, on=["intervention", "target", "mean_factor"], how="semi", nulls_equal=True)
    # edits of later positions first, before those that take from position 0
    return shown.sort(
        pl.col("target") == 0, pl.col("kind") != "variance_amplification", "intervention", "strength", "layer"
    )


def draw(tables: PageTables, labels: Mapping[str, str]) -> Drawn | None:
    """A line a strength against the layer; switches between models and prompts, and between edits."""
    parts = [
        curves(table)
        .select("intervention", "strength", "layer", "score", "score_low", "score_high")
        .with_columns(pl.lit(place).alias("shown"))
        for place, _, table in places(tables, TABLE, labels)
    ]
    parts = [part for part in parts if len(part)]
    if not parts:
        return None
    named = pl.concat(parts).with_columns(pl.col("intervention").str.replace_all("_", " ").alias("edit"))
    rows, [shown, edit] = numbered(named, "shown", "edit")
    base = alt.Chart(alt.Data(values=short(rows.drop("intervention"), 3))).encode(
        x=alt.X("layer:Q", title="layer", axis=alt.Axis(tickMinStep=1, format="d")),
        color=alt.Color(
            "strength:O",
            title="strength λ",
            scale=alt.Scale(scheme="viridis"),
            legend=alt.Legend(orient="top", symbolOpacity=1),
        ),
    )
    line = base.mark_line(point=True, aria=False).encode(
        y=alt.Y("score:Q", title="attention to the edited position"),
        tooltip=["strength:Q", "layer:Q", "score:Q", "score_low:Q", "score_high:Q"],
    )
    band = base.mark_area(opacity=0.2, aria=False).encode(y=alt.Y("score_low:Q"), y2="score_high:Q")
    chart = alt.layer(band, line).properties(width=WIDTH, height=280, description=DESCRIPTION)
    return chosen(chart, shown=("Model and prompts", shown), edit=("Edit", edit))


def say(tables: PageTables, labels: Mapping[str, str]) -> str:
    """How much the strongest edit of the first model adds."""
    for place, _, table in places(tables, TABLE, labels):
        rows = curves(table)
        if rows.is_empty():
            continue
        later = rows.filter(pl.col("target") > 0)
        top = (later if len(later) else rows).sort("score", descending=True).row(0, named=True)
        return (
            f"{place}: most attention goes to position {top['target']} under {kind_named(top['kind']).label}, strength "
            f"{top['strength']:g}: {100 * top['score']:.0f} % in layer {top['layer']}."
        )
    return ""
