"""The attention function that the whole project observes and edits: the hook point between value aggregation and W_O.

It is registered with transformers' ``AttentionInterface``, so it serves every model class that takes its attention from
there. Where no tap is set it computes what the model's eager attention function computes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from sinkorigin.errors import SinkoriginError
from sinkorigin.sites.batches import block_shape, in_blocks
from sinkorigin.sites.eager import seen_eagerly
from sinkorigin.sites.mask_rows import MaskRows, mask_of_rows
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
_checks: list[Callable[..., None]] = []


def _taps_of(module: nn.Module) -> Sequence[tuple[int, Tap]]:
    return _taps.get(module, ())


def _weigh(
    module: nn.Module,
    taps: Sequence[tuple[int, Tap]],
    query: Tensor,
    key: Tensor,
    attention_mask: Tensor | None,
    offset: int,
    scaling: float | None,
    softcap: float | None,
    s_aux: Tensor | None,
) -> Tensor:
    """Attention weights (N, H, T, S) of queries (N, H, T, d_k) on keys (N, H, S, d_k), both of the same heads.

    ``attention_mask`` (N or 1, 1, T, s) is of the last s keys; all queries see those before.
    """
    logits = torch.matmul(query, key.transpose(2, 3))
    logits *= query.shape[-1] ** -0.5 if scaling is None else scaling
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    if attention_mask is not None and attention_mask.shape[-1] == logits.shape[-1]:
        logits = logits + attention_mask
    elif attention_mask is not None:  # all queries see all of the keys before
        logits[..., -attention_mask.shape[-1] :] += attention_mask
    for layer, tap in taps:
        logits = tap.edit_logits(layer, logits, offset)
    attention_weights = getattr(module, "attention_weights", None)
    if attention_weights is not None:
        # an edit may hide keys, else the mask tells, once for all sequences and heads
        whole = attention_mask is not None and attention_mask.shape[-1] == logits.shape[-1]
        mask = attention_mask if whole and not taps else logits
        visible = mask > torch.finfo(mask.dtype).min / 2
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return attention_weights(wide, visible).to(query.dtype)
    if s_aux is not None:
        sinks = s_aux.reshape(1, -1, 1, 1).expand(logits.shape[0], -1, logits.shape[2], 1)
        logits = torch.cat([logits, sinks.to(logits.dtype)], dim=-1)
        # as the model does: half-precision logits are shifted by their maximum before the softmax
        logits = logits - logits.max(dim=-1, keepdim=True).values
        return torch.softmax(logits, dim=-1, dtype=logits.dtype)[..., :-1]
    if not taps and not torch.is_grad_enabled() and logits.dtype == torch.float32:  # nothing else has these logits
        return torch.softmax(logits, dim=-1, out=logits)
    return torch.softmax(logits, dim=-1, dtype=torch.float32).to(query.dtype)


def _attend(
    module: nn.Module,
    taps: Sequence[tuple[int, Tap]],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | MaskRows | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs,
) -> tuple[Tensor, Tensor | None]:
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
    mask = MaskRows.of(attention_mask, key.shape[2])
    sizes = (len(query), query.shape[1], query.shape[2], key.shape[2])  # N, H, T, S
    weights = None
    if in_blocks(*sizes) and not any(tap.whole_matrix for _, tap in taps):
        aggregation = query.new_empty(*query.shape[:3], value.shape[-1])  # (N, H, T, d_v)
        # weights of a variant may have a parameter for each head
        varied = getattr(module, "attention_weights", None) is not None
        many, rows = block_shape(*sizes, on_cpu=query.device.type == "cpu", heads_together=varied)
        for first in range(0, query.shape[2], rows):
            queries = slice(first, first + rows)
            keys, hidden = mask.rows(first, min(first + rows, query.shape[2]))
            for head in range(0, query.shape[1], many):
                heads = slice(head, head + many)
                sinks = None if s_aux is None else s_aux.reshape(-1)[heads]
                seen = key[:, heads, keys]
                block = _weigh(module, (), query[:, heads, queries], seen, hidden, offset, scaling, softcap, sinks)
                block = nn.functional.dropout(block, p=dropout, training=module.training)
                for layer, tap in taps:
                    tap.observe_weights(layer, block, head, first, keys.start or 0)
                aggregation[:, heads, queries] = torch.matmul(block, value[:, heads, keys])
    else:
        weights = _weigh(module, taps, query, key, mask.whole, offset, scaling, softcap, s_aux)
        weights = nn.functional.dropout(weights, p=dropout, training=module.training)
        for layer, tap in taps:
            tap.observe_weights(layer, weights, 0, 0, 0)
        aggregation = torch.matmul(weights, value)  # (N, H, T, d_v)
    for layer, tap in taps:
        aggregation = tap.edit_aggregation(layer, aggregation, offset)
    output = aggregation.transpose(1, 2).contiguous()  # (N, T, H, d_k)
    for layer, tap in taps:
        tap.observe(layer, query, key, weights, output.transpose(1, 2))
    return output, weights


def tapped_attention(module: nn.Module, *args, **kwargs) -> tuple[Tensor, Tensor | None]:
    """Causal attention, softmax(q·k·scaling + mask)·v, with the taps of ``module``.

    Where the module has ``attention_weights``, a function of the masked logits (N, H, T, S) and of where they are visible
    (N or 1, H or 1, T, S), its weights take the place of the softmax (see ``variants.declaration``).

    Args:
        query: (N, H, T, d_k); key, value: (N, H_kv, S, d_k), not yet repeated for grouped queries.
        attention_mask: (N or 1, 1, T, S), added to the logits; it carries causality and sliding windows. Of long prompts, its rows.
        softcap: logits become softcap·tanh(logits/softcap) (Gemma 2).
        s_aux: (H,) learned sink logits (gpt-oss): they take part in the softmax and are then dropped.

    Returns:
        The value aggregation (N, T, H, d_k) and the attention weights (N, H, T, S); None in their place where they were computed in
        blocks: for long prompts (``batches.in_blocks``), where no tap needs the whole matrix.

    Raises:
        SinkoriginError: the module passes another argument that is not None and not in ``HARMLESS_ARGUMENTS``.
    """
    for seen in _witnesses:
        seen.append(module)
    output, weights = _attend(module, _taps_of(module), *args, **kwargs)
    for check in _checks:
        check(module, output, *args, **kwargs)
    return output, weights


def untapped_attention(module: nn.Module, *args, **kwargs) -> tuple[Tensor, Tensor | None]:
    """Causal attention without taps, which a compiler can follow: what variants with ``attention_weights`` train with."""
    return _attend(module, (), *args, **kwargs)


for _name, _attention, _mask in (
    (IMPLEMENTATION, tapped_attention, mask_of_rows),
    (UNTAPPED, untapped_attention, eager_mask),
):
    AttentionInterface.register(_name, _attention)
    AttentionMaskInterface.register(_name, _mask)


@contextmanager
def _implemented(model: PreTrainedModel, implementation: str) -> Iterator[None]:
    before = model.config._attn_implementation
    if before == implementation:  # an outer block has set it; setting it again walks through all modules
        yield
        return
    _set_implementation(model, implementation)
    try:
        yield
    finally:
        _set_implementation(model, before)


def _set_implementation(model: PreTrainedModel, implementation: str) -> None:
    if model._can_set_attn_implementation():
        model.set_attn_implementation(implementation)
    else:  # a class older than transformers' attention interface, such as Falcon, reads in every pass which one its config names
        model.config._attn_implementation = implementation


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
def each_call_checked(check: Callable[..., None]) -> Iterator[None]:
    """Call ``check(module, output, query, key, value, …)`` after every call of :func:`tapped_attention` inside the block, with its
    output (N, T, H, d_k) and the arguments that it got."""
    _checks.append(check)
    try:
        yield
    finally:
        _checks.remove(check)


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
