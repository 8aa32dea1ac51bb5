"""The ledger: the primary claims in their order, each with a test that is declared before any run. docs/claims.md shows them."""

from sinkorigin.claims.claim import Claim
from sinkorigin.claims.primary import (
    c00_sink,
    c01_variance_at_first,
    c02_variance_falls,
    c03_output_projection,
    c04_sink_after_surge,
    c05_super_neurons,
    c06_dimension_disparity,
    c07_fixed_key,
    c08_aligned_heads,
    c09_mask,
    c10_variance_not_norm,
    c11_removals,
)

PRIMARY: tuple[Claim, ...] = (
    c00_sink.CLAIM,
    c01_variance_at_first.CLAIM,
    c02_variance_falls.CLAIM,
    c03_output_projection.CLAIM,
    c04_sink_after_surge.CLAIM,
    c05_super_neurons.CLAIM,
    c06_dimension_disparity.CLAIM,
    c07_fixed_key.CLAIM,
    c08_aligned_heads.CLAIM,
    c09_mask.CLAIM,
    c10_variance_not_norm.CLAIM,
    c11_removals.AVERAGED,
    c11_removals.SILENT,
)
