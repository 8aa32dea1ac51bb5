"""Llama with QK-norm, see ``qk_norm``."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig
from transformers import initialization as init

from sinkorigin.variants.llama import VariedForCausalLM, VariedModel


class QKNormLlamaConfig(LlamaConfig):
    """Configuration of Llama with QK-norm; its epsilon is the other norms', ``rms_norm_eps``."""

    model_type = "qk_norm_llama"


class NormedProjection(nn.Linear):
    """Projection to queries or keys, then RMSNorm of each head: for one head, ``W x / sqrt(mean((W x)²) + eps) ⊙ scale``.

    Args:
        width: residual width, d.
        heads: number of query heads, or of key/value heads.
        head_width: d_k. The scale, (d_k) numbers that start at 1, is shared by the heads, as in Qwen3 and Gemma 3.
        bias: whether W has a bias (Llama's ``attention_bias``).
    """

    def __init__(self, width: int, heads: int, head_width: int, *, eps: float, bias: bool = False):
        super().__init__(width, heads * head_width, bias=bias)
        self.head_width, self.eps = head_width, eps
        self.scale = nn.Parameter(torch.ones(head_width))

    def forward(self, attention_input: torch.Tensor) -> torch.Tensor:
        """Normalised queries or keys (..., H·d_k) of the attention input (..., d)."""
        heads = super().forward(attention_input).unflatten(-1, (-1, self.head_width))  # (..., H, d_k)
        # in float32 at least, as LlamaRMSNorm under bfloat16
        wide = heads.to(torch.promote_types(heads.dtype, torch.float32))
        return F.rms_norm(wide, (self.head_width,), self.scale, self.eps).to(heads.dtype).flatten(-2)


class QKNormLlamaModel(VariedModel):
    """Llama's decoder with QK-norm in every layer."""

    config_class = QKNormLlamaConfig

    def vary(self, layer: Any, number: int) -> None:
        config, attention = self.config, layer.self_attn
        shared: dict[str, Any] = {"eps": config.rms_norm_eps, "bias": config.attention_bias}
        for name, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            setattr(attention, name, NormedProjection(config.hidden_size, heads, attention.head_dim, **shared))

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, NormedProjection):
            init.ones_(module.scale)


class QKNormLlamaForCausalLM(VariedForCausalLM):
    """Llama with QK-norm and the language-model head."""

    config_class = QKNormLlamaConfig
    decoder_class = QKNormLlamaModel
