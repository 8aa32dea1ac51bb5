"""Llama with gated attention, see ``gated``."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig
from transformers import initialization as init
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaAttention, apply_rotary_pos_emb, eager_attention_forward

from sinkorigin.variants.llama import VariedForCausalLM, VariedModel


class GatedLlamaConfig(LlamaConfig):
    """Configuration of Llama with gated attention."""

    model_type = "gated_llama"


class GatedProjection(nn.Linear):
    """The gate, then the output projection W_O: ``W_O (o ⊙ σ(W_g x))``, x the attention's input.

    Args:
        aggregation_width: H·d_k.
        width: residual width, d.
        bias: whether W_O has a bias (Llama's ``attention_bias``); the gate has none.
    """

    def __init__(self, aggregation_width: int, width: int, *, bias: bool = False):
        super().__init__(aggregation_width, width, bias=bias)
        self.gate_weight = nn.Parameter(torch.empty(aggregation_width, width))
        nn.init.normal_(self.gate_weight, std=0.02)

    def matrix_input(self, aggregation: torch.Tensor, attention_input: torch.Tensor) -> torch.Tensor:
        """What W_O is applied to (N, T, H·d_k): the aggregation after the gate."""
        return aggregation * torch.sigmoid(F.linear(attention_input, self.gate_weight))

    def forward(self, aggregation: torch.Tensor, attention_input: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Attention output (N, T, d) of the value aggregation (N, T, H·d_k) and the attention input (N, T, d)."""
        return F.linear(self.matrix_input(aggregation, attention_input), self.weight, self.bias)


class GatedLlamaAttention(LlamaAttention):
    """Llama's attention, whose output projection also gets the attention's input."""

    def __init__(self, config, layer_idx: int):
        super().__init__(config, layer_idx)
        self.o_proj = GatedProjection(
            config.num_attention_heads * self.head_dim, config.hidden_size, bias=config.attention_bias
        )

    def forward(self, hidden_states, position_embeddings=None, attention_mask=None, past_key_values=None, **kwargs):
        """Arguments and results of ``LlamaAttention.forward``."""
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


class GatedLlamaModel(VariedModel):
    """Llama's decoder with gated attention in every layer."""

    config_class = GatedLlamaConfig

    def vary(self, layer: Any, number: int) -> None:
        layer.self_attn = GatedLlamaAttention(self.config, number)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, GatedProjection):
            init.normal_(module.gate_weight, mean=0.0, std=self.config.initializer_range)


class GatedLlamaForCausalLM(VariedForCausalLM):
    """Llama with gated attention and the language-model head."""

    config_class = GatedLlamaConfig
    decoder_class = GatedLlamaModel
