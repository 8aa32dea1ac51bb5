"""Input of the FFN, ``ffn_input`` (N, T, d): RMSNorm(x) or LayerNorm(x) in a pre-norm model.

The FFN is the module with matrices that makes ``ffn_output``, before a post-norm. Where the block holds the FFN's
projections itself, as in OPT, the input is that of its first matrix outside the attention. A block that adds anything else
than two module outputs to its residual stream lacks it.
"""

from sinkorigin.sites.site import ModuleSite

SITE = ModuleSite("ffn_input", lambda block: block.ffn_entry.place("input"))
