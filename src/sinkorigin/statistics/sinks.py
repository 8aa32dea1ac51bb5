"""A1 and A2: sink score by head and position, sink mass by layer, sink rate, and the layer where the sink begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics import shared_columns
from sinkorigin.statistics.bootstrap import first_layer_above, interval, resamples
from sinkorigin.statistics.change_points import change_table
from sinkorigin.statistics.grids import read_layers, to_table
from sinkorigin.statistics.uniform import uniform_score

# of every quantity there is one of the weights as they are, and one that compares models whose rows sum to anything
_NORMALISED = "of weights divided by the sum of their query's; equal to it where these sum to one"

SINKS_SCHEMA = tables.schema(
    **shared_columns.KEYS,
    layer=shared_columns.LAYER,
    head=(pa.int32(), "query head"),
    position=(pa.int32(), "key position k"),
    score=(pa.float64(), "mean over sequences of the mean attention weight A[q, k] over q >= k"),
    score_excluding_self=(pa.float64(), "the same over q > k; null at the last position"),
    score_excluding_self_low=shared_columns.LOW,
    score_excluding_self_high=shared_columns.HIGH,
    score_normalised=(pa.float64(), f"score {_NORMALISED}"),
    score_excluding_self_normalised=(pa.float64(), f"the same over q > k {_NORMALISED}; null at the last position"),
    score_excluding_self_normalised_low=shared_columns.LOW,
    score_excluding_self_normalised_high=shared_columns.HIGH,
)

SINK_MASS_SCHEMA = tables.schema(
    **shared_columns.KEYS,
    layer=shared_columns.LAYER,
    mass=(pa.float64(), "mean over sequences and heads of the score at position 0 over q > 0"),
    mass_low=shared_columns.LOW,
    mass_high=shared_columns.HIGH,
    mass_normalised=(pa.float64(), f"mass {_NORMALISED}"),
    mass_normalised_low=shared_columns.LOW,
    mass_normalised_high=shared_columns.HIGH,
    uniform=(pa.float64(), "what uniform attention would give"),
)

SINK_RATE_SCHEMA = tables.schema(
    **shared_columns.KEYS,
    epsilon=(pa.float64(), "threshold of the score"),
    position=(pa.int32(), "key position k"),
    rate=(pa.float64(), "share of (sequence, layer, head) whose score over q >= k is above epsilon"),
    rate_low=shared_columns.LOW,
    rate_high=shared_columns.HIGH,
    rate_normalised=(pa.float64(), f"rate {_NORMALISED}"),
    rate_normalised_low=shared_columns.LOW,
    rate_normalised_high=shared_columns.HIGH,
)

SINK_ONSET_SCHEMA = tables.schema(
    **shared_columns.KEYS,
    threshold=(pa.float64(), "mass that a layer must pass"),
    layer=(pa.int32(), "first layer whose sink mass is above the threshold; null if none"),
    layer_low=(pa.int32(), "2.5th percentile over bootstrap replicates; none counts as the number of layers"),
    layer_high=(pa.int32(), "97.5th percentile over bootstrap replicates; none counts as the number of layers"),
)


@dataclass(frozen=True)
class _Scores:
    """What the scores of one layer give, of weights as they are or divided by their query's sum.

    Attributes:
        score, excluding_self, low, high: (H, T) means over sequences of the score over q >= k, of that over q > k, and the
            latter's interval.
        mass: (1 + R,) sink mass, and of each bootstrap replicate.
        above: (epsilons, N, T) number of heads whose score over q >= k is above epsilon.
    """

    score: np.ndarray
    excluding_self: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mass: np.ndarray
    above: np.ndarray


def _of_layer(score: np.ndarray, excluding_self: np.ndarray, draws: np.ndarray, epsilons: Sequence[float]) -> _Scores:
    """From (N, H, T) scores and (R, N) weights of bootstrap replicates."""
    sequences, heads, length = score.shape
    samples = (draws @ excluding_self.reshape(sequences, -1)).reshape(-1, heads, length)  # (R, H, T)
    low, high = interval(samples)
    mean = excluding_self.mean(axis=0)  # (H, T)
    mass = np.concatenate([[mean[:, 0].mean()], samples[:, :, 0].mean(axis=1)])
    above = np.stack([(score > epsilon).sum(axis=1) for epsilon in epsilons])
    return _Scores(score.mean(axis=0), mean, low, high, mass, above)


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
    the query 0 out, whose weight on itself is always 1. Where a query's weights do not sum to one, each is also taken of
    weights divided by their sum; onset and change points are of the weights as they are.

    Args:
        scores: the table of ``capture.SCORES_SCHEMA``.
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
    sinks, layers = [], []
    found: dict[str, list[_Scores]] = {"": [], "_normalised": []}  # by how the columns of the form end
    heads_in_all = 0
    for layer, points, columns in read_layers(
        scores,
        axes=("sequence", "head", "position"),
        columns=[name + form for form in found for name in ("score", "score_excluding_self")],
    ):
        sequences, heads, length = columns["score"].shape
        draws = resamples(sequences, replicates, seed)  # (R, N)
        values: dict[str, np.ndarray] = {}
        for form, layers_of_form in found.items():
            score, excluding_self = columns[f"score{form}"], columns[f"score_excluding_self{form}"]
            # nulls say that rows sum to one: the normalised form is the other
            own = found[""][-1] if np.isnan(score).all() else _of_layer(score, excluding_self, draws, epsilons)
            layers_of_form.append(own)
            values |= {
                f"score{form}": own.score,
                f"score_excluding_self{form}": own.excluding_self,
                f"score_excluding_self{form}_low": own.low,
                f"score_excluding_self{form}_high": own.high,
            }
        sinks.append(
            to_table(
                SINKS_SCHEMA,
                **names,
                layer=layer,
                head=points["head"][:, None],
                position=points["position"],
                **values,
            )
        )
        layers.append(layer)
        heads_in_all += heads
    of_mass: dict[str, np.ndarray] = {}
    of_rate: dict[str, np.ndarray] = {}
    for form, layers_of_form in found.items():
        masses = np.stack([own.mass for own in layers_of_form], axis=1)  # (1 + R, L)
        low, high = interval(masses[1:])
        of_mass |= {f"mass{form}": masses[0], f"mass{form}_low": low, f"mass{form}_high": high}
        rate = np.sum([own.above for own in layers_of_form], axis=0) / heads_in_all  # (epsilons, N, T)
        low, high = interval(draws @ rate, axis=1)  # of (epsilons, R, T)
        of_rate |= {f"rate{form}": rate.mean(axis=1), f"rate{form}_low": low, f"rate{form}_high": high}
    mass = np.stack([own.mass for own in found[""]], axis=1)
    onset, onset_low, onset_high = first_layer_above(mass[0], mass[1:], np.array(layers), onset_mass)
    return (
        pa.concat_tables(sinks),
        to_table(
            SINK_MASS_SCHEMA,
            **names,
            layer=layers,
            **of_mass,
            uniform=uniform_score(0, length),
        ),
        to_table(
            SINK_RATE_SCHEMA,
            **names,
            epsilon=np.asarray(epsilons, dtype=np.float64)[:, None],
            position=points["position"],
            **of_rate,
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
