"""Gated attention: a sigmoid gate on every dim of every head's value aggregation (Qiu et al. 2025, arXiv 2505.06708, "G1")."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaAttention, apply_rotary_pos_emb, eager_attention_forward


class GatedProjection(nn.Linear):
    """The gate, then the output projection W_O: ``W_O (o ⊙ σ(W_g x))``, x the attention's input.

    Args:
        aggregation_width: H·d_k.
        width: residual width, d.
        bias: whether W_O has a bias of its own (Llama's ``attention_bias``). The gate has none.
    """

    def __init__(self, aggregation_width: int, width: int, *, bias: bool = False):
        super().__init__(aggregation_width, width, bias=bias)
        self.gate_weight = nn.Parameter(torch.empty(aggregation_width, width))
        nn.init.normal_(self.gate_weight, std=0.02)

    def forward(self, aggregation: torch.Tensor, attention_input: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """(N, T, H·d_k) value aggregation and (N, T, d) attention input to (N, T, d) attention output."""
        gate = torch.sigmoid(F.linear(attention_input, self.gate_weight))  # (N, T, H·d_k)
        return F.linear(aggregation * gate, self.weight, self.bias)


class GatedLlamaAttention(LlamaAttention):
    """Llama's attention, whose output projection also gets the attention's input."""

    def __init__(self, config, layer_idx: int):
        super().__init__(config, layer_idx)
        self.o_proj = GatedProjection(
            config.num_attention_heads * self.head_dim, config.hidden_size, bias=config.attention_bias
        )

    def forward(self, hidden_states, position_embeddings=None, attention_mask=None, past_key_values=None, **kwargs):
        """As ``LlamaAttention.forward``."""
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query, key, value = (
            projection(hidden_states).view(shape).transpose(1, 2)  # (N, H, T, d_k)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        dropout = self.attention_dropout if self.training else 0.0
        aggregation, weights = attend(
            self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs
        )
        return self.o_proj(aggregation.flatten(-2), hidden_states), weights
