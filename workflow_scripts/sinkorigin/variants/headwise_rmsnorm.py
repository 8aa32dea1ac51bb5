"""Head-wise RMSNorm between value aggregation and W_O (arXiv 2605.06611)."""

import torch
from torch import nn
from torch.nn import functional as F

from sinkorigin.variants.configuration import HeadwiseScale


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
