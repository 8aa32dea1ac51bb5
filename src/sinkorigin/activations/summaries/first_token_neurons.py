"""What each FFN neuron writes at position 0 of every sequence (S1): ``first_token_neurons.parquet``."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sinkorigin import tables
from sinkorigin.activations.columns import LAYER, SEQUENCE, list_column
from sinkorigin.activations.first_tokens import FirstTokens
from sinkorigin.sites.architecture import Architecture

SCHEMA = tables.schema(
    sequence=SEQUENCE,
    layer=LAYER,
    activation=(pa.list_(pa.float32()), "for each neuron n: its activation a_n at position 0"),
    on_output=(pa.list_(pa.float32()), "for each: its down weights w_n · the sum of a_m w_m over all neurons m"),
    on_residual=(
        pa.list_(pa.float32()),
        "for each: w_n · the residual stream leaving the layer; null where a norm after the FFN rescales w_n",
    ),
    on_largest=(
        pa.list_(pa.float32()),
        "for each: w_n[c] · sign(r_c), c the dim of largest magnitude of that residual r, so that the parts a_n w_n[c] · sign(r_c) add up "
        "to what the FFN writes of |r_c|; null as on_residual",
    ),
    added=(
        pa.float32(),
        "what the layer adds along the residual r that leaves it, ‖r‖ − (what enters) · r / ‖r‖: its parts, such as a_n w_n · r / ‖r‖, add "
        "up to it",
    ),
    output_norm=(pa.float32(), "Euclidean norm of the sum of a_m w_m over all neurons m"),
)


@dataclass(frozen=True)
class FirstOutput:
    """What the down-projection of one layer reads and makes at position 0 of some sequences, which several tables describe."""

    layer: int
    down: Tensor  # (d, f) down weights
    activation: Tensor  # (n, f) what enters it
    output: Tensor  # (n, d) what leaves it, without a bias
    entering: Tensor  # (n, d) residual that enters the layer
    leaving: Tensor  # (n, d) residual that leaves the layer


def first_outputs(architecture: Architecture, tokens: FirstTokens) -> Iterator[FirstOutput]:
    """Those of each layer that has a down-projection, one at a time."""
    for layer, projections in enumerate(architecture.projections):
        if "down" in projections:
            down, activation = projections["down"].weight(), tokens.ffn_activation[layer]
            entering, leaving = (tokens.residual[number] for number in (layer - 1, layer))
            yield FirstOutput(layer, down, activation, activation @ down.T, entering, leaving)


def neuron_rows(architecture: Architecture, first: int, made: FirstOutput) -> dict:
    """Columns of the table for one layer; ``first`` is the number of the first sequence."""
    down, leaving, count = made.down, made.leaving, len(made.activation)
    along = torch.nn.functional.normalize(leaving, dim=-1)
    on_residual = on_largest = pa.nulls(count, SCHEMA.field("on_residual").type)
    if "contribution" not in architecture.missing[made.layer]:
        on_residual = list_column((leaving @ down).numpy())
        dims = leaving.abs().argmax(dim=-1, keepdim=True)  # (n, 1)
        on_largest = list_column((down[dims[:, 0]] * leaving.gather(1, dims).sign()).numpy())
    return {
        "sequence": np.arange(first, first + count, dtype=np.int32),
        "layer": np.full(count, made.layer, dtype=np.int32),
        "activation": list_column(made.activation.numpy()),
        "on_output": list_column((made.output @ down).numpy()),
        "on_residual": on_residual,
        "on_largest": on_largest,
        "added": ((leaving - made.entering) * along).sum(dim=-1).numpy(),
        "output_norm": torch.linalg.vector_norm(made.output, dim=-1).numpy(),
    }
