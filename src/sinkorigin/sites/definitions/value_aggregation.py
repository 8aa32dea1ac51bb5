"""Value aggregation o_i = Σ_j A[i, j] v_j, ``value_aggregation`` (N, T, H·d_k), before W_O, heads concatenated."""

from sinkorigin.sites.site import AttentionSite

SITE = AttentionSite("value_aggregation", lambda call: call.value_aggregation)
