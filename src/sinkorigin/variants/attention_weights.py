"""Attention weights as functions of the masked logits: a variant of the attention is one such function.

A function gets the logits (N, H, T, S), scaled and masked (a large negative number or −inf where a query sees no key);
``visible`` (N or 1, H or 1, T, S), true where a query sees a key; ``length``, the number of tokens in a training sequence;
and its own options by name. It returns the weights (N, H, T, S), which must be 0 where nothing is visible. Its name is the
variant's name in the config, ``{name}_llama`` the model type of what is trained with it, and it must be differentiable.

Only methods of the tensors are used: the config knows the names from here, and need not wait for PyTorch.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

_Function = TypeVar("_Function", bound=Callable)

# name of the variant → its function
ATTENTION_WEIGHTS: dict[str, Callable[..., "Tensor"]] = {}


def attention_variant(function: _Function) -> _Function:
    """Make a variant of a function of the masked logits, under its own name."""
    ATTENTION_WEIGHTS[function.__name__] = function
    return function


@attention_variant
def sigmoid(logits: "Tensor", visible: "Tensor", length: int, *, bias: str = "log_length") -> "Tensor":
    """σ(x + b): each key on its own, rows do not sum to one (Ramapuram et al. 2024).

    Args:
        bias: "log_length", b = −log of the training length, theirs; or "log_visible", b = −log of the number of keys that
            the query sees, ours: at x = 0 a row of n keys sums to n/(n+1), where theirs sums to about n/length.
    """
    if bias == "log_length":
        return (logits - math.log(length)).sigmoid()
    if bias != "log_visible":
        raise ValueError(f"the bias of sigmoid attention is log_length or log_visible, not {bias}")
    keys = visible.sum(-1, keepdim=True).clamp_min(1).to(logits.dtype)
    return (logits - keys.log()).sigmoid()


@attention_variant
def softmax_off_by_one(logits: "Tensor", visible: "Tensor", length: int) -> "Tensor":
    """exp(x_j) / (1 + Σ_k exp(x_k)): a head may attend to nothing (Miller 2023, "Attention is off by one")."""
    largest = logits.detach().amax(-1, keepdim=True).clamp_min(0)  # the result does not depend on it
    exponential = (logits - largest).exp()
    return exponential / (exponential.sum(-1, keepdim=True) + (-largest).exp())


@attention_variant
def softpick(logits: "Tensor", visible: "Tensor", length: int, *, eps: float = 1e-6) -> "Tensor":
    """ReLU(exp(x_j) − 1) / (Σ_k |exp(x_k) − 1| + eps), over the visible keys (Zuhri et al. 2025, "Softpick")."""
    largest = logits.detach().amax(-1, keepdim=True).clamp_min(0)  # the result does not depend on it
    one = (-largest).exp()  # numerator and denominator are both divided by exp(largest)
    shifted = ((logits - largest).exp() - one).masked_fill(~visible, 0)
    return shifted.relu() / (shifted.abs().sum(-1, keepdim=True) + eps * one)
