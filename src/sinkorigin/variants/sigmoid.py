"""Sigmoid attention, σ(x_j + b): each key by itself, rows do not sum to one (Ramapuram et al. 2024)."""

import math
from typing import TYPE_CHECKING, Literal

from sinkorigin.variants.declaration import LayerCost, Option, Variant

if TYPE_CHECKING:
    from torch import Tensor


def sigmoid(logits: "Tensor", visible: "Tensor", length: int, *, bias: str = "log_length") -> "Tensor":
    """σ(x + b) of the masked logits, see ``declaration.Variant.weights``.

    Args:
        bias: "log_length", b = −log of the training length, as published; or "log_visible", b = −log of the number of keys
            that the query sees, this project's: at x = 0 a row of n keys sums to n/(n+1), where the published one sums to about
            n/length.
    """
    if bias == "log_length":
        return (logits - math.log(length)).sigmoid()
    if bias != "log_visible":
        raise ValueError(f"the bias of sigmoid attention is log_length or log_visible, not {bias}")
    keys = visible.sum(-1, keepdim=True).clamp_min(1).to(logits.dtype)
    return (logits - keys.log()).sigmoid()


VARIANT = Variant(
    "sigmoid",
    "sigmoid attention, σ(q·k/√d_k + b)",
    weights=sigmoid,
    options={
        "bias": Option(
            Literal["log_length", "log_visible"],
            "log_length",
            "log_length: b = −log of the training length (Ramapuram et al. 2024). log_visible, ours: −log of the number of "
            "keys that the query sees.",
        )
    },
    reading=lambda options: f"bias {options['bias']}",
    layer_cost=lambda size, options: LayerCost(weight_bytes=(8, 6)),
)
