"""Softpick, ReLU(exp(x_j) − 1) / (Σ_k |exp(x_k) − 1| + 10⁻⁶), over the visible keys (Zuhri et al. 2025, "Softpick")."""

from typing import TYPE_CHECKING

from sinkorigin.variants.declaration import LayerCost, Variant

if TYPE_CHECKING:
    from torch import Tensor

_EPS = 1e-6  # as published


def softpick(logits: "Tensor", visible: "Tensor", length: int) -> "Tensor":
    """ReLU(exp(x_j) − 1) / (Σ_k |exp(x_k) − 1| + eps) of the masked logits, see ``declaration.Variant.weights``."""
    largest = logits.detach().amax(-1, keepdim=True).clamp_min(0)  # the result does not depend on it
    one = (-largest).exp()  # numerator and denominator are both divided by exp(largest)
    shifted = ((logits - largest).exp() - one).masked_fill(~visible, 0)
    return shifted.relu() / (shifted.abs().sum(-1, keepdim=True) + _EPS * one)


VARIANT = Variant(
    "softpick",
    "softpick attention",
    weights=softpick,
    layer_cost=lambda size, options: LayerCost(weight_bytes=(16, 14)),
)
