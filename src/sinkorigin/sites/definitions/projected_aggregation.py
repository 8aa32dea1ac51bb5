"""Value aggregation through W_O, ``projected_aggregation`` (N, T, d): o W_O, with W_O's bias and before any post-norm.

In a model without a post-norm it is what the attention adds to the residual stream, ``attention_output``. An edit here is one of the
value aggregation seen from the other side of a linear map, whatever follows.
"""

from sinkorigin.sites.site import ModuleSite

SITE = ModuleSite("projected_aggregation", lambda block: block.output.place("output"))
