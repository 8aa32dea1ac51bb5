"""Queries after rotary embedding, ``query`` (N, T, H·d_k), heads concatenated."""

from sinkorigin.sites.site import AttentionSite

SITE = AttentionSite("query", lambda call: call.query)
