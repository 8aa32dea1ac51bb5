"""Gated attention: a sigmoid gate on every dim of every head's value aggregation (Qiu et al. 2025, arXiv 2505.06708, "G1")."""

from collections.abc import Mapping
from typing import Any

from sinkorigin.variants.declaration import LayerCost, Variant


def _load_class():
    from sinkorigin.variants.gated_llama import GatedLlamaForCausalLM

    return GatedLlamaForCausalLM


def _layer_cost(size: Mapping[str, Any], options: Mapping[str, Any]) -> LayerCost:
    gate = size["width"] ** 2
    return LayerCost(parameters=gate, matrix=gate, kept=3 * size["width"])


VARIANT = Variant("gated", "gated attention", load_class=_load_class, layer_cost=_layer_cost)
