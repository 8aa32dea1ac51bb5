"""A tiny Llama as a GGUF file."""

import json

import pytest


def write_gguf(path, folder, *, leave_out=(), more=(), architecture="llama", file_type=None, pieces=None):
    """The tiny Llama in ``folder`` as an unquantised GGUF file, without some tensors and with vectors of other names.

    Args:
        file_type: what the header says of the file, if anything.
        pieces: number of files that the header says it is one of.
    """
    gguf = pytest.importorskip("gguf")
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    if file_type is not None:
        writer.add_file_type(file_type)
    if pieces is not None:
        writer.add_uint16("split.count", pieces)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())["model"]
    tokens = sorted(tokenizer["vocab"], key=tokenizer["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token == "<s>" else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["merges"]])
    for add in (writer.add_bos_token_id, writer.add_eos_token_id):
        add(0)
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    outer = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    for name, tensor in model.state_dict().items():
        if name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            part = rest.removesuffix(".weight")
            target = f"blk.{layer}.{names[part]}.weight"
            if part in ("self_attn.q_proj", "self_attn.k_proj"):  # llama.cpp's order of the rotary halves
                heads = config.num_attention_heads if "q_proj" in part else config.num_key_value_heads
                tensor = tensor.view(heads, 2, -1, config.hidden_size).swapaxes(1, 2).reshape(tensor.shape)
        else:
            target = outer[name]
        if target not in leave_out:
            writer.add_tensor(target, tensor.contiguous().numpy())
    for name in more:
        writer.add_tensor(name, torch.ones(4).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model
