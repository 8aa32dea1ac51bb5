"""What each FFN neuron writes at position 0 of every sequence (S1): ``first_token_neurons.parquet``."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch

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


def neuron_rows(architecture: Architecture, tokens: FirstTokens, first: int) -> Iterator[dict]:
    """Rows of each layer that has a down-projection; ``first`` is the number of the first sequence of ``tokens``."""
    for layer, projections in enumerate(architecture.projections):
        if "down" not in projections:
            continue
        down = projections["down"].weight()  # (d, f)
        activation = tokens.ffn_activation[layer]  # (n, f)
        output = activation @ down.T  # (n, d)
        leaving = tokens.residual[layer]
        along = torch.nn.functional.normalize(leaving, dim=-1)
        count = len(activation)
        on_residual = on_largest = pa.nulls(count, SCHEMA.field("on_residual").type)
        if "contribution" not in architecture.missing[layer]:
            on_residual = list_column((leaving @ down).numpy())
            dims = leaving.abs().argmax(dim=-1, keepdim=True)  # (n, 1)
            on_largest = list_column((down[dims[:, 0]] * leaving.gather(1, dims).sign()).numpy())
        yield {
            "sequence": np.arange(first, first + count, dtype=np.int32),
            "layer": np.full(count, layer, dtype=np.int32),
            "activation": list_column(activation.numpy()),
            "on_output": list_column((output @ down).numpy()),
            "on_residual": on_residual,
            "on_largest": on_largest,
            "added": ((leaving - tokens.residual[layer - 1]) * along).sum(dim=-1).numpy(),
            "output_norm": torch.linalg.vector_norm(output, dim=-1).numpy(),
        }
