"""Llama with sandwich norm, see ``sandwich_norm``."""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import LlamaConfig
from transformers import initialization as init
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

from sinkorigin.variants.llama import VariedForCausalLM, VariedModel


@strict
class SandwichNormLlamaConfig(LlamaConfig):
    """Configuration of Llama with sandwich norm; the epsilon of all norms is ``rms_norm_eps``."""

    model_type = "sandwich_norm_llama"

    sandwich_scale_init: float = 1.0  # starting value of the scales of the norms after attention and FFN


class OutputNorm(LlamaRMSNorm):
    """Norm of what the attention or the FFN is to add to the residual stream; its weights start at ``start``."""

    def __init__(self, width: int, eps: float, start: float):
        super().__init__(width, eps)
        self.start = start


class SandwichLayer(LlamaDecoderLayer):
    """Block x → y = x + norm(attention(norm(x))) → y + norm(FFN(norm(y))).

    The norms before attention and FFN keep Llama's names for them, ``input_layernorm`` and ``post_attention_layernorm``.
    """

    def __init__(self, config, layer_idx: int):
        super().__init__(config, layer_idx)
        self.attention_output_norm = OutputNorm(config.hidden_size, config.rms_norm_eps, config.sandwich_scale_init)
        self.ffn_output_norm = OutputNorm(config.hidden_size, config.rms_norm_eps, config.sandwich_scale_init)

    def forward(self, hidden_states: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        """Arguments and result of ``LlamaDecoderLayer.forward``; hidden states (N, T, d)."""
        attended, _ = self.self_attn(self.input_layernorm(hidden_states), *args, **kwargs)
        hidden_states = hidden_states + self.attention_output_norm(attended)
        fed = self.mlp(self.post_attention_layernorm(hidden_states))
        return hidden_states + self.ffn_output_norm(fed)


class SandwichNormLlamaModel(VariedModel):
    """Llama's decoder with sandwich norm in every layer."""

    config_class = SandwichNormLlamaConfig

    def vary(self, layer: Any, number: int) -> None:
        self.layers[number] = SandwichLayer(self.config, number)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, OutputNorm):
            init.constant_(module.weight, module.start)


class SandwichNormLlamaForCausalLM(VariedForCausalLM):
    """Llama with sandwich norm and the language-model head."""

    config_class = SandwichNormLlamaConfig
    decoder_class = SandwichNormLlamaModel
