"""Fresh models from plain numbers: transformers' Llama, with the attention variant of a run."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sinkorigin.errors import SinkoriginError
from sinkorigin.headwise_rmsnorm import HeadwiseRMSNormLlamaConfig, HeadwiseRMSNormLlamaForCausalLM

VARIANTS: dict[str, tuple[type[LlamaConfig], type[LlamaForCausalLM]]] = {
    "softmax": (LlamaConfig, LlamaForCausalLM),
    "headwise_rmsnorm": (HeadwiseRMSNormLlamaConfig, HeadwiseRMSNormLlamaForCausalLM),
}


def build_model(
    size: Mapping[str, Any],
    *,
    vocabulary: int,
    variant: str,
    seed: int,
    eos: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> LlamaForCausalLM:
    """A model with fresh weights.

    Every variant of one seed starts from the same Llama weights (normal, std 0.02, norms at 1): the variants of a seed
    differ in nothing but what the variant adds, which starts at the values that its options state.

    Args:
        size: layers, width, heads, kv_heads, ffn_width, length and tied_embeddings.
        vocabulary: number of tokens.
        variant: a key of ``VARIANTS``.
        seed: the seed of the weights.
        eos: id of the end-of-text token.
        options: the variant's own configuration keys.

    Raises:
        SinkoriginError: an unknown variant, or heads that do not divide the width.
    """
    if variant not in VARIANTS:
        raise SinkoriginError(f"variant {variant!r} is unknown; set one of {', '.join(VARIANTS)} in the config")
    width, heads, kv_heads = size["width"], size["heads"], size["kv_heads"]
    if width % (2 * heads) or heads % kv_heads:
        raise SinkoriginError(
            f"width {width}, heads {heads}, kv_heads {kv_heads}: the width must be an even multiple of heads, and "
            "heads a multiple of kv_heads; change them in the config"
        )
    numbers = {
        "vocab_size": vocabulary,
        "num_hidden_layers": size["layers"],
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": size["ffn_width"],
        "max_position_embeddings": size["length"],
        "tie_word_embeddings": size["tied_embeddings"],
        "initializer_range": 0.02,
        "rms_norm_eps": 1e-5,  # Llama 2's
        "bos_token_id": None,
        "eos_token_id": eos,
    }
    torch.manual_seed(seed)
    llama = LlamaForCausalLM(LlamaConfig(**numbers))
    configuration, model_class = VARIANTS[variant]
    if model_class is LlamaForCausalLM:
        return llama
    model = model_class(configuration(**numbers, **(options or {})))
    model.load_state_dict(llama.state_dict(), strict=False)  # not strict: what the variant adds keeps its own start
    return model
