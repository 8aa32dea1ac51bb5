"""Attention variants that can be pretrained and studied: one module each, ``registry`` lists them.

A module declares everything about its variant in ``VARIANT`` (see ``declaration``) and is imported by its name, so that the
code of one variant is no part of another's jobs. It needs no PyTorch; classes that do are in ``{variant}_llama``.

In every variant the value aggregation is the same site, Σ_j A[i, j] v_j: a norm or a gate after it is a part of the output
projection.
"""
