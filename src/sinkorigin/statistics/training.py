"""Sink, disparity and rank over training: the statistics of every kept checkpoint of a run, by layer and over layers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.grids import from_rows
from sinkorigin.statistics.shared_columns import FIRST_TOKEN, RUN, SEED

QUANTITIES = {
    "sink_mass": "mean over sequences and heads of the attention to position 0 over q > 0 (A1)",
    "sink_mass_normalised": "the same with every row of the attention divided by its sum",
    "sink_rate": "share of (sequence, head) whose score of position 0 over q >= 0 is above epsilon (A2)",
    "dominance_ratio_first": "mean over sequences of max |h| / mean |h| of the residual at position 0 (D1)",
    "dominance_ratio_rest": "the same over positions >= 1",
    "norm_first": "mean over sequences of the residual's Euclidean norm at position 0 (V3)",
    "norm_rest": "the same over positions >= 1",
    "norm_ratio": "norm_first / norm_rest",
    "effective_rank": "effective rank of the residual, uncentred, all positions (E1)",
    "effective_rank_later": "the same without position 0",
    "variance_ratio": "variance over sequences at position 0 / mean of the others, of what enters W_O, after any norm or gate (V1)",
    "aggregation_variance_ratio": "the same of the value aggregation, before any norm or gate",
}

SCHEMA = tables.schema(
    **RUN,
    seed=SEED,
    prompts=(pa.string(), "name of the prompt set"),
    first_token=FIRST_TOKEN,
    step=(pa.int32(), "optimizer steps done; 0 is the initialisation"),
    tokens=(pa.int64(), "training tokens seen"),
    over=(
        pa.string(),
        "layer: the value of this layer; largest: the largest value of a layer, the embedding included; mean: over the "
        "layers, without the embedding",
    ),
    layer=(pa.int32(), "layer, counted from 0; the residual's layer -1 is the embedding; null for a mean"),
    quantity=(pa.string(), "; ".join(f"{name}: {text}" for name, text in QUANTITIES.items())),
    epsilon=(pa.float64(), "sink_rate: threshold of the score; null for other quantities"),
    value=(pa.float64(), "its value"),
    uniform=(pa.float64(), "sink mass: what uniform attention would give; null for other quantities"),
)


@dataclass(frozen=True)
class Measured:
    """One number of one layer.

    Attributes:
        layer: layer, counted from 0; -1 is the embedding.
        quantity: a key of ``QUANTITIES``.
        value: its value.
        epsilon: threshold of the score, for a sink rate.
        uniform: what uniform attention would give, for a sink mass.
    """

    layer: int
    quantity: str
    value: float
    epsilon: float | None = None
    uniform: float | None = None


def with_summaries(found: Sequence[Measured]) -> Iterator[dict]:
    """Rows of over, layer, quantity, epsilon, value and uniform: each layer, then the largest and the mean."""
    groups: dict[tuple[str, float | None], list[Measured]] = {}
    for one in found:
        groups.setdefault((one.quantity, one.epsilon), []).append(one)
    for (quantity, epsilon), layers in groups.items():
        shared = {"quantity": quantity, "epsilon": epsilon, "uniform": layers[0].uniform}
        for one in layers:
            yield {**shared, "over": "layer", "layer": one.layer, "value": one.value}
        known = [one for one in layers if not np.isnan(one.value)]
        if known:
            largest = max(known, key=lambda one: one.value)
            yield {**shared, "over": "largest", "layer": largest.layer, "value": largest.value}
        decoder = [one.value for one in known if one.layer >= 0]
        yield {**shared, "over": "mean", "layer": None, "value": float(np.mean(decoder)) if decoder else None}


def training_table(
    checkpoints: Iterable[tuple[int, str, Sequence[Measured]]],
    *,
    run: str,
    variant: str,
    seed: int,
    step_tokens: int,
    first_tokens: Mapping[str, str],
) -> pa.Table:
    """Statistics of the checkpoints of one training: a table of ``SCHEMA``.

    Args:
        checkpoints: (step, prompts, what was measured), in the order of the table.
        run, variant, seed: names and seed of the training.
        step_tokens: training tokens in one step.
        first_tokens: prompt set → what the model's sequences of it begin with.
    """
    rows = []
    for step, prompts, found in checkpoints:
        facts = {"run": run, "variant": variant, "seed": seed, "prompts": prompts, "step": step}
        facts["first_token"] = first_tokens[prompts]
        rows += [{**facts, "tokens": step * step_tokens, **row} for row in with_summaries(found)]
    return from_rows(SCHEMA, rows)
