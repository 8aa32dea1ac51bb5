"""QK-norm: RMSNorm of each head's query and key, before the rotary embedding (Henry et al. 2020; as in Qwen3 and Gemma 3)."""

from collections.abc import Mapping
from typing import Any

from sinkorigin.variants.declaration import LayerCost, Variant


def _load_class():
    from sinkorigin.variants.qk_norm_llama import QKNormLlamaForCausalLM

    return QKNormLlamaForCausalLM


def _layer_cost(size: Mapping[str, Any], options: Mapping[str, Any]) -> LayerCost:
    head_width = size["width"] // size["heads"]
    # each norm keeps three vectors of its input's width, as Llama's do
    return LayerCost(parameters=2 * head_width, kept=3 * (size["heads"] + size["kv_heads"]) * head_width)


VARIANT = Variant("qk_norm", "softmax attention with QK-norm", load_class=_load_class, layer_cost=_layer_cost)
