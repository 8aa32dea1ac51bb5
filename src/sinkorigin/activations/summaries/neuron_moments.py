"""Mean and largest magnitude of each neuron's activation, first tokens against the others (S1): ``neuron_moments.parquet``."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from torch import Tensor

from sinkorigin import tables
from sinkorigin.activations.columns import LAYER, TOKENS

SCHEMA = tables.schema(
    layer=LAYER,
    tokens=TOKENS,
    neuron=(pa.int32(), "FFN neuron"),
    count=(pa.int64(), "number of tokens"),
    mean_abs=(pa.float64(), "mean absolute value of the activation"),
    max_abs=(pa.float64(), "largest absolute value"),
)


class NeuronMoments:
    """Sums and maxima over tokens of the magnitude of FFN activations, by layer and neuron."""

    def __init__(self):
        self._sums: dict[tuple[int, str], tuple[int, np.ndarray, np.ndarray]] = {}  # count, sum of |a|, max of |a|

    def add(self, layer: int, values: Tensor) -> None:
        """Take (n, T, f) FFN activations."""
        magnitude = np.abs(values.numpy())
        first = magnitude[:, 0].copy()
        magnitude[:, 0] = 0  # adds nothing to the others' sum, and is not their largest
        for tokens, part in (("first", first), ("rest", magnitude.reshape(-1, magnitude.shape[-1]))):
            count = len(first) if tokens == "first" else len(part) - len(first)
            if not count:
                continue
            # a batch in float32, by a product, which is several times as fast as a sum; the batches in float64
            total = np.ones(len(part), dtype=np.float32) @ part
            largest = part.max(axis=0)
            old = self._sums.get((layer, tokens), (0, np.float64(0), largest))
            self._sums[layer, tokens] = (old[0] + count, old[1] + total, np.maximum(old[2], largest))

    def rows(self) -> Iterator[dict]:
        """Columns of the table, for each part of its rows."""
        for (layer, tokens), (count, magnitude, largest) in sorted(self._sums.items()):
            neurons = len(largest)
            yield {
                "layer": np.full(neurons, layer, dtype=np.int32),
                "tokens": [tokens] * neurons,
                "neuron": np.arange(neurons, dtype=np.int32),
                "count": np.full(neurons, count),
                "mean_abs": magnitude / count,
                "max_abs": largest.astype(np.float64),
            }
