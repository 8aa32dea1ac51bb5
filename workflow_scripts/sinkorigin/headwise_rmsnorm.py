"""Head-wise RMSNorm after value aggregation, as a Llama model type of its own (arXiv 2605.06611).

Importing this module registers the model type ``headwise_rmsnorm_llama``, so that ``AutoModelForCausalLM`` loads it.

The norm lives in the output projection. So the attention itself is transformers' own (any attention function, grouped
queries, key-value cache), and what an attention function hands to the projection is the value aggregation as it is,
before the norm: the same site in every variant.
"""

from typing import Any, Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, LlamaModel
from transformers import initialization as init

HeadwiseScale = Literal["per_head", "shared", "none"]


class HeadwiseNormProjection(nn.Linear):
    """RMSNorm of each head's value aggregation, then the output projection W_O.

    For one head, o (d_k) becomes ``o / sqrt(mean(o²) + eps) ⊙ scale + offset``.

    Args:
        heads: number of query heads, H.
        head_width: d_k.
        width: residual width, d.
        scale: "per_head" learns (H, d_k) numbers, "shared" (d_k) for all heads, "none" fixes the scale at scale_init.
        scale_init: the starting value of the scale.
        offset: learn an offset of the scale's shape ((H, d_k) where there is no learned scale), starting at 0.
        bias: whether W_O has a bias of its own (Llama's ``attention_bias``).
    """

    def __init__(
        self,
        heads: int,
        head_width: int,
        width: int,
        *,
        scale: HeadwiseScale = "per_head",
        scale_init: float = 1.0,
        offset: bool = True,
        eps: float = 1e-6,
        bias: bool = False,
    ):
        super().__init__(heads * head_width, width, bias=bias)
        self.heads, self.head_width, self.scale_init, self.eps = heads, head_width, scale_init, eps
        shape = (head_width,) if scale == "shared" else (heads, head_width)
        self.scale = None if scale == "none" else nn.Parameter(torch.full(shape, float(scale_init)))
        self.offset = nn.Parameter(torch.zeros(shape)) if offset else None

    def forward(self, aggregation: torch.Tensor) -> torch.Tensor:
        """(..., H·d_k) value aggregation to (..., d) attention output."""
        heads = aggregation.unflatten(-1, (self.heads, self.head_width))  # (..., H, d_k)
        # the mean of squares in float32 at least, as LlamaRMSNorm does under bfloat16
        wide = heads.to(torch.promote_types(heads.dtype, torch.float32))
        inverse_rms = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)  # (..., H, 1)
        normalised = (wide * inverse_rms).to(heads.dtype).flatten(-2)  # (..., H·d_k)
        # W (ô ⊙ scale + offset) = (W ⊙ scale) ô + W offset: two operations on the weights, not on every token
        weight: torch.Tensor = self.weight
        bias: torch.Tensor | None = self.bias
        if self.offset is not None:
            shift = weight @ self.offset.expand(self.heads, -1).flatten()  # (d)
            bias = shift if bias is None else bias + shift
        if self.scale is None:
            weight = weight * self.scale_init
        else:
            weight = weight * self.scale.expand(self.heads, -1).flatten()  # (d, H·d_k)
        return F.linear(normalised, weight, bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, heads={self.heads}, scale_init={self.scale_init}, eps={self.eps}"


@strict
class HeadwiseRMSNormLlamaConfig(LlamaConfig):
    """Llama's configuration and the norm's options (see :class:`HeadwiseNormProjection`)."""

    model_type = "headwise_rmsnorm_llama"

    headwise_scale: HeadwiseScale = "per_head"
    headwise_scale_init: float = 1.0
    headwise_bias: bool = True  # the offset
    headwise_eps: float = 1e-6


class HeadwiseRMSNormLlamaModel(LlamaModel):
    """Llama's decoder with head-wise RMSNorm between value aggregation and W_O in every layer."""

    config_class = HeadwiseRMSNormLlamaConfig

    def __init__(self, config: HeadwiseRMSNormLlamaConfig):
        super().__init__(config)
        for layer in self.layers:
            attention: Any = layer.self_attn
            attention.o_proj = HeadwiseNormProjection(
                config.num_attention_heads,
                attention.head_dim,
                config.hidden_size,
                scale=config.headwise_scale,
                scale_init=config.headwise_scale_init,
                offset=config.headwise_bias,
                eps=config.headwise_eps,
                bias=config.attention_bias,
            )
        self.post_init()  # initialises the projections that have just been made, and only them

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # transformers.initialization leaves alone what a checkpoint has already filled
        if isinstance(module, HeadwiseNormProjection):
            if module.scale is not None:
                init.constant_(module.scale, module.scale_init)
            if module.offset is not None:
                init.zeros_(module.offset)


class HeadwiseRMSNormLlamaForCausalLM(LlamaForCausalLM):
    """The same with the language-model head."""

    config_class = HeadwiseRMSNormLlamaConfig

    def __init__(self, config: HeadwiseRMSNormLlamaConfig):
        super().__init__(config)
        self.model = HeadwiseRMSNormLlamaModel(config)
        self.post_init()  # ties the head to the embedding of the model that has just been made


AutoConfig.register(HeadwiseRMSNormLlamaConfig.model_type, HeadwiseRMSNormLlamaConfig)
AutoModel.register(HeadwiseRMSNormLlamaConfig, HeadwiseRMSNormLlamaModel)
AutoModelForCausalLM.register(HeadwiseRMSNormLlamaConfig, HeadwiseRMSNormLlamaForCausalLM)
