"""Activation of the FFN's neurons, ``ffn_activation`` (N, T, f): act(gate) ⊙ up, or act(fc) in an FFN without a gate.

It is the input of the down-projection, the matrix whose output is that of the FFN. A mixture of experts, which has no
single one, lacks it.
"""

from sinkorigin.sites.site import ModuleSite

SITE = ModuleSite("ffn_activation", lambda block: block.down.place("input"))
