"""Names of the attention variants, each the name of a module of this package."""

VARIANTS = (
    "softmax",
    "headwise_rmsnorm",
    "gated",
    "sigmoid",
    "softmax_off_by_one",
    "softpick",
    "sink_logits",
    "qk_norm",
    "sandwich_norm",
)
