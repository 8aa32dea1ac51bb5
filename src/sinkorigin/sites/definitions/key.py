"""Keys after rotary embedding, ``key`` (N, T, H·d_k), repeated for grouped queries, heads concatenated."""

from sinkorigin.sites.site import AttentionSite

SITE = AttentionSite("key", lambda call: call.key)
