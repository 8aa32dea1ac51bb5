"""What the attention adds to the residual stream, ``attention_output`` (N, T, d): o W_O, after any post-norm.

It is the output of the module whose output, with that of another module, adds up to what the block adds. A block that
adds anything else than two module outputs lacks it.
"""

from sinkorigin.sites.site import ModuleSite

SITE = ModuleSite("attention_output", lambda block: block.attended.place("output"))
