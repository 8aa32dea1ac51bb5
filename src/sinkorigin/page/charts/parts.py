"""What the charts of the page share: a switch between models and prompt sets, and numbers that are short."""

from collections.abc import Iterator, Mapping, Sequence

import altair as alt
import polars as pl

from sinkorigin.page.page_tables import PageTables

WIDTH = "container"


def places(tables: PageTables, name: str, labels: Mapping[str, str]) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """Label of a model with the name of a prompt set, model and table, for every place that has the table and a label."""
    for model, prompts in tables.files(name):
        table = tables.read(name, model, prompts)
        if table is not None and model in labels:
            yield f"{labels[model]}, {prompts.replace('_', ' ')}", model, table


def switch(name: str, options: Sequence[str], label: str) -> alt.Parameter:
    """A choice among values of the column ``name``, below the chart; the first one is chosen."""
    return alt.param(name=name, value=options[0], bind=alt.binding_select(options=list(options), name=f"{label} "))


def chosen(chart: alt.Chart, *parameters: alt.Parameter) -> alt.Chart:
    """A chart of the rows that its switches name."""
    for parameter in parameters:
        chart = chart.add_params(parameter).transform_filter(f"datum['{parameter.name}'] === {parameter.name}")
    return chart


def short(table: pl.DataFrame, digits: int = 4) -> list[dict]:
    """Rows with so many significant digits, which a drawing does not need more of."""
    return table.with_columns(pl.selectors.float().round_sig_figs(digits)).to_dicts()
