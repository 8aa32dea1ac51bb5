"""Softmax attention, exp(x_j) / Σ_k exp(x_k): transformers' Llama as it is."""

from sinkorigin.variants.declaration import Classes, Variant


def _classes() -> Classes:
    from transformers import LlamaConfig, LlamaForCausalLM

    return Classes(LlamaConfig, LlamaForCausalLM)


VARIANT = Variant("softmax", "softmax attention", load_classes=_classes)
