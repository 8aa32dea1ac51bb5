"""The table of pretraining: means over seeds, differences paired by seed, and nothing where nothing was reached."""

import numpy as np
import polars as pl
import pytest

from sinkorigin.claims.comparison import COLUMNS, markdown_table, rows_of
from sinkorigin.statistics.pretraining_comparison import (
    QUANTITIES,
    Training,
    by_seed_table,
    comparison_table,
    tokens_to_reach,
)
from sinkorigin.statistics.student import paired_interval
from sinkorigin.statistics.training import Measured, training_table


def training(run, seed, losses, *, mass=0.5, variant="softmax", baseline="base"):
    steps = [10 * (i + 1) for i in range(len(losses))]
    history = pl.DataFrame(
        {"step": steps, "tokens": [100 * s for s in steps], "train_loss": losses, "validation_loss": losses}
    )
    measured = [
        Measured(-1, "dominance_ratio_first", 3.0), Measured(0, "dominance_ratio_first", 20.0),
        Measured(1, "dominance_ratio_first", 8.0), Measured(-1, "dominance_ratio_rest", 2.0),
        Measured(0, "dominance_ratio_rest", 4.0), Measured(1, "dominance_ratio_rest", 4.0),
        Measured(0, "sink_mass", mass, uniform=0.1), Measured(1, "sink_mass", 0.1, uniform=0.1),
        Measured(0, "sink_mass_normalised", mass, uniform=0.1), Measured(0, "sink_rate", 0.2, epsilon=0.3),
        Measured(-1, "norm_ratio", 1.0), Measured(0, "norm_ratio", 2.0),
        Measured(-1, "effective_rank", 9.0), Measured(0, "effective_rank", 5.0), Measured(1, "effective_rank", 7.0),
        Measured(0, "effective_rank_later", 6.0), Measured(1, "effective_rank_later", 8.0),
        Measured(0, "variance_ratio", 4.0), Measured(1, "variance_ratio", 2.0),
        Measured(0, "aggregation_variance_ratio", 5.0),
    ]  # fmt: skip
    early = [Measured(0, "sink_mass", 9.0, uniform=0.1)]
    table = training_table(
        [(5, "p", early), (steps[-1], "p", measured)], run=run, variant=variant, seed=seed, step_tokens=100,
        first_tokens={"p": "drawn"},
    )  # fmt: skip
    return Training(run, variant, seed, baseline, 1000, history, pl.from_arrow(table))


def compared(trainings):
    table = comparison_table(trainings, by_seed_table(trainings)).to_pylist()
    return {(row["run"], row["quantity"]): row for row in table}


def test_means_and_paired_differences_are_those_of_the_seeds():
    seeds = [(3.0, 2.9), (3.2, 3.0), (3.4, 3.25)]
    runs = [training("base", s, [4.0, a]) for s, (a, _) in enumerate(seeds)]
    runs += [training("new", s, [4.0, b], variant="sigmoid", mass=0.2) for s, (_, b) in enumerate(seeds)]
    found = compared(runs)
    row = found["new", "validation_loss"]
    assert row["mean"] == pytest.approx(np.mean([b for _, b in seeds]))
    assert row["sd"] == pytest.approx(np.std([b for _, b in seeds], ddof=1))
    mean, low, high = paired_interval([b - a for a, b in seeds])
    assert (row["difference"], row["difference_low"], row["difference_high"]) == pytest.approx((mean, low, high))
    assert (row["seeds"], row["pairs"], row["parameters"], row["tokens"]) == (3, 3, 1000, 2000)
    assert found["base", "validation_loss"]["difference"] is None and found["base", "validation_loss"]["pairs"] == 0
    assert found["new", "sink_mass"]["difference"] == pytest.approx(-0.3)
    assert set(name for _, name in found) == set(QUANTITIES)


def test_structure_is_of_the_last_checkpoint_and_the_layer_that_the_claims_take():
    found = compared([training("base", 0, [4.0, 3.0])])
    values = {name: row["mean"] for (_, name), row in found.items()}
    assert (
        values["dimension_disparity"] == 14.0 and values["disparity_over_rest"] == 3.5
    )  # the paper's, mean over layers
    assert values["dimension_disparity_largest"] == 20.0 and values["disparity_over_rest_largest"] == 5.0
    assert values["variance_ratio"] == 4.0 and values["variance_ratio_mean"] == 3.0
    assert values["aggregation_variance_ratio"] == 5.0 and values["effective_rank_later"] == 7.0
    assert values["sink_mass"] == 0.5 and values["sink_mass_mean"] == pytest.approx(0.3)
    assert values["effective_rank"] == 6.0 and values["sink_rate"] == 0.2
    assert found["base", "sink_mass"]["uniform"] == 0.1 and found["base", "sink_rate"]["epsilon"] == 0.3


def test_tokens_to_the_baselines_loss_lie_between_two_rows():
    assert tokens_to_reach(3.0, [100, 200, 300], [5.0, 4.0, 2.0]) == 250.0
    assert tokens_to_reach(5.0, [100, 200], [5.0, 4.0]) == 100.0
    assert tokens_to_reach(1.0, [100, 200], [5.0, 4.0]) is None


def test_a_loss_that_one_seed_did_not_reach_has_no_difference():
    runs = [training("base", s, [4.0, 3.0]) for s in (0, 1)]
    runs += [training("new", 0, [3.5, 2.5]), training("new", 1, [3.5, 3.1])]
    row = compared(runs)["new", "tokens_to_baseline_loss"]
    assert (row["seeds"], row["of_seeds"], row["pairs"]) == (1, 2, 2)
    assert row["mean"] == 1500.0 and row["difference"] is None
    assert compared(runs)["new", "token_ratio"]["mean"] == 0.75 and compared(runs)["base", "token_ratio"]["mean"] == 1.0
    assert compared(runs)["base", "tokens_to_baseline_loss"]["mean"] == 2000.0


def test_a_run_without_a_baseline_has_values_and_no_difference():
    row = compared([training("alone", 0, [4.0, 3.0], variant="sigmoid", baseline=None)])
    assert row["alone", "validation_loss"]["mean"] == 3.0 and row["alone", "validation_loss"]["difference"] is None
    assert row["alone", "tokens_to_baseline_loss"]["seeds"] == 0


def test_the_paired_interval_is_students():
    mean, low, high = paired_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    np.testing.assert_allclose([low, high], [2 - 4.302653 / np.sqrt(3), 2 + 4.302653 / np.sqrt(3)], rtol=1e-6)
    assert paired_interval([1.0]) == (1.0, None, None)


def test_the_table_that_people_see_has_means_differences_and_what_was_not_reached():
    runs = [training("base", s, [4.0, 3.0 + 0.1 * s]) for s in (0, 1)]
    runs += [training("new", s, [4.0, 3.2 + 0.1 * s], variant="sigmoid", mass=0.2) for s in (0, 1)]
    table = comparison_table(runs, by_seed_table(runs))
    rows = {run: (facts, dict(zip(COLUMNS, cells, strict=True))) for run, facts, cells in rows_of(table, "p")}
    assert rows["base"][0] == "baseline; 1,000 parameters, 2,000 tokens, 2 seeds; first token drawn"
    assert rows["base"][1]["validation loss"] == ("3.0500 ± 0.0707", "")
    assert rows["new"][1]["validation loss"] == ("3.2500 ± 0.0707", "+0.2 [0.2, 0.2]")
    assert rows["new"][1]["tokens to baseline's loss"] == ("–", "")
    text = markdown_table(table, "p")
    assert "3.2500 ± 0.0707" in text and "paper: softmax" in text and "uniform attention: 0.100" in text
