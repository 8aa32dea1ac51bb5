"""Sink mass of positions 0 to 3 by layer: where the sink is under each condition of the first token."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.grids import read_layers, to_table
from sinkorigin.statistics.shared_columns import KEYS, LAYER, POSITION, estimate
from sinkorigin.statistics.uniform import uniform_score

SCHEMA = tables.schema(
    **KEYS,
    first_token=(pa.string(), "what stands at position 0: drawn (it varies), bos, or fixed (one ordinary token)"),
    layer=LAYER,
    position=POSITION,
    **estimate("mass", "mean over sequences and heads of the score at the position k over q > k"),
    uniform=(pa.float64(), "what uniform attention would give there"),
)

TABLES = {"first_positions": SCHEMA}

POSITIONS = 4  # a special token can keep the sink away from position 0, or send it to one of the next


def compute(
    inputs: Mapping[str, str], *, model: str, prompts: str, first_token: str, resampling: Resampling
) -> dict[str, pa.Table]:
    """A1 at the first positions (docs/paper.md): mean over sequences, heads and queries q > k of A[q, k], k = 0 … 3.

    Args:
        inputs: path of ``scores`` (sequence, layer, head, position, score_excluding_self).
        model, prompts: names, for the first columns.
        first_token: condition of the prompt set, for its column.
        resampling: how intervals resample the sequences.

    Returns:
        ``first_positions``: L · 4 rows of ``SCHEMA``; a mass has no unit, from 0 to 1.
    """
    parts = []
    for layer, points, columns in read_layers(
        inputs["scores"], axes=("sequence", "head", "position"), columns=("score_excluding_self",)
    ):
        length = len(points["position"])
        scores = columns["score_excluding_self"][:, :, :POSITIONS].mean(axis=1)  # (N, 4)
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
    return {"first_positions": pa.concat_tables(parts) if parts else SCHEMA.empty_table()}
