"""The statistics that the workflow computes: each is a module of this package with a function ``compute``."""

STATISTICS = (
    "variance",
    "variance_through_output",
    "norms",
    "disparity",
    "sinks",
    "first_positions",
    "secondary_sinks",
    "super_neurons",
    "keys",
    "effective_rank",
    "interventions",
    "mediation",
    "pretraining",
    "pretraining_comparison",
    "ladder",
    "learning_rates",
    "anatomy",
)
