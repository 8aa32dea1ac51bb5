"""Llama models with another attention: what all variants share, and the classes of those that are a function of the logits."""

from functools import partial
from typing import Any

from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, LlamaConfig, LlamaForCausalLM, LlamaModel
from transformers.masking_utils import sdpa_mask

from sinkorigin.sites.attention import IMPLEMENTATION, UNTAPPED


class VariedModel(LlamaModel):
    """Llama's decoder, with the attention of each layer changed by :meth:`vary`."""

    config: Any

    def __init__(self, config):
        super().__init__(config)
        for number, layer in enumerate(self.layers):
            self.vary(layer, number)
        self.post_init()  # initialises what has just been made, and only that

    def vary(self, layer: nn.Module, number: int) -> None:
        """Change the attention of one layer."""
        raise NotImplementedError


class VariedForCausalLM(LlamaForCausalLM):
    """Llama with a changed decoder and the language-model head."""

    decoder_class: type[VariedModel]

    def __init__(self, config):
        super().__init__(config)
        self.model = self.decoder_class(config)
        self.post_init()  # ties the head to the embedding of the model that has just been made


@strict
class WeightsConfig(LlamaConfig):
    """Llama's configuration and the options of a variant's ``weights``; each variant has a subclass."""

    attention_options: dict[str, Any] | None = None


class OtherWeights:
    """Choice of the attention implementation, where a plain softmax kernel would be silently wrong.

    Attributes:
        fused: name of the attention function that computes with these weights in less time, where there is one.
    """

    fused: str | None

    def get_correct_attn_implementation(self, requested_attention: str | None, is_init_check: bool = False) -> str:
        """Implementation that computes the variant, where none, "sdpa" or "eager" is requested."""
        if requested_attention in (None, "sdpa"):
            return self.fused or UNTAPPED
        if requested_attention == "eager":
            return UNTAPPED
        if requested_attention in (IMPLEMENTATION, UNTAPPED) or requested_attention == self.fused:
            return requested_attention
        raise ValueError(
            f"{type(self).__name__} computes its attention weights by another function than softmax, so attn_implementation "
            f"{requested_attention} cannot serve it; leave attn_implementation out"
        )


class WeightsModel(OtherWeights, VariedModel):
    """Llama's decoder with attention weights by a variant's ``weights``; each variant has a subclass."""

    variant: Any  # declaration.Variant, which imports this module

    def vary(self, layer: Any, number: int) -> None:
        layer.self_attn.attention_weights = partial(
            self.variant.weights, length=self.config.max_position_embeddings, **(self.config.attention_options or {})
        )


class WeightsForCausalLM(OtherWeights, VariedForCausalLM):
    """Llama with attention weights by a variant's ``weights`` and the language-model head; each variant has a subclass."""


def class_of_weights(variant: Any) -> type[LlamaForCausalLM]:
    """Model class of a ``declaration.Variant`` with ``weights``. Its fused kernel is made known to transformers."""
    name = "".join(part.capitalize() for part in variant.name.split("_"))  # softmax_off_by_one → SoftmaxOffByOne
    fused = None
    if variant.fused_attention is not None:
        fused = f"sinkorigin_{variant.name}"
        AttentionInterface.register(fused, variant.fused_attention)
        AttentionMaskInterface.register(fused, sdpa_mask)

    def subclass(base: type, suffix: str, **members: Any) -> Any:
        return type(f"{name}{suffix}", (base,), {"__module__": __name__, **members})

    configuration = subclass(WeightsConfig, "LlamaConfig", model_type=f"{variant.name}_llama")
    shared = {"config_class": configuration, "variant": variant, "fused": fused}
    decoder = subclass(WeightsModel, "LlamaModel", **shared)
    return subclass(WeightsForCausalLM, "LlamaForCausalLM", decoder_class=decoder, **shared)
