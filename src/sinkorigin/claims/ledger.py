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
    c12_trains_faster,
    c13_what_the_norm_removes,
    c14_sigmoid,
)
from sinkorigin.claims.run_pairs import TrainingClaim

PRIMARY: tuple[Claim, ...] = (
    c00_sink.CLAIM,
    c01_variance_at_first.CLAIM,
    c02_variance_falls.CLAIM,
    c03_output_projection.CLAIM,
    c04_sink_after_surge.CLAIM,
    c05_super_neurons.CLAIM,
    c06_dimension_disparity.CLAIM,
    c07_fixed_key.FIXED,
    c07_fixed_key.ONE_DIM,
    c08_aligned_heads.CLAIM,
    c09_mask.CLAIM,
    c10_variance_not_norm.CLAIM,
    c11_removals.AVERAGED,
    c11_removals.SILENT,
)

# about models that are trained here, each run against its baseline
TRAININGS: tuple[TrainingClaim, ...] = (
    c12_trains_faster.FASTER,
    c12_trains_faster.LOWER,
    c13_what_the_norm_removes.SINK,
    c13_what_the_norm_removes.DISPARITY_CLAIM,
    c13_what_the_norm_removes.RANK,
    c13_what_the_norm_removes.PARITY_CLAIM,
    c14_sigmoid.SINK,
    c14_sigmoid.WORSE,
)
