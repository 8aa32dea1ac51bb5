"""Comparison of this project's attention with the class's own for some queries of long prompts, of which a whole matrix does not fit."""

import sys
from collections.abc import Callable

import torch
from torch import nn

from sinkorigin.errors import SinkoriginError
from sinkorigin.sites.block import tolerance
from sinkorigin.sites.mask_rows import MaskRows
from sinkorigin.sites.precision import in_float64

QUERIES = 32  # that are compared in each call: the first, the last, and others evenly between them


def eager_function(module: nn.Module) -> Callable | None:
    """The function by which the class of an attention module computes its eager attention; None where its module has none."""
    for kind in type(module).__mro__:
        found = getattr(sys.modules.get(kind.__module__), "eager_attention_forward", None)
        if found is not None:
            return found
    return None


def row_check(name: str) -> Callable[..., None]:
    """Check for ``attention.each_call_checked``: some rows of the value aggregation against the class's eager attention.

    The eager function gets these queries with all keys, values, and rows of the mask as they are, so that a window, chunks, soft-capping or
    learned sink logits that show only in long prompts are seen. What a variant of this project computes has no other function to be held
    against.

    Args:
        name: the model's name, for messages.

    Raises:
        SinkoriginError: a row differs by more than the model's precision explains; or the class has no eager function.
    """

    def check(module, output, query, key, value, attention_mask, *args, **kwargs):
        if getattr(module, "attention_weights", None) is not None:
            return
        kind, length = type(module).__name__, query.shape[2]
        eager = eager_function(module)
        if eager is None:
            raise SinkoriginError(
                f"model {name}: {kind} has no eager attention function that what sinkorigin computes in blocks for prompts of {length} tokens "
                "could be compared with; use shorter prompts, or another model"
            )
        rows = torch.linspace(0, length - 1, min(QUERIES, length)).round().long().unique().to(query.device)
        mask = MaskRows.of(attention_mask, key.shape[2]).of_queries(rows.tolist())
        expected = in_float64(eager(module, query[:, :, rows], key, value, mask, *args, **kwargs)[0])
        found = in_float64(output[:, rows])
        if not (expected.isfinite().all() and found.isfinite().all()):
            return  # the caller's check names the first site that is not
        norms = torch.linalg.vector_norm(expected.flatten(2), dim=-1).clamp_min(1e-30)
        off = (torch.linalg.vector_norm((found - expected).flatten(2), dim=-1) / norms).max().item()
        if not off <= tolerance(query.dtype):
            raise SinkoriginError(
                f"model {name}: on a prompt of {length} tokens {kind} gives another value aggregation through sinkorigin's attention function "
                f"than with its own eager attention (relative difference {off:.2g}), so what would be measured is another model; "
                "choose another model"
            )

    return check
