"""The sweep of learning rates: histories of trainings that may diverge, and the best rate of each run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.grids import from_rows
from sinkorigin.statistics.shared_columns import RUN, SEED, TOKENS

HISTORY_SCHEMA = tables.schema(
    **RUN,
    seed=SEED,
    peak_learning_rate=(pa.float64(), "peak learning rate of this training"),
    step=(pa.int32(), "optimizer steps done; null for a training that diverged"),
    tokens=(pa.int64(), "training tokens seen"),
    train_loss=(pa.float64(), "cross-entropy, nats per token, mean over the steps since the previous row"),
    validation_loss=(pa.float64(), "cross-entropy, nats per token, on the fixed validation windows"),
    learning_rate=(pa.float64(), "learning rate of the last step"),
    gradient_norm=(pa.float64(), "gradient norm before clipping, mean over the steps since the previous row"),
    diverged=(pa.string(), "why there is no loss; null for a training that ended"),
)

SCHEMA = tables.schema(
    **RUN,
    learning_rate=(pa.float64(), "peak learning rate"),
    seed=SEED,
    tokens=TOKENS,
    train_loss=(pa.float64(), "last training loss, nats per token; null for a training that diverged"),
    validation_loss=(pa.float64(), "last validation loss, nats per token; null for a training that diverged"),
    diverged=(pa.string(), "why there is no loss"),
    mean_validation_loss=(pa.float64(), "mean over the seeds at this rate; null where one diverged"),
    best=(pa.bool_(), "whether that is the run's lowest"),
    at_edge=(pa.bool_(), "whether this is the lowest or highest rate of the run's grid: a better one may lie outside"),
    configured=(pa.bool_(), "whether the run trains with this rate in the study"),
    advice=(
        pa.string(),
        "what to change in the config, in the rows of the best rate; null where nothing is to be done",
    ),
)

TABLES = {"learning_rates": SCHEMA}


def swept_history(history: str | Path, peak: float) -> pa.Table:
    """History of a training as the sweep keeps it: a table of ``HISTORY_SCHEMA``."""
    rows = tables.read_table(history).to_pylist()
    return from_rows(HISTORY_SCHEMA, [{**row, "peak_learning_rate": peak, "diverged": None} for row in rows])


def diverged_history(reason: str, *, run: str, variant: str, seed: int, peak: float) -> pa.Table:
    """History of a training that diverged: a table of ``HISTORY_SCHEMA`` with one row, without a loss."""
    row = dict.fromkeys(HISTORY_SCHEMA.names)
    row |= {"run": run, "variant": variant, "seed": seed, "peak_learning_rate": peak, "diverged": reason}
    return from_rows(HISTORY_SCHEMA, [row])


def compute(inputs: Mapping[str, Sequence[str]], *, configured: Mapping[str, float]) -> dict[str, pa.Table]:
    """Last losses of every learning rate of the sweep, and which rate is best for each run.

    Args:
        inputs: paths of ``history``, tables of ``HISTORY_SCHEMA``.
        configured: run → learning rate with which the study trains it.

    Returns:
        ``learning_rates``, a table of ``SCHEMA``.
    """
    return {"learning_rates": sweep_table([tables.read_table(path) for path in inputs["history"]], configured)}


def sweep_table(histories: Sequence[pa.Table], configured: Mapping[str, float]) -> pa.Table:
    """Table of ``SCHEMA`` with a row for each training, in their order.

    The loss of a rate is the mean over its seeds of the last validation loss. A rate at which one seed diverged has none: it
    ended well in the others by luck.

    Args:
        histories: tables of ``HISTORY_SCHEMA``.
        configured: run → learning rate with which the study trains it.
    """
    trained = [_end(table.to_pylist()) for table in histories]
    means: dict[str, dict[float, float]] = {}
    for row in trained:
        means.setdefault(row["run"], {})[row["learning_rate"]] = np.nan
    for run, rates in means.items():
        for rate in rates:
            losses = [r["validation_loss"] for r in trained if r["run"] == run and r["learning_rate"] == rate]
            rates[rate] = np.nan if None in losses else float(np.mean(losses))
    rows = []
    for row in trained:
        rates, rate = means[row["run"]], row["learning_rate"]
        ended = {other: loss for other, loss in rates.items() if not np.isnan(loss)}
        best = min(ended, key=lambda other: ended[other], default=None)
        facts = {
            "mean_validation_loss": rates[rate],
            "best": rate == best,
            "at_edge": rate in (min(rates), max(rates)),
            "configured": rate == configured.get(row["run"]),
        }
        rows.append({**row, **facts, "advice": _advice(row["run"], rate, rates, configured) if rate == best else None})
    return from_rows(SCHEMA, rows)


def _end(history: Sequence[Mapping]) -> dict:
    """The last losses of one training; a history may end in rows without a validation loss."""
    first = history[0]
    row = {name: first[name] for name in ("run", "variant", "seed", "diverged")}
    row["learning_rate"] = first["peak_learning_rate"]
    row["tokens"] = None if first["diverged"] else max(r["tokens"] for r in history)
    for name in ("train_loss", "validation_loss"):
        row[name] = next((r[name] for r in reversed(history) if r[name] is not None), None)
    return row


def _advice(run: str, best: float, rates: Mapping[float, float], configured: Mapping[str, float]) -> str | None:
    sentences = []
    if best in (min(rates), max(rates)):
        end, word = ("lowest", "lower") if best == min(rates) else ("highest", "higher")
        sentences.append(
            f"{run}: {best:g} is the {end} rate of the grid; add {word} ones to pretraining.learning_rates.rates"
        )
    if configured.get(run) != best:
        sentences.append(f"{run}: the study trains with {configured.get(run):g}; set its learning_rate to {best:g}")
    return "; ".join(sentences) or None
