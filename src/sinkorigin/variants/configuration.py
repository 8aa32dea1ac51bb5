"""Configurations of the variants' model types: Llama's, and the options of the variant.

Importing this module registers them with transformers' ``AutoConfig``.
"""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, LlamaConfig

from sinkorigin.variants.attention_weights import ATTENTION_WEIGHTS

HeadwiseScale = Literal["per_head", "shared", "none"]


@strict
class HeadwiseRMSNormLlamaConfig(LlamaConfig):
    """Llama's configuration and the norm's options (see ``headwise_rmsnorm.HeadwiseNormProjection``)."""

    model_type = "headwise_rmsnorm_llama"

    headwise_scale: HeadwiseScale = "per_head"
    headwise_scale_init: float = 1.0
    headwise_bias: bool = True  # the offset
    headwise_eps: float = 1e-6


class GatedLlamaConfig(LlamaConfig):
    """Llama's configuration, for gated attention (see ``gated.GatedProjection``)."""

    model_type = "gated_llama"


@strict
class AttentionWeightsLlamaConfig(LlamaConfig):
    """Llama's configuration and the options of a function in ``attention_weights``; each has a subclass of its own."""

    attention_options: dict[str, Any] | None = None


def class_name(variant: str, suffix: str) -> str:
    """softmax_off_by_one, LlamaConfig → SoftmaxOffByOneLlamaConfig."""
    return "".join(part.capitalize() for part in variant.split("_")) + suffix


def _configuration_of(variant: str) -> type[AttentionWeightsLlamaConfig]:
    name = class_name(variant, "LlamaConfig")
    members = {
        "model_type": f"{variant}_llama",
        "__module__": __name__,
        "__doc__": f"Llama's, for {variant} attention.",
    }
    return type(name, (AttentionWeightsLlamaConfig,), members)


CONFIGURATIONS: dict[str, type[LlamaConfig]] = {
    "headwise_rmsnorm": HeadwiseRMSNormLlamaConfig,
    "gated": GatedLlamaConfig,
    **{variant: _configuration_of(variant) for variant in ATTENTION_WEIGHTS},
}
for _configuration in CONFIGURATIONS.values():
    globals()[_configuration.__name__] = _configuration  # pickles find a class by its module and name
    AutoConfig.register(_configuration.model_type, _configuration)
