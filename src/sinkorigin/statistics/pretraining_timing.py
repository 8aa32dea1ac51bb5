"""Speed of every training, and its loss at the time at which the faster of it and its baseline had ended.

Runs are compared at equal tokens elsewhere; a variant that is slower a token can be worse at equal time. Times are of this
machine under the load that it had: unlike every other table of a study, this one and the trainings' ``timing`` are not the same
in every run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.grids import from_rows
from sinkorigin.statistics.shared_columns import RUN, SEED, TOKENS

SCHEMA = tables.schema(
    **RUN,
    baseline=(pa.string(), "the softmax run that it is compared with; its own name for that run, null where there is none"),
    seed=SEED,
    tokens=TOKENS,
    seconds=(pa.float64(), "wall time of the training steps, without evaluation and checkpoints, s"),
    tokens_per_second=(pa.float64(), "tokens / seconds"),
    speed=(pa.float64(), "tokens_per_second / that of the baseline's training with this seed; null without one"),
    equal_seconds=(pa.float64(), "time at which the faster of the two trainings had ended, s"),
    loss_at_equal_time=(
        pa.float64(),
        "validation loss at that time, nats per token, linear between rows of the history; null before the first row",
    ),
    baseline_loss_at_equal_time=(pa.float64(), "the baseline's at that time"),
    difference=(pa.float64(), "loss_at_equal_time - baseline_loss_at_equal_time"),
)  # fmt: skip

TABLES = {"pretraining_timing": SCHEMA}


@dataclass(frozen=True)
class Curve:
    """Validation loss of one training over time.

    Attributes:
        seconds: (rows,) time since the start of each row of the history, s.
        losses: (rows,) validation loss there, nats per token.
        tokens: number of training tokens until the last row.
    """

    seconds: np.ndarray
    losses: np.ndarray
    tokens: int

    def at(self, seconds: float) -> float | None:
        """Loss at a time, linear between rows; None before the first."""
        if seconds < self.seconds[0]:
            return None
        return float(np.interp(seconds, self.seconds, self.losses))


def compute(inputs: Mapping[str, Sequence[str]], *, trainings: Sequence[Mapping[str, Any]]) -> dict[str, pa.Table]:
    """Speed and loss at equal time of each training.

    Args:
        inputs: paths of ``history`` and ``timing``, the two tables of each training.
        trainings: run, variant, seed and baseline of each training, in the order of the tables.

    Returns:
        ``pretraining_timing``, a table of ``SCHEMA`` with a row for each training, in their order.
    """
    curves = {
        (facts["run"], facts["seed"]): _curve(history, timing)
        for facts, history, timing in zip(trainings, inputs["history"], inputs["timing"], strict=True)
    }
    rows = [
        {**facts, **_compared(curves[facts["run"], facts["seed"]], curves.get((facts["baseline"], facts["seed"])))}
        for facts in trainings
    ]
    return {"pretraining_timing": from_rows(SCHEMA, rows)}


def _curve(history: str, timing: str) -> Curve:
    """Curve of one training from its tables."""
    rows = (
        pl.DataFrame(tables.read_table(history)).join(pl.DataFrame(tables.read_table(timing)), on="step").sort("step")
    )
    return Curve(rows["seconds"].cum_sum().to_numpy(), rows["validation_loss"].to_numpy(), rows["tokens"][-1])


def _compared(one: Curve, baseline: Curve | None) -> dict[str, float | int | None]:
    """Columns of one training beside a baseline with the same seed, if there is one."""
    seconds = float(one.seconds[-1])
    found: dict[str, float | int | None] = {
        "tokens": one.tokens,
        "seconds": seconds,
        "tokens_per_second": one.tokens / seconds,
    }
    names = ("speed", "equal_seconds", "loss_at_equal_time", "baseline_loss_at_equal_time", "difference")
    if baseline is None:
        return found | dict.fromkeys(names)
    equal = min(seconds, float(baseline.seconds[-1]))
    losses = one.at(equal), baseline.at(equal)
    difference = None if None in losses else losses[0] - losses[1]  # type: ignore[operator]
    speed = (one.tokens / seconds) / (baseline.tokens / float(baseline.seconds[-1]))
    return found | dict(zip(names, (speed, equal, *losses, difference), strict=True))
