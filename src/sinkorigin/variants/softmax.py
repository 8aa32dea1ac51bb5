"""Softmax attention, exp(x_j) / Σ_k exp(x_k): transformers' Llama as it is."""

from sinkorigin.variants.declaration import Variant


def _load_class():
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM


VARIANT = Variant("softmax", "softmax attention", load_class=_load_class)
