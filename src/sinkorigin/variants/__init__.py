"""Attention variants that can be pretrained and studied, each a Llama model type of its own.

``attention_weights`` holds the variants that are one function of the attention logits; ``headwise_rmsnorm`` and ``gated``
those that change what follows the value aggregation; ``configuration`` and ``llama`` their configurations and models;
``registration`` makes transformers know them.

In every variant the value aggregation is the same site, Σ_j A[i, j] v_j: a norm or a gate after it is a part of the output
projection.
"""
