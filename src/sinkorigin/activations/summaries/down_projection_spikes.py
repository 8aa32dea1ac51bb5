"""Spikes that enter and leave the down-projection at position 0, and the weight between them (S3): ``down_projection_spikes.parquet``."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.activations.columns import LAYER, SEQUENCE
from sinkorigin.activations.summaries.first_token_neurons import FirstOutput

_AT_ONCE = 2**22  # weights whose absolute values are in memory at once

SCHEMA = tables.schema(
    sequence=SEQUENCE,
    layer=LAYER,
    neuron=(
        pa.int32(),
        "neuron n with the largest mean |activation| at position 0 of the first sequences, as many as they have positions",
    ),
    dim=(pa.int32(), "dim c with the largest mean |output of the down-projection| there"),
    weight=(pa.float32(), "weight W_down[c, n]"),
    weight_rank=(pa.int64(), "1 + number of larger |weights| in this W_down"),
    weights=(pa.int64(), "number of weights in it"),
    mean_abs_weight=(pa.float32(), "mean of their absolute values"),
    activation=(pa.float32(), "activation of n at position 0"),
    mean_abs_activation=(pa.float32(), "mean |activation| over neurons there"),
    output=(pa.float32(), "output of the down-projection, without its bias, in dim c there"),
    mean_abs_output=(pa.float32(), "mean |output| over dims there"),
    largest_neuron=(pa.int32(), "neuron with the largest |activation| in this sequence"),
    largest_dim=(pa.int32(), "dim with the largest |output| in this sequence"),
)


@dataclass(frozen=True)
class _Candidate:
    """The weight between the two spikes of a layer, and the others of its matrix."""

    neuron: int
    dim: int
    weight: float
    rank: int
    weights: int
    mean_abs: float


class DownProjectionSpikes:
    """Candidate of each layer for the single super weight, chosen from the first sequences, and what it does in all of them."""

    def __init__(self, choosing: int):
        """Start without candidates.

        Args:
            choosing: number of sequences that the candidates are chosen from, at most those of the first call.
        """
        self._choosing = choosing
        self._candidates: dict[int, _Candidate] = {}

    def rows(self, first: int, made: FirstOutput) -> dict:
        """Columns of the table for one layer; ``first`` is the number of the first sequence."""
        activation, output = np.abs(made.activation.numpy()), np.abs(made.output.numpy())  # (n, f), (n, d)
        if made.layer not in self._candidates:
            neuron, dim = (int(part[: self._choosing].mean(axis=0).argmax()) for part in (activation, output))
            self._candidates[made.layer] = _candidate(neuron, dim, made.down.numpy())
        found, count = self._candidates[made.layer], len(activation)
        return {
            "sequence": np.arange(first, first + count, dtype=np.int32),
            "layer": np.full(count, made.layer, dtype=np.int32),
            "neuron": np.full(count, found.neuron, dtype=np.int32),
            "dim": np.full(count, found.dim, dtype=np.int32),
            "weight": np.full(count, found.weight, dtype=np.float32),
            "weight_rank": np.full(count, found.rank),
            "weights": np.full(count, found.weights),
            "mean_abs_weight": np.full(count, found.mean_abs, dtype=np.float32),
            "activation": made.activation.numpy()[:, found.neuron],
            "mean_abs_activation": activation.mean(axis=1),
            "output": made.output.numpy()[:, found.dim],
            "mean_abs_output": output.mean(axis=1),
            "largest_neuron": activation.argmax(axis=1).astype(np.int32),
            "largest_dim": output.argmax(axis=1).astype(np.int32),
        }


def _candidate(neuron: int, dim: int, down: np.ndarray) -> _Candidate:
    """The weight from a neuron to a dim in the (d, f) down-projection."""
    weight = float(down[dim, neuron])
    larger, total = 0, 0.0
    for rows in np.array_split(down, -(-down.size // _AT_ONCE)):
        size = np.abs(rows)
        larger += int(np.count_nonzero(size > abs(weight)))
        total += float(size.sum(dtype=np.float64))
    return _Candidate(neuron, dim, weight, 1 + larger, down.size, total / down.size)
