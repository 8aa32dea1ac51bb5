"""What leaves W_O, ``output_projection_output`` (N, T, d): o W_O, with W_O's bias and before any post-norm.

In a model without a post-norm it is what the attention adds to the residual stream, ``attention_output``. An edit here is one of what
enters W_O, seen from the other side of a linear map, whatever follows.
"""

from sinkorigin.sites.site import ModuleSite

SITE = ModuleSite("output_projection_output", lambda block: block.output.place("output"))
