"""The variants as Llama models, and their registry.

Importing this module registers the model types with transformers' Auto classes, so that a saved directory loads as what it
is, never as a plain Llama.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, LlamaModel
from transformers import initialization as init

from sinkorigin.errors import SinkoriginError
from sinkorigin.sites.attention import IMPLEMENTATION, NULL_KEY, UNTAPPED
from sinkorigin.variants.attention_weights import ATTENTION_WEIGHTS
from sinkorigin.variants.configuration import (
    CONFIGURATIONS,
    GatedLlamaConfig,
    HeadwiseRMSNormLlamaConfig,
    class_name,
)
from sinkorigin.variants.gated import GatedLlamaAttention, GatedProjection
from sinkorigin.variants.headwise_rmsnorm import HeadwiseNormProjection

# variants whose weights PyTorch's fused softmax can compute
FUSED = {"softmax_off_by_one": NULL_KEY}


class _VariedModel(LlamaModel):
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


class _VariedForCausalLM(LlamaForCausalLM):
    """The same with the language-model head."""

    decoder_class: type[_VariedModel]

    def __init__(self, config):
        super().__init__(config)
        self.model = self.decoder_class(config)
        self.post_init()  # ties the head to the embedding of the model that has just been made


class HeadwiseRMSNormLlamaModel(_VariedModel):
    """Llama's decoder with head-wise RMSNorm between value aggregation and W_O in every layer."""

    config_class = HeadwiseRMSNormLlamaConfig

    def vary(self, layer: Any, number: int) -> None:
        layer.self_attn.o_proj = HeadwiseNormProjection(
            self.config.num_attention_heads,
            layer.self_attn.head_dim,
            self.config.hidden_size,
            scale=self.config.headwise_scale,
            scale_init=self.config.headwise_scale_init,
            offset=self.config.headwise_bias,
            eps=self.config.headwise_eps,
            bias=self.config.attention_bias,
        )

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # transformers.initialization leaves alone what a checkpoint has already filled
        if isinstance(module, HeadwiseNormProjection):
            if module.scale is not None:
                init.constant_(module.scale, module.scale_init)
            if module.offset is not None:
                init.zeros_(module.offset)


class HeadwiseRMSNormLlamaForCausalLM(_VariedForCausalLM):
    """The same with the language-model head."""

    config_class = HeadwiseRMSNormLlamaConfig
    decoder_class = HeadwiseRMSNormLlamaModel


class GatedLlamaModel(_VariedModel):
    """Llama's decoder with gated attention in every layer."""

    config_class = GatedLlamaConfig

    def vary(self, layer: Any, number: int) -> None:
        layer.self_attn = GatedLlamaAttention(self.config, number)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, GatedProjection):
            init.normal_(module.gate_weight, mean=0.0, std=self.config.initializer_range)


class GatedLlamaForCausalLM(_VariedForCausalLM):
    """The same with the language-model head."""

    config_class = GatedLlamaConfig
    decoder_class = GatedLlamaModel


class _OwnWeights:
    """What takes its attention weights from a function of ``attention_weights`` must never use a plain softmax kernel."""

    fused: str | None

    def get_correct_attn_implementation(self, requested_attention: str | None, is_init_check: bool = False) -> str:
        """The variant's own implementation, where none, "sdpa" or "eager" is asked for."""
        if requested_attention in (None, "sdpa"):
            return self.fused or UNTAPPED
        if requested_attention == "eager":
            return UNTAPPED
        if requested_attention in (IMPLEMENTATION, UNTAPPED) or requested_attention == self.fused:
            return requested_attention
        raise ValueError(
            f"{type(self).__name__} computes its own attention weights, so attn_implementation {requested_attention} "
            "cannot serve it; leave attn_implementation out"
        )


class AttentionWeightsLlamaModel(_OwnWeights, _VariedModel):
    """Llama's decoder with attention weights of another function; each function has a subclass of its own."""

    variant: str

    def vary(self, layer: Any, number: int) -> None:
        layer.self_attn.attention_weights = partial(
            ATTENTION_WEIGHTS[self.variant],
            length=self.config.max_position_embeddings,
            **(self.config.attention_options or {}),
        )


class AttentionWeightsLlamaForCausalLM(_OwnWeights, _VariedForCausalLM):
    """The same with the language-model head."""


@dataclass(frozen=True)
class Variant:
    """How one variant is built.

    Attributes:
        configuration, model: the classes.
        options: names of the variant's own options.
    """

    name: str
    configuration: type[LlamaConfig]
    model: type[LlamaForCausalLM]
    options: tuple[str, ...] = ()

    def settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The variant's options as keys of its configuration.

        Raises:
            SinkoriginError: an option that the variant does not have.
        """
        for option in options:
            if option not in self.options:
                known = ", ".join(self.options) or "none"
                raise SinkoriginError(
                    f"variant {self.name} has no option {option}, its options are: {known}; correct the name or delete it"
                )
        if self.name in ATTENTION_WEIGHTS:
            return {"attention_options": dict(options)}
        return {f"headwise_{option}": value for option, value in options.items()}


def _of_function(name: str) -> Variant:
    """The variant of one function of ``attention_weights``, with model classes of its own."""
    configuration = CONFIGURATIONS[name]
    shared = {"config_class": configuration, "fused": FUSED.get(name), "__module__": __name__}
    decoder = type(class_name(name, "LlamaModel"), (AttentionWeightsLlamaModel,), {**shared, "variant": name})
    model = type(
        class_name(name, "LlamaForCausalLM"), (AttentionWeightsLlamaForCausalLM,), {**shared, "decoder_class": decoder}
    )
    globals().update({made.__name__: made for made in (decoder, model)})  # pickles find a class by its name
    parameters = inspect.signature(ATTENTION_WEIGHTS[name]).parameters.values()
    options = tuple(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)
    return Variant(name, configuration, model, options)


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("softmax", LlamaConfig, LlamaForCausalLM),
        Variant(
            "headwise_rmsnorm",
            HeadwiseRMSNormLlamaConfig,
            HeadwiseRMSNormLlamaForCausalLM,
            ("scale", "scale_init", "bias", "eps"),
        ),
        Variant("gated", GatedLlamaConfig, GatedLlamaForCausalLM),
        *map(_of_function, ATTENTION_WEIGHTS),
    )
}
for _variant in VARIANTS.values():
    if _variant.configuration is not LlamaConfig:
        AutoModel.register(_variant.configuration, _variant.model.decoder_class)  # type: ignore[attr-defined]
        AutoModelForCausalLM.register(_variant.configuration, _variant.model)
