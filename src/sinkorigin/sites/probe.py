"""A forward pass over a few random tokens that shows which module makes what, whatever the class of the model."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sinkorigin.errors import SinkoriginError
from sinkorigin.sites.attention import Tap, tapped, through_taps, without_taps, witnessed
from sinkorigin.sites.block import Block, Call, Lacking, equal, tolerance
from sinkorigin.sites.eager import finding
from sinkorigin.sites.modules import first_tensor, output_tensor
from sinkorigin.sites.precision import in_float64

_SHAPE = (2, 6)  # sequences, positions


class _Attention(Tap):
    """Value aggregations of one forward pass, and properties of its attention weights."""

    def __init__(self):
        self.aggregations: dict[int, Tensor] = {}  # (N, T, H·d_k)
        self.rows_sum_to_one: dict[int, bool] = {}
        self.causal = True

    def observe(self, layer, query, key, weights, aggregation):
        sums = in_float64(weights).sum(dim=-1)
        self.rows_sum_to_one[layer] = bool((sums - 1).abs().max() <= tolerance(weights.dtype))
        self.causal &= not (weights.triu(1) > 0).any()
        self.aggregations[layer] = aggregation.transpose(1, 2).flatten(2)


@contextmanager
def _recorded(blocks: list[nn.Module]) -> Iterator[list[list[Call]]]:
    """Record the calls of the modules of each block, in order."""
    calls: list[list[Call]] = [[] for _ in blocks]

    def record(layer, path, module, args, kwargs, output):
        into, out = first_tensor(args, kwargs), output_tensor(output)
        if into is not None and out is not None:
            order = len(calls[layer])
            calls[layer].append(Call(path, module, order, into.detach().clone(), out.detach().clone()))

    with ExitStack() as stack:
        for layer, block in enumerate(blocks):
            for path, module in block.named_modules():
                handle = module.register_forward_hook(partial(record, layer, path), with_kwargs=True)
                stack.callback(handle.remove)
        yield calls


def probe_blocks(model: PreTrainedModel, name: str) -> tuple[list[Block], bool]:
    """Run ``model`` on a few tokens and record what the modules of each block make of them.

    Returns:
        The blocks, and whether their attention is seen in the class's own eager attention (``eager.py``).

    Raises:
        SinkoriginError: the class is not supported; see :func:`sinkorigin.sites.architecture.read_architecture`.
    """
    kind = type(model).__name__
    ids = _token_ids(model, name)
    found, eager = _attention_modules(model, ids, name)
    blocks, attention = _blocks(model, found, name)
    taps = _Attention()
    with torch.no_grad(), _recorded(blocks) as calls, tapped(model, attention, taps, eager=eager):
        _run(model, ids)
    for layer, block in enumerate(blocks):
        _check_stream(block, attention.get(layer), calls[layer], ids.shape, f"model {name}: block {layer} of {kind}")
    if missed := attention.keys() - taps.aggregations.keys():
        raise SinkoriginError(
            f"model {name}: {type(attention[min(missed)]).__name__} multiplies its attention weights with no values that can be "
            "seen; choose another model"
        )
    if not taps.causal:
        raise SinkoriginError(
            f"model {name}: {kind} lets a token attend to later ones, but all that is measured is defined for "
            "causal attention; choose a causal model, or set is_decoder in its config.json where the class has it"
        )
    if eager:
        _check_sequences(model, attention, ids, taps, name)
    return [
        Block(
            stream=next(call for call in calls[layer] if call.module is block),
            attention=next(call for call in calls[layer] if call.module is attention[layer])
            if layer in attention
            else Lacking("the layer has no softmax attention"),
            # a module that returns its input (dropout in evaluation) is no site, and one such module may serve twice
            calls=[call for call in calls[layer] if call.module is not block and not equal(call.input, call.output)],
            aggregation=taps.aggregations.get(layer),
            rows_sum_to_one=taps.rows_sum_to_one.get(layer),
        )
        for layer, block in enumerate(blocks)
    ], eager


def _run(model: PreTrainedModel, ids: Tensor) -> None:
    model.base_model(input_ids=ids, use_cache=False)


def _token_ids(model: PreTrainedModel, name: str) -> Tensor:
    """(N, T) random ids of tokens whose embedding is finite: rows behind the vocabulary may be padding of any kind."""
    embedding = getattr(model.get_input_embeddings(), "weight", None)
    if not isinstance(embedding, Tensor):
        raise SinkoriginError(
            f"model {name}: {type(model).__name__} has no matrix of token embeddings, from which the probe takes its tokens; "
            "choose another model"
        )
    vocabulary = getattr(model.config.get_text_config(decoder=True), "vocab_size", len(embedding))
    # in parts, so that no mask of the whole embedding is held
    parts = embedding.detach()[:vocabulary].split(4096)
    ordinary = torch.cat([part.isfinite().all(dim=1) for part in parts]).nonzero().flatten()
    if len(ordinary) < 2:
        raise SinkoriginError(
            f"model {name}: {len(ordinary)} of its {vocabulary} tokens have a finite embedding, and the probe needs 2; check "
            "the model's weights, or use dtype: float32"
        )
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(ordinary), _SHAPE, generator=generator)
    return ordinary[drawn.to(ordinary.device)].to(next(model.parameters()).device)


def _attention_modules(model: PreTrainedModel, ids: Tensor, name: str) -> tuple[list[nn.Module], bool]:
    """Modules that attend as the model runs on (N, T) ids, in order, and whether they are seen in their own eager attention.

    Those that call the attention function are taken, if they are all; else all that take a softmax over keys themselves.
    """
    kind = type(model).__name__
    refusal = None
    if getattr(model, "_supports_attention_backend", False):
        try:
            with torch.no_grad(), through_taps(model), witnessed() as attention, finding(model, ids.shape[1]) as others:
                _run(model, ids)
            if attention and {*others.attention, *others.fused} <= set(attention):
                return attention, False
        except Exception as error:  # the class's eager attention may still be seen
            refusal = _refusal(error, model, name)
    try:
        with torch.no_grad(), without_taps(model), finding(model, ids.shape[1]) as others:
            _run(model, ids)
    except Exception as error:
        raise refusal or _refusal(error, model, name) from error
    if others.attention and not others.fused:
        return others.attention, True
    if others.fused:
        raise refusal or SinkoriginError(
            f"model {name}: {kind} computes attention with PyTorch's fused function outside transformers' AttentionInterface, in which "
            "nothing can be seen; choose another model"
        )
    raise refusal or SinkoriginError(
        f"model {name}: {kind} takes its attention neither from transformers' AttentionInterface nor as a softmax in modules of "
        "its own, so no attention can be measured; choose a model class with softmax attention"
    )


def _refusal(error: Exception, model: PreTrainedModel, name: str) -> SinkoriginError:
    """The sentence for what a class raised that needs more than token ids, or another attention function."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):  # says nothing about the model class
        raise error
    if isinstance(error, SinkoriginError):  # from the attention function, which does not know the model's name
        return SinkoriginError(f"model {name}: {error}")
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return SinkoriginError(
        f"model {name}: {type(model).__name__} cannot be run on token ids alone through sinkorigin's attention function "
        f"({reason}); choose another model"
    )


def _check_sequences(
    model: PreTrainedModel, attention: dict[int, nn.Module], ids: Tensor, before: _Attention, name: str
) -> None:
    """Check that what is seen of the first sequence does not depend on the second, so that the axes are those of Tap."""
    taps = _Attention()
    with torch.no_grad(), tapped(model, attention, taps, eager=True):
        _run(model, torch.stack([ids[0], ids[0]]))
    for layer, aggregation in taps.aggregations.items():
        if not torch.allclose(aggregation[0], before.aggregations[layer][0], rtol=1e-3, atol=1e-5):
            raise SinkoriginError(
                f"model {name}: the attention of layer {layer} of {type(model).__name__} mixes sequences or orders its heads in "
                "another way than sinkorigin reads; choose another model"
            )


def _blocks(
    model: PreTrainedModel, attention: list[nn.Module], name: str
) -> tuple[list[nn.Module], dict[int, nn.Module]]:
    """Members of the module list whose every member holds at most one attention module, and layer → that module."""
    kind = type(model).__name__
    if len(attention) != len(set(attention)):
        raise SinkoriginError(
            f"model {name}: {kind} attends {len(attention)} times in a pass, by {len(set(attention))} modules in all; choose a "
            "model whose every layer attends once, with a module of its own"
        )
    several = False
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            held = [[one for one in attention if one in set(block.modules())] for block in module]
            if held and sum(map(len, held)) == len(attention):
                if max(map(len, held)) == 1:
                    return list(module), {layer: modules[0] for layer, modules in enumerate(held) if modules}
                several = True
    reason = (
        "a block of it holds several attention modules"
        if several
        else "it has no list of blocks that hold its attention"
    )
    raise SinkoriginError(
        f"model {name}: {kind} attends with {len(attention)} modules, and {reason}, so no residual stream between layers can be "
        "seen; choose another model"
    )


def _check_stream(
    block: nn.Module, attention: nn.Module | None, calls: list[Call], shape: torch.Size, where: str
) -> None:
    """Check that a block turns one (N, T, d) residual stream into the next, with its attention module in it.

    ``shape`` is (N, T), and ``where`` names the block in messages.
    """
    stream = next((call for call in calls if call.module is block), None)
    if not calls:
        raise SinkoriginError(f"{where} is not run on token ids alone; choose another model")
    if stream is None:
        raise SinkoriginError(f"{where} does not take and return a tensor of hidden states; choose another model")
    for hidden in (stream.input, stream.output):
        if hidden.shape[:-1] != shape:
            reason = "its blocks carry several residual streams" if hidden.ndim > 3 else "not one vector a token"
            raise SinkoriginError(
                f"{where} has hidden states of shape {tuple(hidden.shape)} for {shape[0]} sequences of {shape[1]} tokens: "
                f"{reason}; choose another model"
            )
    if stream.input.shape != stream.output.shape:
        raise SinkoriginError(
            f"{where} takes hidden states of width {stream.input.shape[-1]} and returns {stream.output.shape[-1]}, so no "
            "residual stream runs through it; choose another model"
        )
    if attention is not None and (block is attention or not any(call.module is attention for call in calls)):
        raise SinkoriginError(
            f"{where} has no attention module that takes and returns hidden states; choose another model"
        )
