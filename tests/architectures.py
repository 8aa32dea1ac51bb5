"""Tiny real models, one of each kind of architecture, with random weights."""

from functools import cache

_COMMON = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {**_COMMON, "num_key_value_heads": 2}
_EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}

# name → (config class, its arguments): grouped queries, fused projections, biases, LayerNorm, parallel blocks, post-norms,
# tied weights, soft-capped logits, sliding windows, QK-norm, mixtures of experts, learned sink logits
ARCHITECTURES = {
    "llama": ("LlamaConfig", _GROUPED),
    "mistral": ("MistralConfig", {**_GROUPED, "sliding_window": 4}),
    "qwen2": ("Qwen2Config", _GROUPED),
    "qwen3": ("Qwen3Config", {**_GROUPED, "head_dim": 8}),
    "gemma2": ("Gemma2Config", {**_GROUPED, "head_dim": 8, "attn_logit_softcapping": 2.0, "sliding_window": 4}),
    "gemma3": ("Gemma3TextConfig", {**_GROUPED, "head_dim": 8, "sliding_window": 4}),
    "phi": ("PhiConfig", _COMMON),
    "phi3": ("Phi3Config", _GROUPED),
    "olmo2": ("Olmo2Config", _GROUPED),
    "cohere": ("CohereConfig", _GROUPED),
    "gpt2": ("GPT2Config", {"vocab_size": 96, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}),
    "gpt_neox": ("GPTNeoXConfig", _COMMON),
    "gpt_neox_sequential": ("GPTNeoXConfig", {**_COMMON, "use_parallel_residual": False}),
    "opt": (
        "OPTConfig",
        {
            "vocab_size": 96,
            "hidden_size": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 32,
        },
    ),
    "mixtral": ("MixtralConfig", {**_GROUPED, **_EXPERTS}),
    "qwen3_moe": ("Qwen3MoeConfig", {**_GROUPED, **_EXPERTS, "head_dim": 8}),
    "gpt_oss": ("GptOssConfig", {**_GROUPED, **_EXPERTS, "head_dim": 8, "sliding_window": 4}),
}

_LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 16}
_TWO_KINDS = {"layer_types": ["sliding_attention", "full_attention"] * 2, "num_hidden_layers": 4, "sliding_window": 4}

# those that only some tests need: layers that take their keys and values from others, sparse attention, stacked residual
# streams, attention to later tokens, a state beside keys and values
OTHERS = {
    "gemma4": (
        "Gemma4TextConfig",
        {
            **_GROUPED, **_TWO_KINDS, "head_dim": 8, "global_head_dim": 16, "num_kv_shared_layers": 2,
            "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 96,
        },
    ),
    "gemma3n": (
        "Gemma3nTextConfig",
        {
            **_GROUPED, **_TWO_KINDS, "head_dim": 8, "num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 96, "laurel_rank": 4, "activation_sparsity_pattern": [0.0] * 4,
        },
    ),
    "deepseek_v32": (
        "DeepseekV32Config",
        {
            **_COMMON, **_EXPERTS, **_LATENT, "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 1,
            "topk_group": 1, "index_topk": 8, "index_n_heads": 2, "index_head_dim": 16,
        },
    ),
    "bert": ("BertConfig", _COMMON),
    "zaya": (
        "ZayaConfig",
        {**_GROUPED, **_EXPERTS, "num_hidden_layers": 4, "head_dim": 8, "num_experts_per_tok": 1},
    ),
}  # fmt: skip


@cache
def build(name: str, seed: int = 0):
    """A tiny instance whose every parameter, norms and biases included, is random. Tests share it and leave it as it is."""
    import torch
    import transformers

    cls, arguments = (ARCHITECTURES | OTHERS)[name]
    torch.set_num_threads(1)  # more only adds overhead at this size
    torch.manual_seed(seed)
    config = getattr(transformers, cls)(**arguments)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model
