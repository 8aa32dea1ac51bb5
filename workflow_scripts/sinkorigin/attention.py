"""The attention function that the whole project observes and edits: the hook point between value aggregation and W_O.

It is registered with transformers' ``AttentionInterface``, so it serves every model class that takes its attention from
there. Where no tap is set it computes what the model's own eager attention computes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

IMPLEMENTATION = "sinkorigin"


class Tap:
    """Something that looks at, or edits, one attention call. Every method does nothing unless overridden.

    ``offset`` is the position of the first query (not 0 while generating with a key-value cache).
    """

    def edit_logits(self, layer: int, logits: Tensor, offset: int) -> Tensor:
        """Edit the masked attention logits (N, H, T, S) before the softmax; return the logits to use."""
        return logits

    def edit_aggregation(self, layer: int, aggregation: Tensor, offset: int) -> Tensor:
        """Edit the value aggregation (N, H, T, d_k) before W_O; return the one to use."""
        return aggregation

    def observe(self, layer: int, query: Tensor, key: Tensor, weights: Tensor, aggregation: Tensor) -> None:
        """See query (N, H, T, d_k) and key (N, H, S, d_k) after RoPE, weights (N, H, T, S) and aggregation, edited."""


_taps: WeakKeyDictionary[nn.Module, list[tuple[int, Tap]]] = WeakKeyDictionary()
_witnesses: list[list[nn.Module]] = []


def tapped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs,
) -> tuple[Tensor, Tensor]:
    """Causal softmax attention, softmax(q·k·scaling + mask)·v, with the taps of ``module``.

    Args:
        query: (N, H, T, d_k); key, value: (N, H_kv, S, d_k), not yet repeated for grouped queries.
        attention_mask: (N or 1, 1, T, S), added to the logits; it carries causality and sliding windows.
        softcap: logits become softcap·tanh(logits/softcap) (Gemma 2).
        s_aux: (H,) learned sink logits (gpt-oss): they take part in the softmax and are then dropped.

    Returns:
        The value aggregation (N, T, H, d_k) and the attention weights (N, H, T, S).
    """
    for seen in _witnesses:
        seen.append(module)
    taps = _taps.get(module, ())
    groups = query.shape[1] // key.shape[1]
    key = key.repeat_interleave(groups, dim=1) if groups > 1 else key  # (N, H, S, d_k)
    value = value.repeat_interleave(groups, dim=1) if groups > 1 else value
    offset = key.shape[2] - query.shape[2]
    logits = torch.matmul(query, key.transpose(2, 3)) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    if attention_mask is not None:
        logits = logits + attention_mask[..., : key.shape[2]]
    for layer, tap in taps:
        logits = tap.edit_logits(layer, logits, offset)
    if s_aux is not None:
        sinks = s_aux.reshape(1, -1, 1, 1).expand(logits.shape[0], -1, logits.shape[2], 1)
        logits = torch.cat([logits, sinks.to(logits.dtype)], dim=-1)
        # as the model does: half-precision logits are shifted by their maximum before the softmax
        logits = logits - logits.max(dim=-1, keepdim=True).values
        weights = torch.softmax(logits, dim=-1, dtype=logits.dtype)[..., :-1]
    else:
        weights = torch.softmax(logits, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    aggregation = torch.matmul(weights, value)  # (N, H, T, d_k)
    for layer, tap in taps:
        aggregation = tap.edit_aggregation(layer, aggregation, offset)
    output = aggregation.transpose(1, 2).contiguous()  # (N, T, H, d_k)
    for layer, tap in taps:
        tap.observe(layer, query, key, weights, output.transpose(1, 2))
    return output, weights


AttentionInterface.register(IMPLEMENTATION, tapped_attention)
AttentionMaskInterface.register(IMPLEMENTATION, eager_mask)


@contextmanager
def through_taps(model: PreTrainedModel) -> Iterator[None]:
    """Let ``model`` compute its attention here; its former implementation comes back on exit, also after an error."""
    before = model.config._attn_implementation
    if before == IMPLEMENTATION:  # an outer block has set it; setting it again walks through all modules
        yield
        return
    model.set_attn_implementation(IMPLEMENTATION)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def witnessed() -> Iterator[list[nn.Module]]:
    """Collect the attention modules that call this function inside the block, in order."""
    seen: list[nn.Module] = []
    _witnesses.append(seen)
    try:
        yield seen
    finally:
        _witnesses.remove(seen)


@contextmanager
def tapped(model: PreTrainedModel, attention_modules: Mapping[int, nn.Module], *taps: Tap) -> Iterator[None]:
    """Set ``taps``, in order, on the attention of every layer; blocks nest, and leaving one removes its own taps."""
    with through_taps(model):
        entries = [(module, (layer, tap)) for layer, module in attention_modules.items() for tap in taps]
        for module, entry in entries:
            _taps.setdefault(module, []).append(entry)
        try:
            yield
        finally:
            for module, entry in entries:
                _taps[module].remove(entry)
