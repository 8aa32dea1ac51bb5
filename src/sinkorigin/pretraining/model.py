"""Models with fresh weights: transformers' Llama with the attention variant of a run."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sinkorigin.errors import SinkoriginError
from sinkorigin.variants.declaration import declared


def build_model(
    size: Mapping[str, Any],
    *,
    vocabulary: int,
    variant: str,
    seed: int,
    eos: int | None = None,
    options: Mapping[str, Any] | None = None,
    initialisation: Mapping[str, Any] | None = None,
) -> LlamaForCausalLM:
    """Model with fresh weights.

    Every variant of one seed starts from the same Llama weights (normal, norms at 1): the variants of a seed differ in
    nothing but what the variant adds, which starts at the values that its options state.

    Args:
        size: layers, width, heads, kv_heads, ffn_width, length and tied_embeddings.
        variant, options: name of a module of ``variants``, and its options.
        eos: id of the end-of-text token.
        initialisation: std of the matrices (0.02) and embedding_std of the embedding (0.02), also where the language-model
            head is tied to it; scale_residual (False): W_O and the FFN's down-projection, which write into the residual
            stream, start at std / sqrt(2L), as GPT-2's (Radford et al. 2019, §2.3). All draws are the same, only scaled.

    Raises:
        SinkoriginError: an unknown variant, an option of another one, or heads that do not divide the width.
    """
    declaration = declared(variant)
    settings = declaration.settings(options or {})
    width, heads, kv_heads = size["width"], size["heads"], size["kv_heads"]
    if width % (2 * heads) or heads % kv_heads:
        raise SinkoriginError(
            f"width {width}, heads {heads}, kv_heads {kv_heads}: the width must be an even multiple of heads, and "
            "heads a multiple of kv_heads; change them in the config"
        )
    start = {"std": 0.02, "embedding_std": 0.02, "scale_residual": False, **(initialisation or {})}
    numbers = {
        "vocab_size": vocabulary,
        "num_hidden_layers": size["layers"],
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": size["ffn_width"],
        "max_position_embeddings": size["length"],
        "tie_word_embeddings": size["tied_embeddings"],
        "initializer_range": start["std"],
        "rms_norm_eps": 1e-5,  # Llama 2's
        "bos_token_id": None,
        "eos_token_id": eos,
    }
    torch.manual_seed(seed)
    llama = LlamaForCausalLM(LlamaConfig(**numbers))
    _rescale(llama, start)
    model_class: Any = declaration.model_class
    if model_class is LlamaForCausalLM:
        return llama
    model = model_class(model_class.config_class(**numbers, **settings))
    model.load_state_dict(llama.state_dict(), strict=False)  # not strict: what the variant adds keeps its start
    return model


@torch.no_grad()
def _rescale(llama: LlamaForCausalLM, start: Mapping[str, Any]) -> None:
    """Scale the weights from transformers' start, one std for all matrices, to the stds in ``start``."""
    if start["embedding_std"] != start["std"]:
        llama.model.embed_tokens.weight.mul_(start["embedding_std"] / start["std"])
    if start["scale_residual"]:
        for layer in llama.model.layers:
            for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
                projection.weight.mul_((2 * len(llama.model.layers)) ** -0.5)
