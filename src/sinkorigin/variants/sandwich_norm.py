"""Sandwich norm: RMSNorm before and after attention and FFN (Ding et al. 2021, "CogView"; as in Gemma 2 and 3).

What a norm follows is no longer free to grow: arXiv 2603.05498 says that the placement of norms decides whether massive
activations appear together with sinks.
"""

from collections.abc import Mapping
from typing import Any

from sinkorigin.variants.declaration import LayerCost, Option, Variant


def _load_class():
    from sinkorigin.variants.sandwich_norm_llama import SandwichNormLlamaForCausalLM

    return SandwichNormLlamaForCausalLM


def _layer_cost(size: Mapping[str, Any], options: Mapping[str, Any]) -> LayerCost:
    width = size["width"]
    return LayerCost(parameters=2 * width, kept=6 * width)  # each norm keeps three vectors, as Llama's two do


VARIANT = Variant(
    "sandwich_norm",
    "softmax attention in blocks with norms before and after attention and FFN",
    load_class=_load_class,
    prefix="sandwich_",
    options={
        "scale_init": Option(float, 1.0, "Starting value of the scales of the norms after attention and FFN.", above=0)
    },
    layer_cost=_layer_cost,
)
