"""Learned sink logits, exp(x_j) / (exp(s) + Σ_k exp(x_k)): each head learns how easily it attends to nothing (gpt-oss, 2025).

It begins as softmax-off-by-one, whose s is 0 for good.
"""

from collections.abc import Mapping
from typing import Any

from sinkorigin.variants.declaration import LayerCost, Variant


def _load_class():
    from sinkorigin.variants.sink_logits_llama import SinkLogitsLlamaForCausalLM

    return SinkLogitsLlamaForCausalLM


def _layer_cost(size: Mapping[str, Any], options: Mapping[str, Any]) -> LayerCost:
    # the fused kernel keeps longer copies of query, key and value, beside those that the rotary embedding made
    return LayerCost(parameters=size["heads"], kept=2 * size["width"])


VARIANT = Variant(
    "sink_logits", "softmax attention with learned sink logits", load_class=_load_class, layer_cost=_layer_cost
)
