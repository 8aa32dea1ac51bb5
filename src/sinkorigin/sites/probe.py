"""A forward pass over a few random tokens that shows which module makes what, whatever the class of the model."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sinkorigin.errors import SinkoriginError
from sinkorigin.sites.attention import Tap, tapped, through_taps, witnessed
from sinkorigin.sites.block import Block, Call, equal, tolerance
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


def probe_blocks(model: PreTrainedModel, name: str) -> list[Block]:
    """Run ``model`` on a few tokens and record what the modules of each block make of them.

    Raises:
        SinkoriginError: the class is not supported; see :func:`sinkorigin.sites.architecture.read_architecture`.
    """
    kind = type(model).__name__
    unsupported = SinkoriginError(
        f"model {name}: {kind} does not take its attention from transformers' AttentionInterface, "
        "so nothing between value aggregation and W_O can be seen; choose a model class that supports it"
    )
    if not getattr(model, "_supports_attention_backend", False):
        raise unsupported
    ids = _token_ids(model, name)
    attention = _attention_modules(model, ids, name)
    if not attention:
        raise unsupported
    blocks = _blocks(model, attention, name)
    taps = _Attention()
    with torch.no_grad(), _recorded(blocks) as calls, tapped(model, dict(enumerate(attention)), taps):
        model.base_model(input_ids=ids, use_cache=False)
    for layer, block in enumerate(blocks):
        _check_stream(block, attention[layer], calls[layer], ids.shape, f"model {name}: block {layer} of {kind}")
    if not taps.causal:
        raise SinkoriginError(
            f"model {name}: {kind} lets a token attend to later ones, but all that is measured is defined for "
            "causal attention; choose a causal model, or set is_decoder in its config.json where the class has it"
        )
    return [
        Block(
            stream=next(call for call in calls[layer] if call.module is block),
            attention=next(call for call in calls[layer] if call.module is attention[layer]),
            # a module that returns its input (dropout in evaluation) is no site, and one such module may serve twice
            calls=[call for call in calls[layer] if call.module is not block and not equal(call.input, call.output)],
            aggregation=taps.aggregations[layer],
            rows_sum_to_one=taps.rows_sum_to_one[layer],
        )
        for layer, block in enumerate(blocks)
    ]


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


def _attention_modules(model: PreTrainedModel, ids: Tensor, name: str) -> list[nn.Module]:
    """Modules that call the attention function as the model runs on (N, T) ids, in order."""
    try:
        with torch.no_grad(), through_taps(model), witnessed() as attention:
            model.base_model(input_ids=ids, use_cache=False)
    except SinkoriginError as error:  # from the attention function, which does not know the model's name
        raise SinkoriginError(f"model {name}: {error}") from error
    except (MemoryError, torch.OutOfMemoryError):  # says nothing about the model class
        raise
    except Exception as error:  # whatever a class raises that needs more than token ids, or another attention function
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise SinkoriginError(
            f"model {name}: {type(model).__name__} cannot be run on token ids alone through sinkorigin's attention function "
            f"({reason}); choose another model"
        ) from error
    return attention


def _blocks(model: PreTrainedModel, attention: list[nn.Module], name: str) -> list[nn.Module]:
    """Members of the module list whose i-th member holds the i-th attention module, each layer with a module of its own."""
    kind = type(model).__name__
    layers = getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", len(attention))
    if not len(attention) == len(set(attention)) == layers:
        raise SinkoriginError(
            f"model {name}: the number of layers of {kind} is {layers}, that of its calls of transformers' "
            f"AttentionInterface {len(attention)}, by {len(set(attention))} modules in all; choose a model whose every layer "
            "attends once, with a module of its own"
        )
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            parts = [set(block.modules()) for block in module]
            if all(attending in part for attending, part in zip(attention, parts, strict=True)):
                return list(module)
    raise SinkoriginError(
        f"model {name}: {kind} has no list of {layers} blocks of which each holds the attention of one "
        "layer, so no residual stream between them can be seen; choose another model"
    )


def _check_stream(block: nn.Module, attention: nn.Module, calls: list[Call], shape: torch.Size, where: str) -> None:
    """Check that a block turns one (N, T, d) residual stream into the next, with an attention module in it.

    ``shape`` is (N, T), and ``where`` names the block in messages.
    """
    stream = next((call for call in calls if call.module is block), None)
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
    if block is attention or not any(call.module is attention for call in calls):
        raise SinkoriginError(
            f"{where} has no attention module that takes and returns hidden states; choose another model"
        )
