"""Head-wise RMSNorm between value aggregation and W_O (arXiv 2605.06611)."""

from collections.abc import Mapping
from typing import Any, Literal

from sinkorigin.variants.declaration import LayerCost, Option, Variant


def _load_class():
    from sinkorigin.variants.headwise_rmsnorm_llama import HeadwiseRMSNormLlamaForCausalLM

    return HeadwiseRMSNormLlamaForCausalLM


def _layer_cost(size: Mapping[str, Any], options: Mapping[str, Any]) -> LayerCost:
    width, scale = size["width"], options.get("scale", "per_head")
    vector = width // size["heads"] if scale == "shared" else width
    return LayerCost(parameters=vector * ((scale != "none") + options.get("bias", True)), kept=3 * width)


VARIANT = Variant(
    "headwise_rmsnorm",
    "head-wise RMSNorm between value aggregation and W_O",
    load_class=_load_class,
    key="headwise_norm",
    prefix="headwise_",
    options={
        "scale": Option(
            Literal["per_head", "shared", "none"],
            "per_head",
            "Learnable scale: one vector a head, one shared by the heads, or none.",
        ),
        "bias": Option(bool, True, "Whether a learnable offset is added after the scale."),
        "scale_init": Option(float, 1.0, "Starting value of the scale.", above=0),
    },
    reading=lambda options: f"scale {options['scale']}, {'with' if options['bias'] else 'without'} offset",
    layer_cost=_layer_cost,
)
