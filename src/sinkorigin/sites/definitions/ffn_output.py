"""What the FFN adds to the residual stream, ``ffn_output`` (N, T, d): the down-projection's output, after any post-norm.

It is the output of the module whose output, with that of the attention, adds up to what the block adds. A block that
adds anything else than two module outputs lacks it.
"""

from sinkorigin.sites.site import ModuleSite

SITE = ModuleSite("ffn_output", lambda block: block.fed.place("output"))
