"""The attention function that the whole project observes and edits: the hook point between value aggregation and W_O.

It is registered with transformers' ``AttentionInterface``, so it serves every model class that takes its attention from
there. Where no tap is set it computes what the model's eager attention function computes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from sinkorigin.errors import SinkoriginError
from sinkorigin.sites.eager import seen_eagerly
from sinkorigin.sites.tap import Tap

IMPLEMENTATION = "sinkorigin"
UNTAPPED = "sinkorigin_untapped"

# Arguments of an attention call that change nothing in what is computed here; transformers' eager attention functions leave
# them unread too. All others are refused, because a function that ignores them is silently wrong.
HARMLESS_ARGUMENTS = frozenset(
    {
        # positions: query and key have been rotated already
        "position_ids", "cache_position",
        # the cache: key and value are what it returned
        "use_cache",
        # which keys a query sees: the mask says it
        "is_causal", "sliding_window",
        # the kernel's choice of algorithm
        "deterministic",
        # what the model returns beside the hidden states, or for how many positions
        "output_attentions", "output_hidden_states", "output_router_logits", "return_dict", "logits_to_keep",
    }
)  # fmt: skip


_taps: WeakKeyDictionary[nn.Module, list[tuple[int, Tap]]] = WeakKeyDictionary()
_witnesses: list[list[nn.Module]] = []


def _taps_of(module: nn.Module) -> Sequence[tuple[int, Tap]]:
    return _taps.get(module, ())


def _attend(
    module: nn.Module,
    taps: Sequence[tuple[int, Tap]],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs,
) -> tuple[Tensor, Tensor]:
    """Causal attention with the given taps; see :func:`tapped_attention`."""
    for argument, given in kwargs.items():
        if given is not None and argument not in HARMLESS_ARGUMENTS:
            raise SinkoriginError(
                f"{type(module).__name__} passes {argument} to its attention function, which sinkorigin's attention function "
                "does not compute with, so its result would not be the model's; choose another model"
            )
    for layer, tap in taps:
        tap.observe_values(layer, value)
    groups = query.shape[1] // key.shape[1]
    key = key.repeat_interleave(groups, dim=1) if groups > 1 else key  # (N, H, S, d_k)
    value = value.repeat_interleave(groups, dim=1) if groups > 1 else value
    offset = key.shape[2] - query.shape[2]
    for layer, tap in taps:
        key = tap.edit_keys(layer, key, offset)
    logits = torch.matmul(query, key.transpose(2, 3)) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    if attention_mask is not None:
        attention_mask = attention_mask[..., : key.shape[2]]
        logits = logits + attention_mask
    for layer, tap in taps:
        logits = tap.edit_logits(layer, logits, offset)
    attention_weights = getattr(module, "attention_weights", None)
    if attention_weights is not None:
        # an edit may hide keys, else the mask tells, once for all sequences and heads
        mask = logits if taps or attention_mask is None else attention_mask
        visible = mask > torch.finfo(mask.dtype).min / 2
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        weights = attention_weights(wide, visible).to(query.dtype)
    elif s_aux is not None:
        sinks = s_aux.reshape(1, -1, 1, 1).expand(logits.shape[0], -1, logits.shape[2], 1)
        logits = torch.cat([logits, sinks.to(logits.dtype)], dim=-1)
        # as the model does: half-precision logits are shifted by their maximum before the softmax
        logits = logits - logits.max(dim=-1, keepdim=True).values
        weights = torch.softmax(logits, dim=-1, dtype=logits.dtype)[..., :-1]
    else:
        weights = torch.softmax(logits, dim=-1, dtype=torch.float32).to(query.dtype)
    del logits  # as large as the weights, and not needed by what follows
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    aggregation = torch.matmul(weights, value)  # (N, H, T, d_k)
    for layer, tap in taps:
        aggregation = tap.edit_aggregation(layer, aggregation, offset)
    output = aggregation.transpose(1, 2).contiguous()  # (N, T, H, d_k)
    for layer, tap in taps:
        tap.observe(layer, query, key, weights, output.transpose(1, 2))
    return output, weights


def tapped_attention(module: nn.Module, *args, **kwargs) -> tuple[Tensor, Tensor]:
    """Causal attention, softmax(q·k·scaling + mask)·v, with the taps of ``module``.

    Where the module has ``attention_weights``, a function of the masked logits (N, H, T, S) and of where they are visible
    (N or 1, H or 1, T, S), its weights take the place of the softmax (see ``variants.declaration``).

    Args:
        query: (N, H, T, d_k); key, value: (N, H_kv, S, d_k), not yet repeated for grouped queries.
        attention_mask: (N or 1, 1, T, S), added to the logits; it carries causality and sliding windows.
        softcap: logits become softcap·tanh(logits/softcap) (Gemma 2).
        s_aux: (H,) learned sink logits (gpt-oss): they take part in the softmax and are then dropped.

    Returns:
        The value aggregation (N, T, H, d_k) and the attention weights (N, H, T, S).

    Raises:
        SinkoriginError: the module passes another argument that is not None and not in ``HARMLESS_ARGUMENTS``.
    """
    for seen in _witnesses:
        seen.append(module)
    return _attend(module, _taps_of(module), *args, **kwargs)


def untapped_attention(module: nn.Module, *args, **kwargs) -> tuple[Tensor, Tensor]:
    """Causal attention without taps, which a compiler can follow: what variants with ``attention_weights`` train with."""
    return _attend(module, (), *args, **kwargs)


for _name, _attention in ((IMPLEMENTATION, tapped_attention), (UNTAPPED, untapped_attention)):
    AttentionInterface.register(_name, _attention)
    AttentionMaskInterface.register(_name, eager_mask)


@contextmanager
def _implemented(model: PreTrainedModel, implementation: str) -> Iterator[None]:
    before = model.config._attn_implementation
    if before == implementation:  # an outer block has set it; setting it again walks through all modules
        yield
        return
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def through_taps(model: PreTrainedModel) -> AbstractContextManager[None]:
    """Let ``model`` compute its attention with :func:`tapped_attention` inside the block; afterwards as before."""
    return _implemented(model, IMPLEMENTATION)


def without_taps(model: PreTrainedModel) -> AbstractContextManager[None]:
    """Let ``model`` compute its attention with its class's eager function inside the block; afterwards as before.

    A variant of this project that has ``attention_weights`` takes them from its function, without taps.
    """
    return _implemented(model, "eager")


@contextmanager
def witnessed() -> Iterator[list[nn.Module]]:
    """Collect the attention modules that call :func:`tapped_attention` inside the block, in order."""
    seen: list[nn.Module] = []
    _witnesses.append(seen)
    try:
        yield seen
    finally:
        _witnesses.remove(seen)


@contextmanager
def tapped(
    model: PreTrainedModel, attention_modules: Mapping[int, nn.Module], *taps: Tap, eager: bool = False
) -> Iterator[None]:
    """Set ``taps``, in order, on the attention of every layer; blocks nest, and leaving one removes the taps that it set.

    Args:
        eager: whether they see and edit the class's own eager attention (``eager.py``), not :func:`tapped_attention`.
    """
    with ExitStack() as stack:
        if eager:
            stack.enter_context(without_taps(model))
            stack.enter_context(seen_eagerly(list(attention_modules.values()), _taps_of))
        else:
            stack.enter_context(through_taps(model))
        entries = [(module, (layer, tap)) for layer, module in attention_modules.items() for tap in taps]
        for module, entry in entries:
            _taps.setdefault(module, []).append(entry)
        try:
            yield
        finally:
            for module, entry in entries:
                _taps[module].remove(entry)
