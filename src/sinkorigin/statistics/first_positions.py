"""Sink mass of positions 0 to 3 by layer: where the sink is under each condition of the first token."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.binomial import share_columns
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.grids import from_rows, read_layers, to_table
from sinkorigin.statistics.shared_columns import KEYS, LAYER, POSITION, estimate
from sinkorigin.statistics.uniform import FACTORS, uniform_score

SCHEMA = tables.schema(
    **KEYS,
    first_token=(pa.string(), "what stands at position 0: drawn (it varies), bos, or fixed (one ordinary token)"),
    layer=LAYER,
    position=POSITION,
    **estimate("mass", "mean over sequences and heads of the score at the position k over q > k"),
    uniform=(pa.float64(), "what uniform attention would give there"),
)

SINKS_SCHEMA = tables.schema(
    **KEYS,
    first_token=(pa.string(), "what stands at position 0: drawn (it varies), bos, or fixed (one ordinary token)"),
    position=POSITION,
    factor=(
        pa.float64(),
        "so many times the uniform score make a sink; 3 is the criterion, the others show whether it matters",
    ),
    sequences=(pa.int32(), "number of sequences"),
    sinks=(
        pa.int32(),
        "those in which the position is a sink: score over q > k, mean over layers and heads, above factor × uniform",
    ),
    share=(pa.float64(), "sinks / sequences"),
    share_low=(pa.float64(), "lower end of its exact binomial 95 % interval (Clopper and Pearson)"),
    share_high=(pa.float64(), "upper end of it"),
    **estimate("ratio", "score over q > k, mean over layers, heads and sequences / the uniform one"),
    uniform=(pa.float64(), "what uniform attention would give there"),
)

TABLES = {"first_positions": SCHEMA, "first_position_sinks": SINKS_SCHEMA}

POSITIONS = 4  # a special token can keep the sink away from position 0, or send it to one of the next


def compute(
    inputs: Mapping[str, str], *, model: str, prompts: str, length: int, first_token: str, resampling: Resampling
) -> dict[str, pa.Table]:
    """A1 at the first positions (docs/paper.md): mean over sequences, heads and queries q > k of A[q, k], k = 0 … 3.

    Args:
        inputs: path of ``scores`` (sequence, layer, head, position, score_excluding_self).
        model, prompts: names, for the first columns.
        length: T, the number of tokens of a prompt.
        first_token: condition of the prompt set, for its column.
        resampling: how intervals resample the sequences.

    Returns:
        ``first_positions``: L · 4 rows of ``SCHEMA``; a mass has no unit, from 0 to 1. ``first_position_sinks``: rows of
        ``SINKS_SCHEMA``, one a position and factor.
    """
    parts = []
    by_layer = []
    for layer, points, columns in read_layers(
        inputs["scores"], axes=("sequence", "head", "position"), columns=("score_excluding_self",)
    ):
        scores = columns["score_excluding_self"][:, :, :POSITIONS].mean(axis=1)  # (N, 4)
        by_layer.append(scores)
        parts.append(
            to_table(
                SCHEMA,
                model=model,
                prompts=prompts,
                first_token=first_token,
                layer=layer,
                position=points["position"][:POSITIONS],
                **resampling.with_interval("mass", resampling.means(scores)),
                uniform=np.array([uniform_score(position, length) for position in range(scores.shape[1])]),
            )
        )
    names = {"model": model, "prompts": prompts, "first_token": first_token}
    rows = list(sink_rows(np.mean(by_layer, axis=0), length, resampling)) if by_layer else []
    return {
        "first_positions": pa.concat_tables(parts) if parts else SCHEMA.empty_table(),
        "first_position_sinks": from_rows(SINKS_SCHEMA, [names | row for row in rows]),
    }


def sink_rows(scores: np.ndarray, length: int, resampling: Resampling) -> Iterator[dict]:
    """Rows of ``SINKS_SCHEMA`` without names, of (N, positions) scores, mean over layers and heads."""
    for position, by_sequence in enumerate(scores.T):
        uniform = uniform_score(position, length)
        found = resampling.with_interval("ratio", resampling.means(by_sequence) / uniform)
        for factor in FACTORS:
            sinks = by_sequence > factor * uniform
            yield {
                "position": position, "factor": factor, "sequences": len(by_sequence), "sinks": int(sinks.sum()),
                **share_columns("share", sinks, resampling), **{name: float(value) for name, value in found.items()}, "uniform": uniform,
            }  # fmt: skip
