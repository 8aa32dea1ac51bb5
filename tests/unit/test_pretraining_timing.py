"""Speed of trainings and losses at equal time are those of their tables, seed by seed."""

import pyarrow as pa
import pytest

from sinkorigin.pretraining.loop import HISTORY, TIMING
from sinkorigin.statistics.pretraining_timing import compute
from sinkorigin.tables import write_table


def compared(folder, trainings):
    """Rows of trainings: (run, baseline, seed, seconds of each row, losses)."""
    inputs = {"history": [], "timing": []}
    for run, _, seed, seconds, losses in trainings:
        place = folder / f"{run}-{seed}"
        place.mkdir()
        empty = dict.fromkeys(HISTORY.names)
        steps = range(10, 10 * len(losses) + 10, 10)
        history = [
            {
                **empty,
                "run": run,
                "variant": "v",
                "seed": seed,
                "step": step,
                "tokens": 100 * step,
                "validation_loss": loss,
            }
            for step, loss in zip(steps, losses, strict=True)
        ]
        timing = [
            {"step": step, "seconds": taken, "tokens_per_second": 0.0}
            for step, taken in zip(steps, seconds, strict=True)
        ]
        for name, rows, schema in (("history", history, HISTORY), ("timing", timing, TIMING)):
            write_table(place / f"{name}.parquet", pa.Table.from_pylist(rows, schema=schema), schema)
            inputs[name].append(str(place / f"{name}.parquet"))
    facts = [{"run": run, "variant": "v", "baseline": base, "seed": seed} for run, base, seed, *_ in trainings]
    return compute(inputs, trainings=facts)["pretraining_timing"].to_pylist()


def test_a_slower_run_is_compared_when_its_baseline_had_ended(tmp_path):
    base, slow = compared(
        tmp_path, [("base", "base", 0, [4.0, 4.0], [3.0, 2.0]), ("slow", "base", 0, [8.0, 8.0], [2.8, 1.9])]
    )
    assert base["speed"] == 1 and base["difference"] == 0 and base["tokens_per_second"] == 2000 / 8
    assert slow["speed"] == 0.5 and slow["seconds"] == 16 and slow["equal_seconds"] == 8
    assert slow["loss_at_equal_time"] == 2.8 and slow["baseline_loss_at_equal_time"] == 2.0
    assert slow["difference"] == pytest.approx(0.8)


def test_a_faster_run_is_compared_at_its_own_end_linear_between_rows(tmp_path):
    _, fast = compared(
        tmp_path, [("base", "base", 0, [4.0, 4.0], [3.0, 2.0]), ("fast", "base", 0, [2.5, 2.5], [2.8, 1.9])]
    )
    assert fast["speed"] == 1.6 and fast["equal_seconds"] == 5 and fast["loss_at_equal_time"] == 1.9
    assert fast["baseline_loss_at_equal_time"] == pytest.approx(2.75)


def test_what_cannot_be_compared_is_null(tmp_path):
    _, early, other, alone = compared(
        tmp_path,
        [
            ("base", "base", 0, [1.0, 1.0], [3.0, 2.0]),
            ("early", "base", 0, [5.0, 5.0], [2.8, 1.9]),  # its first row comes after the baseline's end
            ("early", "base", 1, [5.0, 5.0], [2.8, 1.9]),  # a seed that the baseline lacks
            ("alone", None, 0, [5.0], [2.8]),
        ],
    )
    assert early["loss_at_equal_time"] is None and early["difference"] is None and early["speed"] == 0.2
    for row in (other, alone):
        assert row["speed"] is None and row["equal_seconds"] is None and row["tokens_per_second"] > 0
