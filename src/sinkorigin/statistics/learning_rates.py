"""The sweep of learning rates: histories of trainings that may diverge, and the best setting of each run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.grids import from_rows
from sinkorigin.statistics.shared_columns import RUN, SEED, TOKENS

_OPTION = {
    "option": (pa.string(), "option of the variant that is tuned beside the rate; null: none is"),
    "option_value": (pa.float64(), "its value in this training"),
}

HISTORY_SCHEMA = tables.schema(
    **RUN,
    seed=SEED,
    peak_learning_rate=(pa.float64(), "peak learning rate of this training"),
    **_OPTION,
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
    **_OPTION,
    seed=SEED,
    tokens=TOKENS,
    train_loss=(pa.float64(), "last training loss, nats per token; null for a training that diverged"),
    validation_loss=(pa.float64(), "last validation loss, nats per token; null for a training that diverged"),
    diverged=(pa.string(), "why there is no loss"),
    mean_validation_loss=(pa.float64(), "mean over the seeds with this rate and option; null where one diverged"),
    best=(pa.bool_(), "whether that is the run's lowest"),
    at_edge=(pa.bool_(), "whether this is the lowest or highest rate of the run's grid: a better one may lie outside"),
    configured=(pa.bool_(), "whether the run trains with this rate and option in the study"),
    advice=(
        pa.string(),
        "what to change in the config, in the rows of the best rate; null where nothing is to be done",
    ),
)

TABLES = {"learning_rates": SCHEMA}

Setting = tuple[float, float | None]  # peak learning rate, value of the tuned option


def swept_history(history: str | Path, peak: float, option: str | None = None, value: float | None = None) -> pa.Table:
    """History of a training as the sweep keeps it: a table of ``HISTORY_SCHEMA``.

    Args:
        history: path of the training's history.
        peak: its peak learning rate.
        option, value: the variant's option that is tuned beside it, and its value.
    """
    rows = tables.read_table(history).to_pylist()
    tried = {"peak_learning_rate": peak, "option": option, "option_value": value, "diverged": None}
    return from_rows(HISTORY_SCHEMA, [{**row, **tried} for row in rows])


def diverged_history(
    reason: str,
    *,
    run: str,
    variant: str,
    seed: int,
    peak: float,
    option: str | None = None,
    value: float | None = None,
) -> pa.Table:
    """History of a training that diverged: a table of ``HISTORY_SCHEMA`` with one row, without a loss."""
    row = dict.fromkeys(HISTORY_SCHEMA.names)
    row |= {"run": run, "variant": variant, "seed": seed, "peak_learning_rate": peak, "diverged": reason}
    return from_rows(HISTORY_SCHEMA, [{**row, "option": option, "option_value": value}])


def compute(inputs: Mapping[str, Sequence[str]], *, configured: Mapping[str, Mapping]) -> dict[str, pa.Table]:
    """Last losses of every setting of the sweep, and which is best for each run.

    Args:
        inputs: paths of ``history``, tables of ``HISTORY_SCHEMA``.
        configured: run → ``learning_rate`` and ``option_value`` with which the study trains it.

    Returns:
        ``learning_rates``, a table of ``SCHEMA``.
    """
    return {"learning_rates": sweep_table([tables.read_table(path) for path in inputs["history"]], configured)}


def sweep_table(histories: Sequence[pa.Table], configured: Mapping[str, Mapping]) -> pa.Table:
    """Table of ``SCHEMA`` with a row for each training, in their order.

    The loss of a setting is the mean over its seeds of the last validation loss. A setting with which one seed diverged has none: it
    ended well in the others by luck.

    Args:
        histories: tables of ``HISTORY_SCHEMA``.
        configured: run → ``learning_rate`` and ``option_value`` with which the study trains it.
    """
    trained = [_end(table.to_pylist()) for table in histories]
    losses: dict[str, dict[Setting, list[float | None]]] = {}
    for row in trained:
        losses.setdefault(row["run"], {}).setdefault(_setting(row), []).append(row["validation_loss"])
    rows = []
    for row in trained:
        run, setting = row["run"], _setting(row)
        means = {
            other: np.nan if None in found else float(np.mean([loss for loss in found if loss is not None]))
            for other, found in losses[run].items()
        }
        ended = {other: loss for other, loss in means.items() if not np.isnan(loss)}
        best = min(ended, key=lambda other: ended[other], default=None)
        rates = [rate for rate, _ in means]
        trains = _setting(configured[run])
        facts = {
            "mean_validation_loss": means[setting],
            "best": setting == best,
            "at_edge": setting[0] in (min(rates), max(rates)),
            "configured": setting == trains,
        }
        advice = _advice(row, rates, trains) if setting == best else None
        rows.append({**row, **facts, "advice": advice})
    return from_rows(SCHEMA, rows)


def _setting(row: Mapping) -> Setting:
    return row["learning_rate"], row["option_value"]


def _end(history: Sequence[Mapping]) -> dict:
    """The last losses of one training; a history may end in rows without a validation loss."""
    first = history[0]
    row = {name: first[name] for name in ("run", "variant", "seed", "option", "option_value", "diverged")}
    row["learning_rate"] = first["peak_learning_rate"]
    row["tokens"] = None if first["diverged"] else max(r["tokens"] for r in history)
    for name in ("train_loss", "validation_loss"):
        row[name] = next((r[name] for r in reversed(history) if r[name] is not None), None)
    return row


def _advice(best: Mapping, rates: Sequence[float], trains: Setting) -> str | None:
    """What to change, by the best setting of a run, all rates that were tried and the setting with which the study trains it."""
    run, rate = best["run"], best["learning_rate"]
    sentences = []
    if rate in (min(rates), max(rates)):
        end, word = ("lowest", "lower") if rate == min(rates) else ("highest", "higher")
        sentences.append(
            f"{run}: {rate:g} is the {end} rate of the grid; add {word} ones to the rates that the sweep tries"
        )
    if rate != trains[0]:
        sentences.append(f"{run}: the study trains with {trains[0]:g}; set its learning_rate to {rate:g}")
    if best["option_value"] != trains[1]:
        sentences.append(
            f"{run}: the study trains with {best['option']} {trains[1]:g}; set it to {best['option_value']:g}"
        )
    return "; ".join(sentences) or None
