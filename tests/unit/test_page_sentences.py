"""Sentences below figures name the position and the model that their numbers are of."""

import polars as pl
import pytest

from sinkorigin.page.page_tables import PageTables
from sinkorigin.page.sentences import sentences


@pytest.fixture
def told(tmp_path):
    """Writes a table of model "m" and says the sentence of a figure."""

    def say(figure: str, table: str, **columns) -> str:
        path = tmp_path / "m" / "random_tokens" / f"{table}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(columns).write_parquet(path)
        return sentences(PageTables({table: [path]}), {"m": "M"})[figure]

    return say


def test_a_massive_activation_elsewhere_is_not_the_first_token_s(told):
    columns = {"layer": [1, 2, 2], "dim": [3, 3, 4], "share": [1.0, 1.0, 0.5]}
    of_both = told(
        "massive_activations", "massive_activations", position=[0, 0, 7], max_abs=[100.0, 200.0, 900.0], **columns
    )
    assert "in 2 layers, the largest of 200 in dim 3 after layer 2; 1 other position ever has one" in of_both
    later = told(
        "massive_activations", "massive_activations", position=[5, 6, 7], max_abs=[100.0, 200.0, 900.0], **columns
    )
    assert "the first token has no massive activation" in later and "3 other positions ever have one" in later


def test_edits_of_other_positions_are_not_told_as_of_the_first(told):
    said = told(
        "sink_by_intervention", "interventions",
        intervention=["mask", "amplified"], kind=["mask", "variance_amplification"], site=["attention", "value_aggregation"],
        target=[5, 10], strength=[1.0, 8.0], layers_rule=[None, None], score=[0.4, 0.6], baseline=[0.01, 0.02], uniform=[0.02, 0.02],
    )  # fmt: skip
    assert "position 5 receives 1 %" in said and "40 %" in said and "60 %" not in said


def test_a_removal_without_a_control_that_could_lose_a_sink_is_not_told(told):
    columns = {"removal": ["super_neurons"], "control": ["random_neurons"], "lost": [0], "before": [0]}
    said = told("removals", "removals", control_lost=pl.Series([None], dtype=pl.Int64), **columns)
    assert "None" not in said
