"""Estimates of what a pretraining run costs, from its configuration alone: parameters, operations, memory and time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sinkorigin.models.shapes import Shape
from sinkorigin.variants.declaration import declared

# Values that one token leaves in one layer for the backward pass, in widths: the two normalised inputs and what the norms
# keep of theirs (6), query before and after rotary embedding (2), what the output projection gets and gives (2).
_WIDTHS = 10
_FFN_WIDTHS = 4  # gate, its activation, up, and their product
_LOGITS = 3  # logits, log-probabilities and their gradient, in float32; autocast's logits in half precision beside them

# share of the other values that a compiled step keeps; it makes the rest again in the backward pass
_COMPILED = 0.5


@dataclass(frozen=True)
class Cost:
    """Cost of one training."""

    parameters: int  # stored numbers; tied embeddings count once
    tokens: int  # tokens trained on
    flops_per_token: float  # floating-point operations, forward and backward
    # peak bytes on one device: weights, gradients, AdamW's moments and the activations of a micro-batch; the libraries
    # take some hundred megabytes beside it
    memory: float

    @property
    def flops(self) -> float:
        """Floating-point operations of the whole training."""
        return self.flops_per_token * self.tokens

    def hours(self, peak: float, utilisation: float, devices: int = 1) -> float:
        """Wall time, h, on devices that reach the share ``utilisation`` of the ``peak`` of their matrix products, FLOP/s."""
        return self.flops / (peak * utilisation * devices) / 3600


def parameters(size: Mapping[str, Any], *, vocabulary: int, variant: str, options: Mapping[str, Any]) -> int:
    """Number of stored parameters, exactly; ``size`` has layers, width, heads, kv_heads, ffn_width and tied_embeddings."""
    added = declared(variant).layer_cost(size, options).parameters
    return Shape.of_size(size, vocabulary).parameters + size["layers"] * added


def flops_per_token(size: Mapping[str, Any], *, vocabulary: int, variant: str) -> float:
    """Floating-point operations of one training token: 6 for each number of a matrix, and those of the attention.

    A multiplication and an addition for each in the forward pass, twice as many in the backward pass (Kaplan et al. 2020,
    §2.1); the language-model head is a matrix, the lookup of the embedding is none. Attention: q·k and the aggregation,
    2 · 2 · T · d in the forward pass of a layer, three times that in all, with the masked half counted, as in Chowdhery et
    al. 2022 (PaLM), appendix B.
    """
    width = size["width"]
    layer = Shape.of_size(size, vocabulary).layer_matrices + declared(variant).layer_cost(size, {}).matrix
    matrices = size["layers"] * layer + vocabulary * width
    return 6 * matrices + 12 * size["layers"] * width * size["length"]


def activation_bytes(
    size: Mapping[str, Any], *, vocabulary: int, variant: str, sequences: int, dtype: str, compiled: bool = False
) -> float:
    """Bytes that a micro-batch of ``sequences`` holds at the end of its forward pass, the logits' gradient included.

    An estimate from what PyTorch keeps of each module of transformers' Llama; docs/pretraining.md holds it against peaks.
    """
    half = dtype == "bfloat16"
    number = 2 if half else 4
    kv_share = size["kv_heads"] / size["heads"]
    layer = (_WIDTHS + 3 * kv_share) * size["width"] + _FFN_WIDTHS * size["ffn_width"]  # values a token
    added = declared(variant).layer_cost(size, {})
    values = size["layers"] * (layer + added.kept) * number + vocabulary * (_LOGITS * 4 + 2 * half)
    weights = size["layers"] * size["heads"] * size["length"] * added.weight_bytes[half]
    return sequences * size["length"] * (values * (_COMPILED if compiled else 1) + weights)


def cost(run: Mapping[str, Any], *, vocabulary: int, options: Mapping[str, Any], devices: int = 1) -> Cost:
    """Cost of one run with one seed.

    Args:
        run: layers, width, heads, kv_heads, ffn_width, length, batch, steps, variant, dtype; tied_embeddings,
            accumulate and compile where they are not True, 1 and False. "auto" counts as not compiled, which needs more.
        devices: number of devices that share each batch.
    """
    size = {"tied_embeddings": True, **run}
    model: dict[str, Any] = {"vocabulary": vocabulary, "variant": run["variant"]}
    count = parameters(size, **model, options=options)
    micro = -(-run["batch"] // (run.get("accumulate", 1) * devices))
    dtype, compiled = run["dtype"], run.get("compile") is True
    stored = (18 if dtype == "bfloat16" else 16) * count  # autocast keeps the cast weights through the forward pass
    return Cost(
        parameters=count,
        tokens=run["steps"] * run["batch"] * run["length"],
        flops_per_token=flops_per_token(size, **model),
        memory=stored + activation_bytes(size, **model, sequences=micro, dtype=dtype, compiled=compiled),
    )
