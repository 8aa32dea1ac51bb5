"""Keys of position 0, and their prediction from the residual stream's largest dims (K1, K2): ``first_token_keys.parquet``."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sinkorigin import tables
from sinkorigin.activations.columns import LAYER, SEQUENCE, list_column
from sinkorigin.activations.first_tokens import FirstTokens
from sinkorigin.sites.architecture import Architecture
from sinkorigin.sites.attention import Tap
from sinkorigin.sites.modules import Place, first_tensor

SCHEMA = tables.schema(
    sequence=SEQUENCE,
    layer=LAYER,
    head=(pa.int32(), "query head; heads of one group share their key"),
    key=(pa.list_(pa.float32()), "key of position 0, after QK-norm and rotary embedding"),
    one_dim=(pa.list_(pa.float32()), "the key if the residual stream had its largest dim only; null without a norm"),
    two_dims=(pa.list_(pa.float32()), "the same for its two largest dims"),
    top_dim=(pa.int32(), "the largest dim"),
    one_hot=(
        pa.float32(),
        "cosine between the normalised residual stream, before the norm's weights, and its largest dim alone",
    ),
    positive=(pa.float32(), "share of the queries at positions >= 1 with q · key > 0"),
)


def key_rows(architecture: Architecture, tokens: FirstTokens, first: int) -> Iterator[dict]:
    """Rows of each layer that has attention; runs the model on one position.

    Args:
        first: number of the first sequence of ``tokens``.
    """
    inputs = {layer: tokens.residual[layer - 1] for layer in range(architecture.layers)}
    count = len(inputs[0])
    largest = {layer: torch.cat([largest_dims(x, 1), largest_dims(x, 2)]) for layer, x in inputs.items()}
    predicted = keys_of_inputs(architecture, largest)
    column = SCHEMA.field("one_dim").type
    for layer in architecture.attention:
        norm, key = architecture.norms[layer], tokens.key[layer]  # (n, H, d_k)
        heads, width = key.shape[1:]
        rows = count * heads
        one_dim, two_dims, one_hot = pa.nulls(rows, column), pa.nulls(rows, column), pa.nulls(rows, pa.float32())
        if norm is not None:
            parts = predicted[layer].split(count)
            one_dim, two_dims = (list_column(part.reshape(rows, width).numpy()) for part in parts)
            one_hot = one_hot_cosine(inputs[layer], norm).repeat_interleave(heads).numpy()
        yield {
            "sequence": np.repeat(np.arange(first, first + count, dtype=np.int32), heads),
            "layer": np.full(rows, layer, dtype=np.int32),
            "head": np.tile(np.arange(heads, dtype=np.int32), count),
            "key": list_column(key.reshape(rows, width).numpy()),
            "one_dim": one_dim,
            "two_dims": two_dims,
            "top_dim": inputs[layer].abs().argmax(-1).int().repeat_interleave(heads).numpy(),
            "one_hot": one_hot,
            "positive": tokens.positive[layer].reshape(rows).numpy(),
        }


def largest_dims(vectors: Tensor, count: int) -> Tensor:
    """(n, d) vectors with all but their ``count`` dims of largest magnitude set to 0."""
    kept = vectors.abs().topk(count, dim=-1).indices
    return torch.zeros_like(vectors).scatter(-1, kept, vectors.gather(-1, kept))


def one_hot_cosine(vectors: Tensor, norm: str) -> Tensor:
    """Cosine between the normalised vector, before the norm's weights, and that of its largest dim alone (docs/paper.md, K1).

    RMSNorm keeps the direction, so it is |x_c| / ||x||. LayerNorm subtracts the mean from both: x − mean(x) against
    e_c − 1/d.

    Args:
        vectors: (n, d) residual vectors. norm: "RMSNorm" or "LayerNorm".
    """
    alone = largest_dims(vectors, 1)
    if norm == "LayerNorm":
        vectors, alone = (part - part.mean(dim=-1, keepdim=True) for part in (vectors, alone))
    return torch.nn.functional.cosine_similarity(vectors, alone, dim=-1)


def positive_share(query: Tensor, key: Tensor) -> Tensor:
    """Share (n, H) of the queries at positions >= 1 with a positive product with the key of position 0 (docs/paper.md, K2).

    It is NaN for T = 1.

    Args:
        query: (n, H, T, d_k); key: (n, H, d_k).
    """
    products = np.einsum("nhtd,nhd->nht", query[:, :, 1:].numpy(), key.numpy())
    return torch.from_numpy(products > 0).float().mean(dim=-1)


def keys_of_inputs(architecture: Architecture, inputs: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Keys that each layer would give position 0 if its block received these vectors.

    The model's norm, key projection with bias, QK-norm and rotary embedding do the work, so the result is the collapse
    formula K1 of docs/paper.md whatever the architecture: for a vector with one dim c, RMSNorm gives ±sqrt(d)·γ_c·W_K[:, c]
    (1 + γ in Gemma), LayerNorm another limit.

    Args:
        inputs: layer → (n, d) block inputs, for every layer.

    Returns:
        layer → (n, H, d_k) keys, repeated for grouped queries, for the layers that have attention.
    """
    count = len(next(iter(inputs.values())))
    keys = _Keys()
    with ExitStack() as stack:
        for layer, block in enumerate(architecture.blocks):
            stack.callback(Place(block, "input").hook(partial(_in_place_of, inputs[layer])).remove)
        stack.enter_context(architecture.tapped(keys))
        stack.enter_context(architecture.wrapped(keys.end_block))
        architecture.forward(torch.zeros((count, 1), dtype=torch.long, device=architecture.device))
    return keys.by_layer


def _in_place_of(new: Tensor, old: Tensor) -> Tensor:
    return new.to(old.device, old.dtype).reshape(old.shape)


class _KeySeen(Exception):
    """Ends a block whose key has been seen."""


class _Keys(Tap):
    """Keys of position 0 of one forward pass, in which each block but the first ends as soon as its key is there."""

    def __init__(self):
        self.by_layer: dict[int, Tensor] = {}
        self._rest: tuple | None = None  # what a block returns beside the hidden states, where it returns a tuple

    def observe(self, layer, query, key, weights, aggregation):
        self.by_layer[layer] = key[:, :, 0].detach().to("cpu", torch.float32)  # (n, H, d_k)
        if layer:
            raise _KeySeen

    def end_block(self, layer: int, forward: Callable) -> Callable:
        """Forward method of a block that returns its input where its attention ended it."""

        def ended(*args, **kwargs):
            try:
                output = forward(*args, **kwargs)
            except _KeySeen:  # what the block returns is replaced before the next one
                hidden = first_tensor(args, kwargs)
                return hidden if self._rest is None else (hidden, *self._rest)
            self._rest = tuple(output[1:]) if isinstance(output, tuple | list) else None
            return output

        return ended
