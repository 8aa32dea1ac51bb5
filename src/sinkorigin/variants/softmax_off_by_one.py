"""Softmax-off-by-one, exp(x_j) / (1 + Σ_k exp(x_k)): a head may attend to nothing (Miller 2023, "Attention is off by one")."""

from typing import TYPE_CHECKING

from sinkorigin.variants.declaration import Variant

if TYPE_CHECKING:
    from torch import Tensor, nn


def softmax_off_by_one(logits: "Tensor", visible: "Tensor", length: int) -> "Tensor":
    """exp(x_j) / (1 + Σ_k exp(x_k)) of the masked logits, see ``declaration.Variant.weights``."""
    largest = logits.detach().amax(-1, keepdim=True).clamp_min(0)  # the result does not depend on it
    exponential = (logits - largest).exp()
    return exponential / (exponential.sum(-1, keepdim=True) + (-largest).exp())


def null_key_attention(
    module: "nn.Module", query: "Tensor", key: "Tensor", value: "Tensor", attention_mask: "Tensor | None", **kwargs
) -> "tuple[Tensor, None]":
    """Softmax-off-by-one by PyTorch's fused softmax: a key 0 with value 0 adds exp(0) = 1 to every denominator.

    The arguments are those of ``sdpa_attention_forward``; the mask is boolean, or None for a causal one.
    """
    from torch.nn.functional import pad
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    length = query.shape[2]
    causal = attention_mask is None and length > 1
    # the causal kernel aligns first query and first key, so there the null key gets a query too, whose row is dropped
    query = pad(query, (0, 0, 1, 0)) if causal else query
    key, value = (pad(part, (0, 0, 1, 0)) for part in (key, value))  # (N, H_kv, 1 + S, d_k)
    if attention_mask is not None:
        attention_mask = pad(attention_mask, (1, 0), value=True)
    aggregation, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return aggregation[:, -length:], None


VARIANT = Variant(
    "softmax_off_by_one", "softmax-off-by-one", weights=softmax_off_by_one, fused_attention=null_key_attention
)
