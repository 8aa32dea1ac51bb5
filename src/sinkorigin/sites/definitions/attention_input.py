"""Input of the attention module, ``attention_input`` (N, T, d): RMSNorm(x) or LayerNorm(x) in a pre-norm model."""

from sinkorigin.sites.site import ModuleSite

SITE = ModuleSite("attention_input", lambda block: block.attention.place("input"))
