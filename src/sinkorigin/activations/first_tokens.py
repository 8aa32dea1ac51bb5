"""What the batches of an extraction have at position 0, collected until the model's weights are applied to it."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class FirstTokens:
    """Position 0 of consecutive sequences: for each layer, a tensor whose first axis runs over the sequences.

    Attributes:
        residual: (m, d) residual stream leaving the layer; at layer -1 the embedding.
        ffn_activation: (m, f), for the layers that have it.
        key: (m, H, d_k), after RoPE, repeated for grouped queries.
        positive: (m, H) shares of queries with a positive product with the key.
    """

    residual: dict[int, Tensor] = field(default_factory=dict)
    ffn_activation: dict[int, Tensor] = field(default_factory=dict)
    key: dict[int, Tensor] = field(default_factory=dict)
    positive: dict[int, Tensor] = field(default_factory=dict)


def append(vectors: dict[int, Tensor], layer: int, more: Tensor) -> None:
    """Add (n, ...) vectors of one batch to those of a layer; they are copied, so that nothing holds the whole batch."""
    vectors[layer] = torch.cat([vectors[layer], more] if layer in vectors else [more])
