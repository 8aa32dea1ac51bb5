"""Which edits the first look shows, and what it says where there are none."""

import matplotlib.pyplot as plt
import polars as pl
import pytest

from sinkorigin.claims import first_look as told
from sinkorigin.figures import first_look as drawn


def edits(*rows):
    """A table of effects with a kind, positions edited at once and target a row."""
    columns = ("kind", "positions", "target")
    return pl.DataFrame([dict(zip(columns, row, strict=True)) for row in rows])


def test_the_position_is_the_one_nearest_to_the_papers_that_most_edits_have():
    table = edits(
        ("baseline", [10], 10), ("mask", [10], 10), ("mask", [8], 8), ("norm_control", [8], 8), ("mask", [2], 2),
        ("norm_control", [2], 2), ("mask", [3, 4], 3), ("norm_control", [3, 4], 3), ("mask_late", [3, 4], 3),
    )  # fmt: skip
    assert [(row["kind"], row["target"]) for row in told.shown_edits(table)] == [("mask", 8), ("norm_control", 8)]


@pytest.mark.parametrize("rows", [[("baseline", [10], 10)], [("baseline", [3], 3), ("mask", [3, 4], 3)]])
def test_a_model_that_allows_no_edit_of_one_position_is_told_and_drawn(rows):
    table = edits(*rows)
    assert told.shown_edits(table) == []
    assert list(told._edits(table)) == ["edits: not applicable, see the table of resolved interventions"]
    figure, ax = plt.subplots()
    drawn._edits(ax, table)
    assert "no edit can be made" in ax.texts[0].get_text()
    plt.close(figure)
