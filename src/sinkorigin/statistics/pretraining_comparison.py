"""The paper's table of pretraining: what each run reached, and its paired difference to the baseline, over seeds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.grids import from_rows
from sinkorigin.statistics.pretraining import last_known
from sinkorigin.statistics.shared_columns import FIRST_TOKEN, PARAMETERS, RUN, SEED, TOKENS
from sinkorigin.statistics.student import paired_interval

# quantity → (what it is, unit)
QUANTITIES = {
    "train_loss": ("last training loss, the mean since the history's row before", "nats per token"),
    "validation_loss": ("last validation loss", "nats per token"),
    "validation_loss_over_training": ("validation loss, mean over the rows of the history", "nats per token"),
    "tokens_to_baseline_loss": (
        "training tokens after which the validation loss first reaches the baseline's last one of the same seed, linear "
        "between two rows of the history",
        "tokens",
    ),
    "token_ratio": (
        "tokens_to_baseline_loss / the tokens after which the baseline of the same seed itself first reaches that loss",
        "1",
    ),
    "effective_rank": ("effective rank of the residual, all positions, uncentred, mean over layers", "dims"),
    "effective_rank_later": ("the same without position 0", "dims"),
    "dimension_disparity": ("dominance ratio of the first token's residual, mean over layers", "1"),
    "disparity_over_rest": ("the same / the mean over layers of the other tokens' dominance ratio", "1"),
    "dimension_disparity_largest": (
        "dominance ratio of the first token's residual in the layer where it is largest, the embedding included",
        "1",
    ),
    "disparity_over_rest_largest": ("the same / the dominance ratio of the other tokens in that layer", "1"),
    "sink_mass": ("attention to position 0 over q > 0, in the layer where it is largest", "1"),
    "sink_mass_mean": ("the same, mean over layers", "1"),
    "sink_mass_normalised": ("as sink_mass, with every row of the attention divided by its sum", "1"),
    "sink_mass_normalised_mean": ("the same, mean over layers", "1"),
    "sink_rate": ("share of (sequence, layer, head) whose score of position 0 over q >= 0 is above epsilon", "1"),
    "norm_ratio": ("norm of the first token's residual / the others', in the layer where it is largest", "1"),
    "variance_ratio": (
        "variance over sequences at position 0 / mean of the others, in layer 0, of what enters W_O, after any norm or gate; 0: all "
        "sequences begin with one token",
        "1",
    ),
    "variance_ratio_mean": ("the same, mean over layers", "1"),
    "aggregation_variance_ratio": ("as variance_ratio, of the value aggregation, before any norm or gate", "1"),
}

# (quantity, summary over layers or number of the layer) of the statistics over training → quantity here
_STRUCTURE: dict[tuple[str, str | int], str] = {
    ("effective_rank", "mean"): "effective_rank",
    ("effective_rank_later", "mean"): "effective_rank_later",
    ("dominance_ratio_first", "mean"): "dimension_disparity",
    ("dominance_ratio_first", "largest"): "dimension_disparity_largest",
    ("sink_mass", "largest"): "sink_mass",
    ("sink_mass", "mean"): "sink_mass_mean",
    ("sink_mass_normalised", "largest"): "sink_mass_normalised",
    ("sink_mass_normalised", "mean"): "sink_mass_normalised_mean",
    ("sink_rate", "mean"): "sink_rate",
    ("norm_ratio", "largest"): "norm_ratio",
    ("variance_ratio", 0): "variance_ratio",
    ("variance_ratio", "mean"): "variance_ratio_mean",
    ("aggregation_variance_ratio", 0): "aggregation_variance_ratio",
}
# disparity of the first token → what it is divided by that of the others as
_OVER_REST = {
    "dimension_disparity": "disparity_over_rest",
    "dimension_disparity_largest": "disparity_over_rest_largest",
}

_QUANTITY = {
    "prompts": (pa.string(), "prompt set; null for losses"),
    "first_token": (FIRST_TOKEN[0], f"{FIRST_TOKEN[1]}; null for losses"),
    "quantity": (pa.string(), "; ".join(f"{name}: {text}" for name, (text, _) in QUANTITIES.items())),
    "epsilon": (pa.float64(), "sink_rate: threshold of the score"),
    "unit": (pa.string(), "unit of the values"),
    "uniform": (pa.float64(), "sink mass: what uniform attention would give"),
}

_RUN = {
    **RUN,
    "baseline": (
        pa.string(),
        "the softmax run that it is compared with; its own name for that run, null where there is none",
    ),
}

BY_SEED_SCHEMA = tables.schema(
    **_RUN,
    seed=SEED,
    **_QUANTITY,
    value=(pa.float64(), "its value; null: not reached, or the baseline lacks this seed"),
)

COMPARISON_SCHEMA = tables.schema(
    **_RUN,
    parameters=PARAMETERS,
    tokens=TOKENS,
    **_QUANTITY,
    seeds=(pa.int32(), "number of seeds that have a value"),
    of_seeds=(pa.int32(), "number of seeds trained"),
    mean=(pa.float64(), "mean over the seeds that have a value"),
    sd=(pa.float64(), "standard deviation over them (n - 1); null for one"),
    pairs=(pa.int32(), "number of seeds that run and baseline share"),
    difference=(
        pa.float64(),
        "run - baseline, mean over these pairs; null for the baseline, and where a pair lacks a value",
    ),
    difference_low=(pa.float64(), "lower end of its 95 % Student interval over pairs; null for one pair"),
    difference_high=(pa.float64(), "upper end"),
)

TABLES = {"by_seed": BY_SEED_SCHEMA, "comparison": COMPARISON_SCHEMA}


@dataclass(frozen=True)
class Training:
    """One training and what it left.

    Attributes:
        run, variant, seed: names and seed of the training.
        baseline: name of the run that it is compared with, ``run`` for a baseline itself; None where there is none.
        parameters: number of the model's parameters.
        history: rows of step, tokens, train_loss, validation_loss, ...
        measured: rows of ``training.SCHEMA``; those of the last step are read.
    """

    run: str
    variant: str
    seed: int
    baseline: str | None
    parameters: int
    history: pl.DataFrame
    measured: pl.DataFrame


def compute(inputs: Mapping[str, Any], *, trainings: Sequence[Mapping]) -> dict[str, pa.Table]:
    """What each run reached, by seed and over seeds.

    Args:
        inputs: paths of ``history``, each training's history; of ``training``, the manifests of the statistics of each run's
            checkpoints; and of ``pretraining``, the table of where the trainings ended.
        trainings: run, variant, seed and baseline of each training, in the order of the histories.

    Returns:
        ``by_seed`` (``BY_SEED_SCHEMA``) and ``comparison`` (``COMPARISON_SCHEMA``).
    """
    ends = pl.DataFrame(tables.read_table(inputs["pretraining"]))
    parameters = {(run, seed): count for run, seed, count in ends.select("run", "seed", "parameters").iter_rows()}
    folders = {manifest.parent.name: manifest.parent for manifest in map(Path, inputs["training"])}  # by run
    known = [
        Training(
            **facts,
            parameters=parameters[facts["run"], facts["seed"]],
            history=pl.DataFrame(tables.read_table(history)),
            measured=pl.DataFrame(tables.read_table(folders[facts["run"]] / f"seed={facts['seed']}.parquet")),
        )
        for facts, history in zip(trainings, inputs["history"], strict=True)
    ]
    by_seed = by_seed_table(known)
    return {"by_seed": by_seed, "comparison": comparison_table(known, by_seed)}


def tokens_to_reach(loss: float, tokens: Sequence[int], losses: Sequence[float]) -> float | None:
    """Tokens after which a loss curve is first at or below ``loss``, linear between its points; None if it never is."""
    for i, value in enumerate(losses):
        if value <= loss:
            if i == 0 or value == loss:
                return float(tokens[i])
            share = (losses[i - 1] - loss) / (losses[i - 1] - value)
            return float(tokens[i - 1] + share * (tokens[i] - tokens[i - 1]))
    return None


def _tokens_to_reach(loss: float, history: pl.DataFrame) -> float | None:
    curve = history.sort("step").drop_nulls("validation_loss")
    return tokens_to_reach(loss, curve["tokens"].to_list(), curve["validation_loss"].to_list())


def _losses(one: Training, baseline: Training | None) -> Iterator[dict]:
    history = one.history.sort("step")
    curve = history.drop_nulls("validation_loss")
    for name in ("train_loss", "validation_loss"):
        yield {"quantity": name, "value": last_known(history[name])}
    yield {"quantity": "validation_loss_over_training", "value": curve["validation_loss"].mean()}
    reached = needed = None
    if baseline is not None and (goal := last_known(baseline.history.sort("step")["validation_loss"])) is not None:
        reached, needed = _tokens_to_reach(goal, one.history), _tokens_to_reach(goal, baseline.history)
    yield {"quantity": "tokens_to_baseline_loss", "value": reached}
    yield {"quantity": "token_ratio", "value": None if reached is None or needed is None else reached / needed}


def _structure(one: Training) -> Iterator[dict]:
    """What the statistics of the final model say, on each prompt set."""
    final = one.measured.filter(pl.col("step") == pl.col("step").max())
    for _, rows in final.group_by("prompts", maintain_order=True):
        found = {(row["quantity"], _over(row)): row["value"] for row in rows.to_dicts()}
        for row in rows.to_dicts():
            name = _STRUCTURE.get((row["quantity"], _over(row)))
            if name is None:
                continue
            shared = {key: row[key] for key in ("prompts", "first_token", "uniform", "epsilon", "value")}
            yield {**shared, "quantity": name}
            if name in _OVER_REST:
                layer = "mean" if row["over"] == "mean" else row["layer"]
                rest = found["dominance_ratio_rest", layer]
                yield {**shared, "quantity": _OVER_REST[name], "value": row["value"] / rest}


def _over(row: Mapping[str, Any]) -> str | int:
    """Summary over layers of a row, or its layer."""
    return row["layer"] if row["over"] == "layer" else row["over"]


def by_seed_table(trainings: Sequence[Training]) -> pa.Table:
    """Every quantity of every training: a table of ``BY_SEED_SCHEMA``, in the order of ``trainings``."""
    known = {(one.run, one.seed): one for one in trainings}
    rows = []
    for one in trainings:
        facts = {name: getattr(one, name) for name in ("run", "variant", "baseline", "seed")}
        empty = {"prompts": None, "first_token": None, "epsilon": None, "uniform": None}
        for found in (*_losses(one, known.get((one.baseline, one.seed))), *_structure(one)):
            rows.append({**facts, **empty, "unit": QUANTITIES[found["quantity"]][1], **found})
    return from_rows(BY_SEED_SCHEMA, rows)


def comparison_table(trainings: Sequence[Training], by_seed: pa.Table) -> pa.Table:
    """Mean, standard deviation and paired difference of every quantity: a table of ``COMPARISON_SCHEMA``.

    Args:
        trainings: the trainings, in the order of the table.
        by_seed: the table that :func:`by_seed_table` made of them.
    """
    groups: dict[tuple, list[dict]] = {}
    for row in by_seed.to_pylist():
        groups.setdefault((row["run"], row["prompts"], row["quantity"], row["epsilon"]), []).append(row)
    example = {one.run: one for one in trainings}
    rows = []
    for (run, *what), seeds in groups.items():
        one = example[run]
        values = [row["value"] for row in seeds if row["value"] is not None]
        baseline = one.baseline if one.baseline != run else None
        base_values = {row["seed"]: row["value"] for row in groups.get((baseline, *what), [])}
        pairs = [(row["value"], base_values[row["seed"]]) for row in seeds if row["seed"] in base_values]
        rows.append(
            {
                **{name: seeds[0][name] for name in COMPARISON_SCHEMA.names if name in seeds[0]},
                "parameters": one.parameters,
                "tokens": one.history["tokens"].max(),
                "seeds": len(values),
                "of_seeds": len(seeds),
                "mean": float(np.mean(values)) if values else None,
                "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
                "pairs": len(pairs),
                **_difference(pairs),
            }
        )
    return from_rows(COMPARISON_SCHEMA, rows)


def _difference(pairs: Sequence[tuple[float | None, float | None]]) -> Mapping[str, float | None]:
    """Mean difference over pairs with its interval, null where one lacks a value: seeds that reached a loss are no fair sample."""
    names = ("difference", "difference_low", "difference_high")
    if not pairs or any(value is None for pair in pairs for value in pair):
        return dict.fromkeys(names)
    return dict(zip(names, paired_interval([value - base_value for value, base_value in pairs]), strict=True))
