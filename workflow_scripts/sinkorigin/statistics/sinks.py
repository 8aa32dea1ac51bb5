"""A1 and A2: sink score by head and position, sink mass by layer, sink rate, and the layer where the sink begins."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics import shared_columns
from sinkorigin.statistics.bootstrap import first_layer_above, interval, resamples
from sinkorigin.statistics.change_points import change_table
from sinkorigin.statistics.grids import read_layers, to_table
from sinkorigin.statistics.uniform import uniform_score

SINKS_SCHEMA = tables.schema(
    **shared_columns.KEYS,
    layer=shared_columns.LAYER,
    head=(pa.int32(), "query head"),
    position=(pa.int32(), "key position k"),
    score=(pa.float64(), "mean over sequences of the mean attention weight A[q, k] over q >= k"),
    score_excluding_self=(pa.float64(), "the same over q > k; null at the last position"),
    score_excluding_self_low=shared_columns.LOW,
    score_excluding_self_high=shared_columns.HIGH,
)

SINK_MASS_SCHEMA = tables.schema(
    **shared_columns.KEYS,
    layer=shared_columns.LAYER,
    mass=(pa.float64(), "mean over sequences and heads of the score at position 0 over q > 0"),
    mass_low=shared_columns.LOW,
    mass_high=shared_columns.HIGH,
    uniform=(pa.float64(), "what uniform attention would give"),
)

SINK_RATE_SCHEMA = tables.schema(
    **shared_columns.KEYS,
    epsilon=(pa.float64(), "threshold of the score"),
    position=(pa.int32(), "key position k"),
    rate=(pa.float64(), "share of (sequence, layer, head) whose score over q >= k is above epsilon"),
    rate_low=shared_columns.LOW,
    rate_high=shared_columns.HIGH,
)

SINK_ONSET_SCHEMA = tables.schema(
    **shared_columns.KEYS,
    threshold=(pa.float64(), "mass that a layer must pass"),
    layer=(pa.int32(), "first layer whose sink mass is above the threshold; null if none"),
    layer_low=(pa.int32(), "2.5th percentile over bootstrap replicates; none counts as the number of layers"),
    layer_high=(pa.int32(), "97.5th percentile over bootstrap replicates; none counts as the number of layers"),
)


def sink_tables(
    scores: str | Path,
    *,
    model: str,
    prompts: str,
    epsilons: Sequence[float],
    onset_mass: float,
    change_mass: float,
    replicates: int,
    seed: int,
) -> tuple[pa.Table, pa.Table, pa.Table, pa.Table, pa.Table]:
    """A1 and A2 from the attention scores, a layer at a time.

    The score of position k is sail-sg's importance score (Gu et al. 2024, "When Attention Sink Emerges", §3): the mean
    over queries q >= k of A[q, k], in 0 … 1; the sink rate is theirs at epsilon = 0.3. The sink mass of a layer leaves
    the query 0 out, whose weight on itself is always 1.

    Args:
        scores: the table of (sequence, layer, head, position, score, score_excluding_self).
        model, prompts: names, for the first columns.
        epsilons: thresholds of the sink rate.
        onset_mass: the sink begins in the first layer whose mass is above this.
        change_mass: the mass' change points are where it rises or falls by this much.
        replicates, seed: of the bootstrap over sequences.

    Returns:
        Tables of ``SINKS_SCHEMA`` (L·H·T rows), ``SINK_MASS_SCHEMA`` (L), ``SINK_RATE_SCHEMA`` (epsilons·T),
        ``SINK_ONSET_SCHEMA`` (1) and ``change_points.SCHEMA``.
    """
    names = {"model": model, "prompts": prompts}
    sinks, layers, masses = [], [], []
    above: list[np.ndarray] = [np.zeros(())] * len(epsilons)  # each (N, T): layers and heads above epsilon
    heads_in_all = 0
    for layer, points, columns in read_layers(
        scores, axes=("sequence", "head", "position"), columns=("score", "score_excluding_self")
    ):
        score, excluding_self = columns["score"], columns["score_excluding_self"]  # (N, H, T)
        sequences, heads, length = score.shape
        weights = resamples(sequences, replicates, seed)  # (R, N)
        samples = (weights @ excluding_self.reshape(sequences, -1)).reshape(-1, heads, length)  # (R, H, T)
        low, high = interval(samples)
        mean = excluding_self.mean(axis=0)  # (H, T)
        sinks.append(
            to_table(
                SINKS_SCHEMA,
                **names,
                layer=layer,
                head=points["head"][:, None],
                position=points["position"],
                score=score.mean(axis=0),
                score_excluding_self=mean,
                score_excluding_self_low=low,
                score_excluding_self_high=high,
            )
        )
        layers.append(layer)
        masses.append(np.concatenate([[mean[:, 0].mean()], samples[:, :, 0].mean(axis=1)]))  # (1 + R,)
        above = [total + (score > epsilon).sum(axis=1) for total, epsilon in zip(above, epsilons, strict=True)]
        heads_in_all += heads
    mass = np.stack(masses, axis=1)  # (1 + R, L)
    mass_low, mass_high = interval(mass[1:])
    rate = np.stack(above) / heads_in_all  # (epsilons, N, T)
    rate_low, rate_high = interval(weights @ rate, axis=1)  # (epsilons, R, T)
    onset, onset_low, onset_high = first_layer_above(mass[0], mass[1:], np.array(layers), onset_mass)
    return (
        pa.concat_tables(sinks),
        to_table(
            SINK_MASS_SCHEMA,
            **names,
            layer=layers,
            mass=mass[0],
            mass_low=mass_low,
            mass_high=mass_high,
            uniform=uniform_score(0, length),
        ),
        to_table(
            SINK_RATE_SCHEMA,
            **names,
            epsilon=np.asarray(epsilons, dtype=np.float64)[:, None],
            position=points["position"],
            rate=rate.mean(axis=1),
            rate_low=rate_low,
            rate_high=rate_high,
        ),
        to_table(
            SINK_ONSET_SCHEMA,
            **names,
            threshold=onset_mass,
            layer=[onset],
            layer_low=onset_low,
            layer_high=onset_high,
        ),
        change_table(
            mass[0], mass[1:], layers, change_mass, factor=False, model=model, prompts=prompts, quantity="sink mass"
        ),
    )
