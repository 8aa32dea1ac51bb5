"""Llama's decoder layer with gradients in closed form, for float32 trainings on a CPU that are not compiled.

Between the products of matrices and the attention of a layer PyTorch runs some sixty elementwise operations, each a pass over
all tokens. Here they are half as many: the scale of a norm is multiplied into the matrix that follows it, queries, keys and
values are one product, the rotary embedding is one complex product, and the residual stream is added by the product that writes
into it. Values are those of transformers' modules up to rounding.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaDecoderLayer, eager_attention_forward


def _normalise(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x / rms(x) of each row of x (n, d), and 1 / rms(x) (n, 1)."""
    inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return x * inverse, inverse


def _back_through_norm(gradient: Tensor, normalised: Tensor, inverse: Tensor) -> Tensor:
    """Gradient at x from that at x̂ = x / rms(x), h, which it overwrites: (h − x̂ · mean(h ⊙ x̂)) / rms(x)."""
    along = torch.linalg.vecdot(gradient, normalised).div_(-gradient.shape[-1]).unsqueeze(-1)  # (n, 1)
    return gradient.addcmul_(normalised, along).mul_(inverse)


class _NormedProduct(torch.autograd.Function):
    """RMSNorm, then a matrix: rows x (n, d) become x / rms(x) ⊙ scale · weightᵀ (n, o)."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor, weight: Tensor, eps: float) -> Tensor:  # type: ignore[override]
        normalised, inverse = _normalise(x, eps)
        scaled = weight * scale
        ctx.save_for_backward(normalised, inverse, scale, weight, scaled)
        return normalised @ scaled.t()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        normalised, inverse, scale, weight, scaled = ctx.saved_tensors
        product = gradient.t() @ normalised  # (o, d), the gradient at weight ⊙ scale
        back = _back_through_norm(gradient @ scaled, normalised, inverse)
        return back, (product * weight).sum(0), product * scale, None


class _FFN(torch.autograd.Function):
    """x + W_down (silu(W_gate x̄) ⊙ W_up x̄), x̄ = x / rms(x) ⊙ scale, of rows x (n, d)."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor, w_gate: Tensor, w_up: Tensor, w_down: Tensor, eps: float):  # type: ignore[override]
        normalised, inverse = _normalise(x, eps)
        scaled_gate, scaled_up = w_gate * scale, w_up * scale
        gate, up = normalised @ scaled_gate.t(), normalised @ scaled_up.t()  # (n, f)
        opened = F.silu(gate)
        activation = opened * up
        ctx.save_for_backward(
            normalised, inverse, scale, w_gate, w_up, w_down, scaled_gate, scaled_up, gate, up, opened, activation
        )
        return torch.addmm(x, activation, w_down.t())

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        (normalised, inverse, scale, w_gate, w_up, w_down, scaled_gate, scaled_up, gate, up, opened, activation) = (
            ctx.saved_tensors
        )
        at_activation = gradient @ w_down  # (n, f)
        at_up = at_activation * opened
        at_gate = torch.ops.aten.silu_backward(at_activation.mul_(up), gate)
        gate_product, up_product = at_gate.t() @ normalised, at_up.t() @ normalised  # (f, d)
        back = (at_gate @ scaled_gate).addmm_(at_up, scaled_up)
        back = _back_through_norm(back, normalised, inverse).add_(gradient)
        at_scale = (gate_product * w_gate).add_(up_product * w_up).sum(0)
        return back, at_scale, gate_product.mul_(scale), up_product.mul_(scale), gradient.t() @ activation, None


def _as_complex(pairs: Tensor) -> Tensor:
    """Complex numbers (…, c / 2) of real ones (…, c) that stand pair by pair."""
    return torch.view_as_complex(pairs.unflatten(-1, (-1, 2)))


class _Rotate(torch.autograd.Function):
    """Queries and keys after the rotary embedding, and values, from the projection of all three.

    Arguments: projected (N, T, r + v), whose first r numbers are the pairs that the rotary embedding turns; turn (T, r / 2) complex
    numbers of modulus 1. Results: (N, T, r) and (N, T, v).
    """

    @staticmethod
    def forward(ctx, projected: Tensor, turn: Tensor):  # type: ignore[override]
        ctx.save_for_backward(turn)
        rotated = 2 * turn.shape[-1]
        turned = torch.view_as_real(_as_complex(projected[..., :rotated]) * turn).flatten(-2)
        return turned, projected[..., rotated:]

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor, values: Tensor):  # type: ignore[override]
        (turn,) = ctx.saved_tensors
        rotated = gradient.shape[-1]
        back = gradient.new_empty(*gradient.shape[:-1], rotated + values.shape[-1])
        torch.mul(_as_complex(gradient.contiguous()), turn.conj(), out=_as_complex(back[..., :rotated]))
        back[..., rotated:] = values
        return back, None


def _paired(weight: Tensor, head_width: int) -> Tensor:
    """Rows of a projection to queries or keys, in an order in which the two dims of a rotated pair are neighbours.

    Llama turns dim i of a head with dim i + d_k / 2. Queries and keys in the same other order have the same products.
    """
    return weight.view(-1, 2, head_width // 2, weight.shape[-1]).transpose(1, 2).reshape(weight.shape)


def _attention(layer: Any, hidden_states: Tensor, position_embeddings: Any, attention_mask: Any, **kwargs) -> Tensor:
    """Residual stream (N, T, d) after norm and attention of a layer."""
    attention, norm = layer.self_attn, layer.input_layernorm
    sequences, length, width = hidden_states.shape
    d_k = attention.head_dim
    rows = hidden_states.reshape(-1, width)
    w_query, w_key, w_value = (part.weight for part in (attention.q_proj, attention.k_proj, attention.v_proj))
    weight = torch.cat([_paired(w_query, d_k), _paired(w_key, d_k), w_value])
    projected = _NormedProduct.apply(rows, norm.weight, weight, norm.variance_epsilon)
    cosine, sine = (part[0, :, : d_k // 2] for part in position_embeddings)  # (T, d_k / 2)
    turn = torch.complex(cosine, sine).repeat(1, (len(w_query) + len(w_key)) // d_k)
    turned, value = _Rotate.apply(projected.view(sequences, length, -1), turn)
    query, key = turned.split([len(w_query), len(w_key)], dim=-1)
    query, key, value = (part.unflatten(-1, (-1, d_k)).transpose(1, 2) for part in (query, key, value))
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, eager_attention_forward)
    aggregation, _ = attend(
        attention, query, key, value, attention_mask, dropout=0.0, scaling=attention.scaling, **kwargs
    )
    aggregation = aggregation.reshape(len(rows), -1)
    if type(attention.o_proj) is nn.Linear:
        return torch.addmm(rows, aggregation, attention.o_proj.weight.t()).view_as(hidden_states)
    return hidden_states + attention.o_proj(aggregation.view(sequences, length, -1))


def _layer(
    self: Any, hidden_states: Tensor, attention_mask=None, position_ids=None, past_key_values=None, use_cache=False,
    position_embeddings=None, **kwargs,
) -> Tensor:  # fmt: skip
    """Arguments and result of ``LlamaDecoderLayer.forward``, without a cache."""
    attended = _attention(self, hidden_states, position_embeddings, attention_mask, **kwargs)
    mlp, norm = self.mlp, self.post_attention_layernorm
    weights = (norm.weight, mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight)
    return _FFN.apply(attended.flatten(0, 1), *weights, norm.variance_epsilon).view_as(hidden_states)


def fuse_layers(model: Any) -> None:
    """Let every layer of a model be computed as above that is transformers' Llama but for attention weights and W_O."""
    for layer in model.model.layers:
        parts = (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj)
        if (
            type(layer) is LlamaDecoderLayer
            and type(layer.self_attn) is LlamaAttention
            and all(type(part) is nn.Linear for part in parts)
        ):
            layer.forward = MethodType(_layer, layer)
