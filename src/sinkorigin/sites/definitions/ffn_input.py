"""Input of the FFN, ``ffn_input`` (N, T, d): RMSNorm(x) or LayerNorm(x) in a pre-norm model.

The FFN is the module with a matrix that makes what the block adds besides the attention's output, or that such an output
is normed from; where it is a bare projection, its input is that of the block's first matrix after the attention. A block
that does not add two module outputs to its residual stream lacks it.
"""

from sinkorigin.sites.site import ModuleSite

SITE = ModuleSite("ffn_input", lambda block: block.ffn_entry.place("input"))
