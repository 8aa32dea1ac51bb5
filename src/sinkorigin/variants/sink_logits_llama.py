"""Llama with learned sink logits, see ``sink_logits``."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AttentionInterface, AttentionMaskInterface, LlamaConfig
from transformers import initialization as init
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from sinkorigin.variants.llama import OtherWeights, VariedForCausalLM, VariedModel

_FUSED = "sinkorigin_sink_logits"
_DIMS = 8  # that the fused kernel's vectors have more; one is needed, kernels of GPUs take multiples of 8


class SinkLogitsLlamaConfig(LlamaConfig):
    """Configuration of Llama with learned sink logits."""

    model_type = "sink_logits_llama"


class SinkLogits(nn.Module):
    """Softmax over the visible keys and one more that has no value, whose logit s each head learns.

    The attention function takes its weights from here (``sites.attention``, ``attention_weights``).

    Args:
        heads: number of query heads, H.
    """

    def __init__(self, heads: int):
        super().__init__()
        self.sinks = nn.Parameter(torch.zeros(heads))

    def forward(self, logits: Tensor, visible: Tensor) -> Tensor:
        """exp(x_j) / (exp(s) + Σ_k exp(x_k)) of the masked logits (N, H, T, S)."""
        sinks = self.sinks.to(logits.dtype).view(1, -1, 1, 1).expand(*logits.shape[:1], -1, logits.shape[2], 1)
        return torch.cat([logits, sinks], dim=-1).softmax(dim=-1)[..., :-1]


def null_key_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *, scaling: float, **kwargs
) -> tuple[Tensor, None]:
    """Attention with sink logits by PyTorch's fused softmax: a null key, with value 0, has the logit s.

    Queries have one dim more, s / scaling, which is 0 in all keys and 1 in the null key. The arguments are those of
    ``sdpa_attention_forward``; the mask is boolean, or None for a causal one.
    """
    sequences, heads, length, head_width = query.shape
    causal = attention_mask is None and length > 1
    further = (module.attention_weights.sinks / scaling).to(query.dtype).view(1, heads, 1, 1)
    query = torch.cat([query, further.expand(sequences, heads, length, 1)], dim=-1)
    # the causal kernel aligns first query and first key, so there the null key gets a query too, whose row is dropped
    query = pad(query, (0, _DIMS - 1, 1 if causal else 0, 0))
    null = key.new_zeros(_DIMS + head_width)
    null[head_width] = 1
    null = null.expand(sequences, key.shape[1], 1, -1)
    key = torch.cat([null, pad(key, (0, _DIMS))], dim=2)  # (N, H_kv, 1 + S, d_k + 8)
    value = pad(value, (0, _DIMS, 1, 0))
    if attention_mask is not None:
        attention_mask = pad(attention_mask, (1, 0), value=True)
    aggregation, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    return aggregation[:, -length:, :, :head_width], None


AttentionInterface.register(_FUSED, null_key_attention)
AttentionMaskInterface.register(_FUSED, sdpa_mask)


class SinkLogitsLlamaModel(OtherWeights, VariedModel):
    """Llama's decoder with learned sink logits in every layer."""

    config_class = SinkLogitsLlamaConfig
    fused = _FUSED

    def vary(self, layer: Any, number: int) -> None:
        layer.self_attn.attention_weights = SinkLogits(self.config.num_attention_heads)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SinkLogits):
            init.zeros_(module.sinks)


class SinkLogitsLlamaForCausalLM(OtherWeights, VariedForCausalLM):
    """Llama with learned sink logits and the language-model head."""

    config_class = SinkLogitsLlamaConfig
    decoder_class = SinkLogitsLlamaModel
    fused = _FUSED
