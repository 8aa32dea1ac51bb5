"""Sigmoid attention, σ(x_j + b): each key by itself, rows do not sum to one (Ramapuram et al. 2024)."""

import math
from typing import TYPE_CHECKING, Any, Literal

from sinkorigin.variants.declaration import LayerCost, Option, Variant

if TYPE_CHECKING:
    from torch import Tensor, dtype


def sigmoid(logits: "Tensor", visible: "Tensor", length: int, *, bias: str = "log_length") -> "Tensor":
    """σ(x + b) of the masked logits, see ``declaration.Variant.weights``.

    Args:
        bias: "log_length", b = −log of the training length, as published; or "log_visible", b = −log of the number of keys
            that the query sees, this project's: at x = 0 a row of n keys sums to n/(n+1), where the published one sums to about
            n/length.
    """
    return (logits - _minus_bias(visible, length, bias, logits.dtype)).sigmoid()


def _minus_bias(visible: "Tensor", length: int, bias: str, dtype: "dtype") -> "Tensor | float":
    """−b: one number, or one for each query (…, T, 1)."""
    if bias == "log_length":
        return math.log(length)
    if bias != "log_visible":
        raise ValueError(f"the bias of sigmoid attention is log_length or log_visible, not {bias}")
    return visible.sum(-1, keepdim=True).clamp_min(1).to(dtype).log()


def sigmoid_attention(
    module: Any,
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    attention_mask: "Tensor | None",
    *,
    scaling: float,
    **kwargs,
) -> "tuple[Tensor, None]":
    """Sigmoid attention in few passes over the weights: the product of queries and keys starts from b, or −∞ where masked.

    The arguments are those of ``sdpa_attention_forward``; the mask is boolean, or None for a causal one.
    """
    import torch
    from transformers.integrations.sdpa_attention import repeat_kv

    sequences, heads, length, _ = query.shape
    key, value = (repeat_kv(part, heads // part.shape[1]).flatten(0, 1) for part in (key, value))  # (N·H, S, d_k)
    if attention_mask is None:
        visible = torch.ones(length, key.shape[1], dtype=torch.bool, device=query.device).tril(key.shape[1] - length)
    else:
        visible = attention_mask.expand(sequences, heads, -1, -1).flatten(0, 1)  # (N·H, T, S)
    options = {"bias": "log_length", **module.attention_weights.keywords}
    hidden = torch.zeros(visible.shape, device=query.device).masked_fill(~visible, -math.inf)
    start = hidden - _minus_bias(visible, **options, dtype=hidden.dtype)  # b, or −∞
    if query.dtype == torch.float32 and not torch.is_autocast_enabled(query.device.type):
        logits = torch.baddbmm(start, query.flatten(0, 1), key.transpose(1, 2), alpha=scaling)
    else:  # b and the sum in float32
        logits = torch.bmm(query.flatten(0, 1), key.transpose(1, 2)).float() * scaling + start
    aggregation = torch.bmm(logits.sigmoid().to(value.dtype), value)
    return aggregation.unflatten(0, (sequences, heads)).transpose(1, 2).contiguous(), None


VARIANT = Variant(
    "sigmoid",
    "sigmoid attention, σ(q·k/√d_k + b)",
    weights=sigmoid,
    fused_attention=sigmoid_attention,
    options={
        "bias": Option(
            Literal["log_length", "log_visible"],
            "log_length",
            "log_length: b = −log of the training length (Ramapuram et al. 2024). log_visible, ours: −log of the number of "
            "keys that the query sees.",
        )
    },
    reading=lambda options: f"bias {options['bias']}",
    layer_cost=lambda size, options: LayerCost(weight_bytes=(4, 6)),
)
