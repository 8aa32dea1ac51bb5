"""The kinds of intervention, one line each, in the order of figures."""

KINDS = (
    "variance_amplification",
    "mask",
    "other_token_only",
    "blind_to_first",
    "window",
    "shuffled_deviations",
    "random_directions",
    "mean_shift",
    "norm_control",
    "mean_and_deviation",
    "variance_matching",
    "value_averaging",
    "super_neuron_ablation",
    "dominating_dims",
)
