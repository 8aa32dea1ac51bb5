"""What the batches of an extraction have at position 0, collected until the model's weights are applied to it."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class FirstTokens:
    """Position 0 of consecutive sequences: for each layer, a tensor whose first axis runs over the sequences."""

    residual: dict[int, Tensor] = field(default_factory=dict)  # (m, d), leaving the layer; at layer -1 the embedding
    ffn_activation: dict[int, Tensor] = field(default_factory=dict)  # (m, f), for the layers that have it
    key: dict[int, Tensor] = field(default_factory=dict)  # (m, H, d_k), after RoPE, repeated for grouped queries
    positive: dict[int, Tensor] = field(default_factory=dict)  # (m, H) shares of queries with query · key > 0


def append(vectors: dict[int, Tensor], layer: int, more: Tensor) -> None:
    """Add (n, ...) vectors of one batch to those of a layer; they are copied, so that nothing holds the whole batch."""
    vectors[layer] = torch.cat([vectors[layer], more] if layer in vectors else [more])
