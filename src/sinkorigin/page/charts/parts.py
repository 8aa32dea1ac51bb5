"""What the charts of the page share: a switch between models and prompt sets, and numbers that are short.

Marks are hidden from screen readers, which would read thousands of cells: these get the chart's description, the sentence below it and
the table.
"""

from collections.abc import Iterator, Mapping, Sequence

import altair as alt
import polars as pl

from sinkorigin.page.page_tables import PageTables

Drawn = alt.Chart | alt.LayerChart | alt.FacetChart
WIDTH = "container"


def places(tables: PageTables, name: str, labels: Mapping[str, str]) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """Label of a model with the name of a prompt set, model and table, for every place that has the table and a label."""
    for model, prompts in tables.files(name):
        table = tables.read(name, model, prompts)
        if table is not None and model in labels:
            yield f"{labels[model]}, {prompts.replace('_', ' ')}", model, table


def numbered(rows: pl.DataFrame, *names: str) -> tuple[pl.DataFrame, list[list[str]]]:
    """Rows with numbers in place of the texts of some columns, which would be written out in each; and the texts of each column."""
    texts = [rows[name].unique(maintain_order=True).to_list() for name in names]
    columns = [
        pl.col(name).replace_strict(known, range(len(known)), return_dtype=pl.Int32)
        for name, known in zip(names, texts, strict=True)
    ]
    return rows.with_columns(columns), texts


def chosen(chart: Drawn, **switches: tuple[str, Sequence[str]]) -> Drawn:
    """A chart of the rows that its switches name, which stand below it; the first choice of each is chosen.

    Args:
        switches: column with numbers → what the switch is called, and the texts that the numbers stand for.
    """
    for name, (label, texts) in switches.items():
        choices = alt.binding_select(options=list(range(len(texts))), labels=list(texts), name=f"{label} ")
        chart = chart.add_params(alt.param(name=name, value=0, bind=choices))
        chart = chart.transform_filter(f"datum['{name}'] === {name}")
    return chart


def short(table: pl.DataFrame, digits: int = 4) -> list[dict]:
    """Rows with so many significant digits, which a drawing does not need more of; what is not defined is null, as JSON has no NaN."""
    return table.with_columns(pl.selectors.float().fill_nan(None).round_sig_figs(digits)).to_dicts()
