"""A1 and A2: sink score by head and position, sink mass by layer, sink rate, and the layer where the sink begins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics import change_points
from sinkorigin.statistics.bootstrap import Resampling, first_layer_above
from sinkorigin.statistics.grids import read_layers, to_table
from sinkorigin.statistics.shared_columns import KEYS, LAYER_KEYS, estimate, onset_columns
from sinkorigin.statistics.uniform import uniform_score

# Every quantity is given of the weights as they are, and in a form that compares models whose rows sum to anything.
_NORMALISED = "of weights divided by the sum of their query's; equal to it where these sum to one"

SINKS_SCHEMA = tables.schema(
    **LAYER_KEYS,
    head=(pa.int32(), "query head"),
    position=(pa.int32(), "key position k"),
    score=(pa.float64(), "mean over sequences of the mean attention weight A[q, k] over q >= k"),
    **estimate("score_excluding_self", "the same over q > k; null at the last position"),
    score_normalised=(pa.float64(), f"score {_NORMALISED}"),
    **estimate("score_excluding_self_normalised", f"the same over q > k {_NORMALISED}; null at the last position"),
)

SINK_MASS_SCHEMA = tables.schema(
    **LAYER_KEYS,
    **estimate("mass", "mean over sequences and heads of the score at position 0 over q > 0"),
    **estimate("mass_normalised", f"mass {_NORMALISED}"),
    uniform=(pa.float64(), "what uniform attention would give"),
)

SINK_RATE_SCHEMA = tables.schema(
    **KEYS,
    epsilon=(pa.float64(), "threshold of the score"),
    position=(pa.int32(), "key position k"),
    **estimate("rate", "share of (sequence, layer, head) whose score over q >= k is above epsilon"),
    **estimate("rate_normalised", f"rate {_NORMALISED}"),
)

SINK_ONSET_SCHEMA = tables.schema(**KEYS, **onset_columns("mass that a layer must pass", "sink mass"))

TABLES = {
    "sinks": SINKS_SCHEMA,
    "sink_mass": SINK_MASS_SCHEMA,
    "sink_rate": SINK_RATE_SCHEMA,
    "sink_onset": SINK_ONSET_SCHEMA,
    "sink_changes": change_points.SCHEMA,
}


@dataclass(frozen=True)
class _LayerScores:
    """What the scores of one layer give, of weights as they are or divided by their query's sum.

    Attributes:
        score: (H, T) mean over sequences of the score over q >= k.
        excluding_self, low, high: (H, T) mean over sequences of the score over q > k, and its interval.
        mass: (1 + R,) sink mass, and that of each bootstrap replicate.
        above: (epsilons, N, T) number of heads whose score over q >= k is above epsilon.
    """

    score: np.ndarray
    excluding_self: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mass: np.ndarray
    above: np.ndarray

    @classmethod
    def measure(
        cls, score: np.ndarray, excluding_self: np.ndarray, resampling: Resampling, epsilons: Sequence[float]
    ) -> "_LayerScores":
        """Summarise (N, H, T) scores over q >= k and over q > k."""
        sequences, heads, length = score.shape
        draws = resampling.weights(sequences)  # (R, N)
        samples = (draws @ excluding_self.reshape(sequences, -1)).reshape(len(draws), heads, length)  # (R, H, T)
        low, high = resampling.interval(samples)
        mean = excluding_self.mean(axis=0)  # (H, T)
        mass = np.concatenate([[mean[:, 0].mean()], samples[:, :, 0].mean(axis=1)])
        above = np.stack([(score > epsilon).sum(axis=1) for epsilon in epsilons])
        return cls(score.mean(axis=0), mean, low, high, mass, above)


def compute(
    inputs: Mapping[str, str],
    *,
    model: str,
    prompts: str,
    length: int,
    epsilons: Sequence[float],
    onset_mass: float,
    change_mass: float,
    resampling: Resampling,
) -> dict[str, pa.Table]:
    """A1 and A2 from the attention scores, a layer at a time (docs/paper.md).

    The score of position k is sail-sg's importance score (Gu et al. 2024, "When Attention Sink Emerges", §3): the mean
    over queries q >= k of A[q, k], in 0 … 1; the sink rate is theirs at epsilon = 0.3. The sink mass of a layer leaves
    the query 0 out, whose weight on itself is always 1. Where a query's weights do not sum to one, each is also taken of
    weights divided by their sum; onset and change points are of the weights as they are.

    Args:
        inputs: path of ``scores`` (sequence, layer, head, position, score, score_excluding_self, and both normalised).
        model, prompts: names, for the first columns.
        length: T, the number of tokens of a prompt; of long ones, the tables have the first positions.
        epsilons: thresholds of the sink rate.
        onset_mass: the sink begins in the first layer whose mass is above this.
        change_mass: the mass' change points are where it rises or falls by this much.
        resampling: how intervals resample the sequences.

    Returns:
        With P positions: ``sinks`` (L·H·P rows of ``SINKS_SCHEMA``), ``sink_mass`` (L of ``SINK_MASS_SCHEMA``), ``sink_rate`` (epsilons·P of
        ``SINK_RATE_SCHEMA``), ``sink_onset`` (one of ``SINK_ONSET_SCHEMA``) and ``sink_changes``
        (``change_points.SCHEMA``).
    """
    names = {"model": model, "prompts": prompts}
    sinks, layers = [], []
    found: dict[str, list[_LayerScores]] = {"": [], "_normalised": []}  # by how the columns of the form end
    heads_in_all = 0
    for layer, points, columns in read_layers(
        inputs["scores"],
        axes=("sequence", "head", "position"),
        columns=[name + form for form in found for name in ("score", "score_excluding_self")],
    ):
        sequences, heads, _ = columns["score"].shape
        values: dict[str, np.ndarray] = {}
        for form, measured in found.items():
            score, excluding_self = columns[f"score{form}"], columns[f"score_excluding_self{form}"]
            # nulls say that rows sum to one: the normalised form is the other
            sums_to_one = np.isnan(score).all()
            scores = found[""][-1] if sums_to_one else _LayerScores.measure(score, excluding_self, resampling, epsilons)
            measured.append(scores)
            values |= {
                f"score{form}": scores.score,
                f"score_excluding_self{form}": scores.excluding_self,
                f"score_excluding_self{form}_low": scores.low,
                f"score_excluding_self{form}_high": scores.high,
            }
        keys = {"layer": layer, "head": points["head"][:, None], "position": points["position"]}
        sinks.append(to_table(SINKS_SCHEMA, **names, **keys, **values))
        layers.append(layer)
        heads_in_all += heads
    masses: dict[str, np.ndarray] = {}
    rates: dict[str, np.ndarray] = {}
    for form, measured in found.items():
        mass = np.stack([scores.mass for scores in measured], axis=1)  # (1 + R, L)
        masses |= resampling.with_interval(f"mass{form}", mass)
        rate = np.sum([scores.above for scores in measured], axis=0) / heads_in_all  # (epsilons, N, T)
        low, high = resampling.interval(resampling.weights(sequences) @ rate, axis=1)  # of (epsilons, R, T)
        rates |= {f"rate{form}": rate.mean(axis=1), f"rate{form}_low": low, f"rate{form}_high": high}
    mass = np.stack([scores.mass for scores in found[""]], axis=1)
    onset, earliest, latest = first_layer_above(mass[0], mass[1:], np.array(layers), onset_mass, resampling)
    uniform = uniform_score(0, length)
    rows = {"epsilon": np.asarray(epsilons, dtype=np.float64)[:, None], "position": points["position"]}
    onsets = {"threshold": onset_mass, "layer": [onset], "layer_low": earliest, "layer_high": latest}
    return {
        "sinks": pa.concat_tables(sinks),
        "sink_mass": to_table(SINK_MASS_SCHEMA, **names, layer=layers, **masses, uniform=uniform),
        "sink_rate": to_table(SINK_RATE_SCHEMA, **names, **rows, **rates),
        "sink_onset": to_table(SINK_ONSET_SCHEMA, **names, **onsets),
        "sink_changes": change_points.change_table(
            mass[0], mass[1:], layers, change_mass, resampling, factor=False, quantity="sink mass", **names
        ),
    }
