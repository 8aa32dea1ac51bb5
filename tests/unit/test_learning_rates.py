"""The sweep of learning rates: a diverged training is a row, the best rate is told, an end of the grid too."""

import pyarrow as pa
import pyarrow.parquet
import pytest

from sinkorigin.statistics.learning_rates import HISTORY_SCHEMA, diverged_history, sweep_table, swept_history
from sinkorigin.tables import write_table


def history(tmp_path, run, rate, seed, loss, **tuned):
    if loss is None:
        return diverged_history("the loss is nan at step 7", run=run, variant="softmax", seed=seed, peak=rate)
    rows = [
        {"run": run, "variant": "softmax", "seed": seed, "step": s, "tokens": 100 * s, "train_loss": loss + 1 / s,
         "validation_loss": loss + 1 / s - 0.05, "learning_rate": rate / s, "gradient_norm": 1.0}
        for s in (10, 20)
    ]  # fmt: skip
    names = [name for name in HISTORY_SCHEMA.names if name in rows[0]]
    schema = pa.schema([HISTORY_SCHEMA.field(name) for name in names])
    write_table(tmp_path / "history.parquet", pa.Table.from_pylist(rows, schema=schema), schema)
    return swept_history(tmp_path / "history.parquet", rate, **tuned)


def sweep(tmp_path, losses, configured):
    """losses: rate → loss of each seed."""
    histories = [
        history(tmp_path, "r", rate, seed, loss) for rate, own in losses.items() for seed, loss in enumerate(own)
    ]
    return sweep_table(histories, {"r": {"learning_rate": configured, "option_value": None}}).to_pylist()


def test_the_best_rate_has_the_lowest_mean_over_seeds(tmp_path):
    rows = sweep(tmp_path, {0.001: [4.0, 4.0], 0.002: [3.5, 3.9], 0.004: [3.6, 3.7]}, 0.004)
    assert [row["best"] for row in rows] == [False, False, False, False, True, True]
    rows = sweep(tmp_path, {0.001: [4.0], 0.002: [3.5], 0.004: [3.6]}, 0.002)
    assert [(row["best"], row["at_edge"], row["configured"]) for row in rows] == [
        (False, True, False), (True, False, True), (False, True, False)
    ]  # fmt: skip
    assert rows[1]["advice"] is None and rows[1]["tokens"] == 2000
    assert rows[1]["validation_loss"] == pytest.approx(3.5) and rows[1]["train_loss"] == pytest.approx(3.55)


def test_a_rate_at_which_a_seed_diverged_is_a_row_without_loss_and_not_the_best(tmp_path):
    rows = sweep(tmp_path, {0.001: [4.0, 4.0], 0.002: [3.0, None], 0.004: [None, None]}, 0.001)
    assert [row["validation_loss"] is None for row in rows] == [False, False, False, True, True, True]
    assert rows[3]["diverged"] == "the loss is nan at step 7" and rows[2]["diverged"] is None
    assert [row["best"] for row in rows] == [True, True, False, False, False, False]
    assert all(row["mean_validation_loss"] is None for row in rows[2:])


def test_a_winner_at_the_end_of_the_grid_and_a_config_that_differs_are_told(tmp_path):
    rows = sweep(tmp_path, {0.001: [4.0], 0.002: [3.5]}, 0.001)
    assert rows[1]["advice"] == (
        "r: 0.002 is the highest rate of the grid; add higher ones to the rates that the sweep tries; "
        "r: the study trains with 0.001; set its learning_rate to 0.002"
    )
    assert rows[0]["advice"] is None


def test_a_sweep_in_which_all_diverged_has_no_best(tmp_path):
    assert not any(row["best"] for row in sweep(tmp_path, {0.1: [None], 0.2: [None]}, 0.1))


def test_the_best_of_rates_and_an_option_of_the_variant_is_one_setting(tmp_path):
    losses = {
        (0.001, 0.1): 3.9,
        (0.002, 0.1): 3.6,
        (0.004, 0.1): 3.7,
        (0.001, 1.0): 3.8,
        (0.002, 1.0): 3.65,
        (0.004, 1.0): 3.95,
    }
    histories = [
        history(tmp_path, "r", rate, 0, loss, option="scale_init", value=value)
        for (rate, value), loss in losses.items()
    ]

    def rows(rate, value):
        return sweep_table(histories, {"r": {"learning_rate": rate, "option_value": value}}).to_pylist()

    [best] = [row for row in rows(0.002, 0.1) if row["best"]]
    assert (best["learning_rate"], best["option"], best["option_value"]) == (0.002, "scale_init", 0.1)
    assert best["configured"] and best["advice"] is None and not best["at_edge"]
    [best] = [row for row in rows(0.002, 1.0) if row["best"]]
    assert best["advice"] == "r: the study trains with scale_init 1; set it to 0.1"


def test_the_figure_marks_the_best_rate_and_what_diverged(tmp_path):
    import polars as pl

    from sinkorigin.figures import learning_rates

    losses = {0.001: [4.0, 4.1], 0.002: [3.5, 3.6], 0.004: [3.7, None]}
    figure = learning_rates.draw(learning_rates=pl.DataFrame(sweep(tmp_path, losses, 0.002)), groups={"r": "text"})
    [ax] = figure.axes
    [star] = [line for line in ax.lines if line.get_marker() == "*"]
    assert (star.get_xdata()[0], star.get_ydata()[0]) == pytest.approx((0.002, 3.55))
    assert [list(line.get_xdata()) for line in ax.lines if line.get_marker() == "x"] == [[0.004]]
    said = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert "r: 0.002 (3.550)" in said and "a seed diverged" in said


def test_a_training_that_diverges_ends_its_job_with_a_row(tmp_path):
    from scripts_by_hand import run_script
    from sinkorigin.tables import read_table
    from small_corpus import make_corpus

    text = " ".join(["the king and the queen of all this fair isle"] * 60)
    make_corpus(tmp_path, [text, text])
    run = {
        "name": "r", "variant": "softmax", "layers": 1, "width": 16, "heads": 2, "kv_heads": 2, "ffn_width": 16,
        "length": 8, "batch": 2, "steps": 30, "warmup": 0, "weight_decay": 0.1, "clip": 1.0, "evaluate_every": 10,
        "checkpoint_every": 10,
    }  # fmt: skip
    found = {}
    for rate in (0.01, 1e30):
        output = tmp_path / f"learning_rate={rate:g}" / "seed=0" / "history.parquet"
        run_script(
            "pretrain_learning_rate.py", tmp_path, seed="0", outputs={"history": output},
            inputs={name: tmp_path / name / "manifest.json" for name in ("tokens", "tokenizer")},
            params={"run": {**run, "learning_rate": rate}, "option": None, "threads": 1},
        )  # fmt: skip
        found[rate] = read_table(output)
        assert [path.name for path in output.parent.parent.iterdir()] == ["seed=0"]  # no model, no state
    [lost, ended] = [
        sweep_table([found[rate]], {"r": {"learning_rate": 0.01, "option_value": None}}).to_pylist()[0]
        for rate in (1e30, 0.01)
    ]
    assert lost["validation_loss"] is None and "run r, seed 0" in lost["diverged"]
    assert ended["validation_loss"] < 6 and ended["best"] and ended["learning_rate"] == 0.01
