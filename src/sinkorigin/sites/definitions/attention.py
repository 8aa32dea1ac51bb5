"""Attention weights A[q, k], ``attention`` (N, T, H·T): the rows of query q of all heads, concatenated."""

from sinkorigin.sites.site import AttentionSite

SITE = AttentionSite("attention", lambda call: call.attention)
