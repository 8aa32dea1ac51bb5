"""Llama with head-wise RMSNorm between value aggregation and W_O, see ``headwise_rmsnorm``."""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers import LlamaConfig
from transformers import initialization as init

from sinkorigin.variants.headwise_scale import HeadwiseScale
from sinkorigin.variants.llama import VariedForCausalLM, VariedModel


@strict
class HeadwiseRMSNormLlamaConfig(LlamaConfig):
    """Configuration of Llama with head-wise RMSNorm; its options are those of :class:`HeadwiseNormProjection`."""

    model_type = "headwise_rmsnorm_llama"

    headwise_scale: HeadwiseScale = "per_head"
    headwise_scale_init: float = 1.0
    headwise_bias: bool = True  # the offset
    headwise_eps: float = 1e-6


class _RMSNorm(torch.autograd.Function):
    """Map from x (..., d_k) to x / sqrt(mean(x²) + eps), with its gradient in closed form.

    With y the result and g the gradient at it, the gradient at x is (g − y · mean(g ⊙ y)) / sqrt(mean(x²) + eps). That is
    three passes over the tensors, and one tensor kept, where the gradients of square, mean, rsqrt and product take eight.
    """

    @staticmethod
    def forward(ctx, x: torch.Tensor, eps: float) -> torch.Tensor:
        # in float32 at least, as LlamaRMSNorm under bfloat16
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        inverse = (norm.square() / x.shape[-1] + eps).rsqrt()  # (..., 1)
        normalised = wide * inverse
        ctx.save_for_backward(normalised, inverse)
        return normalised.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: torch.Tensor):  # type: ignore[override]
        normalised, inverse = ctx.saved_tensors
        wide = gradient.to(normalised.dtype)
        along = torch.linalg.vecdot(wide, normalised).unsqueeze(-1) / wide.shape[-1]  # (..., 1)
        return torch.addcmul(wide, normalised, along, value=-1).mul_(inverse).to(gradient.dtype), None


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
        bias: whether W_O has a bias (Llama's ``attention_bias``).
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

    def _normalised(self, aggregation: torch.Tensor) -> torch.Tensor:
        """The aggregation (..., H·d_k) with each head divided by its root mean square."""
        heads = aggregation.unflatten(-1, (self.heads, self.head_width))  # (..., H, d_k)
        return _RMSNorm.apply(heads, self.eps).flatten(-2)

    def _by_dim(self, values: torch.Tensor) -> torch.Tensor:
        """Scale or offset of every dim (H·d_k), from that of every head or of all heads."""
        return values.expand(self.heads, -1).flatten()

    def matrix_input(self, aggregation: torch.Tensor) -> torch.Tensor:
        """What W_O is applied to (..., H·d_k): the aggregation after norm, scale and offset."""
        normalised = self._normalised(aggregation)
        scaled = normalised * (self.scale_init if self.scale is None else self._by_dim(self.scale))
        return scaled if self.offset is None else scaled + self._by_dim(self.offset)

    def forward(self, aggregation: torch.Tensor) -> torch.Tensor:
        """Attention output (..., d) of the value aggregation (..., H·d_k)."""
        normalised = self._normalised(aggregation)
        # W (ô ⊙ scale + offset) = (W ⊙ scale) ô + W offset: two operations on the weights, not on every token
        weight: torch.Tensor = self.weight
        bias: torch.Tensor | None = self.bias
        if self.offset is not None:
            shift = weight @ self._by_dim(self.offset)  # (d)
            bias = shift if bias is None else bias + shift
        weight = weight * (self.scale_init if self.scale is None else self._by_dim(self.scale))  # (d, H·d_k)
        return F.linear(normalised, weight, bias)


class HeadwiseRMSNormLlamaModel(VariedModel):
    """Llama's decoder with head-wise RMSNorm between value aggregation and W_O in every layer."""

    config_class = HeadwiseRMSNormLlamaConfig

    def vary(self, layer: Any, number: int) -> None:
        layer.self_attn.o_proj = HeadwiseNormProjection(
            self.config.num_attention_heads,
            layer.self_attn.head_dim,
            self.config.hidden_size,
            scale=self.config.headwise_scale,
            scale_init=self.config.headwise_scale_init,
            offset=self.config.headwise_bias,
            eps=self.config.headwise_eps,
            bias=self.config.attention_bias,
        )

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # transformers.initialization leaves alone what a checkpoint has already filled
        if isinstance(module, HeadwiseNormProjection):
            if module.scale is not None:
                init.constant_(module.scale, module.scale_init)
            if module.offset is not None:
                init.zeros_(module.offset)


class HeadwiseRMSNormLlamaForCausalLM(VariedForCausalLM):
    """Llama with head-wise RMSNorm and the language-model head."""

    config_class = HeadwiseRMSNormLlamaConfig
    decoder_class = HeadwiseRMSNormLlamaModel
