"""Alignment of the FFN's input with each neuron's gate weights, by position (S1): ``gate_cosines.parquet``."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sinkorigin import tables
from sinkorigin.activations.columns import LAYER, list_column
from sinkorigin.sites.architecture import Architecture

POSITIONS = 512  # a row holds a number for each neuron, so that more would outgrow all other tables of long prompts

SCHEMA = tables.schema(
    layer=LAYER,
    position=(pa.int32(), f"position in the sequence, from 0; one of the first {POSITIONS}"),
    cosine=(pa.list_(pa.float32()), "for each neuron: mean over sequences of cos(FFN input, gate weights)"),
)


class GateCosines:
    """Mean over sequences of cos(FFN input, gate weights) by layer and position.

    The mean of cosines with one vector is its product with the mean unit vector, so only (T, d) sums are kept.
    """

    def __init__(self):
        self._sums: dict[int, tuple[int, np.ndarray]] = {}  # sequences, (T, d) sum of unit vectors

    def add(self, layer: int, values: Tensor) -> None:
        """Take (n, T, d) FFN inputs."""
        units = torch.nn.functional.normalize(values[:, :POSITIONS], dim=-1).sum(0).double().numpy()  # (T, d)
        count, total = self._sums.get(layer, (0, np.float64(0)))
        self._sums[layer] = count + len(values), total + units

    def rows(self, architecture: Architecture) -> Iterator[dict]:
        """Columns of the table, for each layer whose FFN has a gate."""
        for layer, (count, units) in sorted(self._sums.items()):
            gate = architecture.projections[layer].get("gate")
            if gate is None:
                continue
            weights = torch.nn.functional.normalize(gate.weight(), dim=-1)  # (f, d)
            cosines = torch.from_numpy(units / count).float() @ weights.T  # (T, f)
            yield {
                "layer": np.full(len(units), layer, dtype=np.int32),
                "position": np.arange(len(units), dtype=np.int32),
                "cosine": list_column(cosines.numpy()),
            }
