"""Where the sites of a decoder are, for any Hugging Face causal language model, without code per model class.

A short probe runs through the model and the sites are recognised by the data that flows: the attention modules are
those that call the registered attention function, W_O is the projection that receives the value aggregation, the two
contributions of a block are the two module outputs that add up to what the block adds to the residual stream. So
pre-norm and post-norm, parallel blocks, fused projections and biases need no special case.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sinkorigin.attention import Tap, tapped, through_taps, witnessed
from sinkorigin.errors import SinkoriginError

# the sites that module inputs and outputs show; the others are seen by a tap of the attention function
MODULE_SITES = ("residual", "attention_input", "attention_output", "ffn_input", "ffn_activation", "ffn_output")
TAP_SITES = ("value_aggregation", "query", "key", "attention")

_PROBE = (2, 6)  # sequences, positions


@dataclass(frozen=True)
class Place:
    """One end of a module: its input or its output."""

    module: nn.Module
    end: str  # "input" or "output"


@dataclass(frozen=True)
class Architecture:
    """The sites of one model.

    Attributes:
        blocks: the decoder layers, in order; attention: each one's attention module.
        output_projections: W_O of each layer, or None where nothing receives the value aggregation unchanged.
        places: for each layer, site → where it can be seen.
        missing: for each layer, site → the reason why it cannot be seen.
    """

    model: PreTrainedModel
    blocks: list[nn.Module]
    attention: dict[int, nn.Module]
    output_projections: list[nn.Module | None]
    places: list[dict[str, Place]]
    missing: list[dict[str, str]] = field(default_factory=list)

    @property
    def layers(self) -> int:
        return len(self.blocks)

    @contextmanager
    def tapped(self, *taps: Tap) -> Iterator[None]:
        """Set attention taps on every layer for the block."""
        with tapped(self.model, self.attention, *taps):
            yield

    def forward(self, token_ids: Tensor) -> None:
        """Run the decoder without its language-model head, on (N, T) ids."""
        with torch.no_grad():
            self.model.base_model(input_ids=token_ids, use_cache=False)

    def require(self, sites, name: str) -> None:
        """Raise a SinkoriginError if one of ``sites`` cannot be seen in model ``name``."""
        for layer, missing in enumerate(self.missing):
            for site in sites:
                if site in missing:
                    raise SinkoriginError(
                        f"model {name}: site {site} is not there in layer {layer} ({missing[site]}); "
                        f"take {site} out of activations in the config"
                    )


def first_tensor(args, kwargs) -> Tensor | None:
    """The hidden states among a module's arguments: its first floating-point tensor, positional or named."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
    return None


def output_tensor(output) -> Tensor | None:
    """The hidden states among what a module returned: the tensor, or the first one of a tuple."""
    if isinstance(output, tuple | list):
        output = output[0] if output else None
    return output if isinstance(output, Tensor) and output.is_floating_point() else None


def _has_matrix(module: nn.Module) -> bool:
    return any(parameter.ndim >= 2 for parameter in module.parameters())


def _is_projection(module: nn.Module) -> bool:
    """Whether this is one matrix (a Linear or GPT-2's Conv1D), not a container and not a stack of experts."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 2 and not any(True for _ in module.children())


@dataclass
class _Call:
    name: str
    module: nn.Module
    order: int
    input: Tensor
    output: Tensor


class _Aggregations(Tap):
    def __init__(self):
        self.of: dict[int, Tensor] = {}

    def observe(self, layer, query, key, weights, aggregation):
        self.of[layer] = aggregation.transpose(1, 2).flatten(2)  # (N, T, H·d_k)


def _blocks_of(model: nn.Module, attention: list[nn.Module]) -> list[nn.Module]:
    """The module list whose i-th member holds the i-th attention module."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == len(attention):
            parts = [set(block.modules()) for block in module]
            if all(own in part for own, part in zip(attention, parts, strict=True)):
                return list(module)
    return []


def _same(left: Tensor, right: Tensor) -> bool:
    return left.numel() == right.numel() and torch.equal(left.reshape(-1), right.reshape(-1))


def _tolerance(dtype: torch.dtype) -> float:
    return 1e-4 if dtype in (torch.float32, torch.float64) else 3e-2


def _contributions(calls: list[_Call], inside: set[str], attention_call: _Call, before: Tensor, after: Tensor):
    """The calls whose outputs, added to ``before``, give ``after``: (attention's, FFN's), or None."""
    width = before.numel()
    # what the attention's output becomes: itself, then modules fed by it (post-norm, dropout)
    chain = [attention_call]
    for call in calls:
        no_projection = call.name not in inside and call.output.numel() == width and not _has_matrix(call.module)
        if no_projection and any(_same(call.input, link.output) for link in chain):
            chain.append(call)
    added = (after - before).double().reshape(-1)
    scale = added.abs().max().clamp_min(1e-30)
    best = None
    for first in reversed(chain):
        rest = added - first.output.double().reshape(-1)
        for second in calls:
            if second.name in inside or second in chain or second.output.numel() != width:
                continue
            error = ((rest - second.output.double().reshape(-1)).abs().max() / scale).item()
            # of equal outputs (an MLP and its last projection) the later call is the outer module
            if best is None or error < best[0] or (error == best[0] and second.order > best[2].order):
                best = (error, first, second)
    if best is None or best[0] > _tolerance(before.dtype):
        return None
    return best[1], best[2]


def _read_block(block: nn.Module, attention: nn.Module, calls: list[_Call], aggregation: Tensor):
    """Sites of one block from the calls of the probe: (places, missing, W_O)."""
    names = {id(module): name for name, module in block.named_modules()}
    attention_name = names[id(attention)]
    inside = {name for name in names.values() if name == attention_name or name.startswith(attention_name + ".")}
    own = next(call for call in calls if call.module is block)
    # a module that returns its input (dropout in evaluation) is no site, and one such module may serve twice
    calls = [call for call in calls if call.module is not block and not _same(call.input, call.output)]
    attention_call = next(call for call in calls if call.module is attention)
    places = {"residual": Place(block, "output"), "attention_input": Place(attention, "input")}
    missing: dict[str, str] = {}
    projection = next(
        (
            call.module
            for call in calls
            if call.name in inside and _is_projection(call.module) and _same(call.input, aggregation)
        ),
        None,
    )
    found = _contributions(calls, inside, attention_call, own.input, own.output)
    if found is None:
        reason = "the block does not add two module outputs to its residual stream"
        missing |= dict.fromkeys(("attention_output", "ffn_input", "ffn_activation", "ffn_output"), reason)
        return places, missing, projection
    attended, fed = found
    places["attention_output"] = Place(attended.module, "output")
    places["ffn_output"] = Place(fed.module, "output")
    core = fed
    while not _has_matrix(core.module):  # from a post-norm or dropout back to the FFN
        core = next(call for call in reversed(calls) if call.order < core.order and _same(call.output, core.input))
    leaf = not any(True for _ in core.module.children())
    if leaf:  # the FFN's projections are children of the block itself, as in OPT
        entry = next(call for call in calls if call.name not in inside and _has_matrix(call.module))
        places["ffn_input"] = Place(entry.module, "input")
    else:
        places["ffn_input"] = Place(core.module, "input")
    prefix = core.name + "."
    down = next(
        (
            call
            for call in reversed(calls)
            if (call is core if leaf else call.name.startswith(prefix))
            and _is_projection(call.module)
            and _same(call.output, core.output)
        ),
        None,
    )
    if down is None:
        missing["ffn_activation"] = "no single projection makes the FFN's output, as in a mixture of experts"
    else:
        places["ffn_activation"] = Place(down.module, "input")
    return places, missing, projection


def read_architecture(model: PreTrainedModel, name: str = "") -> Architecture:
    """Find the sites of ``model`` by probing it once with a few tokens.

    Raises:
        SinkoriginError: the model class does not take its attention from transformers' attention interface.
    """
    name = name or type(model).__name__
    config = model.config.get_text_config(decoder=True)
    embedding = model.get_input_embeddings().weight
    assert isinstance(embedding, Tensor)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(len(embedding), _PROBE, generator=generator).to(next(model.parameters()).device)
    unsupported = SinkoriginError(
        f"model {name}: {type(model).__name__} does not take its attention from transformers' AttentionInterface, "
        "so nothing between value aggregation and W_O can be seen; choose a model class that supports it"
    )
    if not getattr(model, "_supports_attention_backend", False):
        raise unsupported
    with torch.no_grad(), through_taps(model), witnessed() as attention:
        model.base_model(input_ids=ids, use_cache=False)
    blocks = _blocks_of(model, attention)
    if len(attention) != config.num_hidden_layers or not blocks:
        raise unsupported
    calls: list[list[_Call]] = [[] for _ in blocks]
    order = 0
    handles = []

    def recorder(layer: int, path: str):
        def record(module, args, kwargs, output):
            nonlocal order
            into, out = first_tensor(args, kwargs), output_tensor(output)
            if into is not None and out is not None:
                calls[layer].append(_Call(path, module, order, into.detach().clone(), out.detach().clone()))
                order += 1

        return record

    for layer, block in enumerate(blocks):
        for path, module in block.named_modules():
            handles.append(module.register_forward_hook(recorder(layer, path), with_kwargs=True))
    aggregations = _Aggregations()
    by_layer = dict(enumerate(attention))
    try:
        with torch.no_grad(), tapped(model, by_layer, aggregations):
            model.base_model(input_ids=ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    read = [
        _read_block(block, by_layer[layer], calls[layer], aggregations.of[layer]) for layer, block in enumerate(blocks)
    ]
    return Architecture(
        model=model,
        blocks=blocks,
        attention=by_layer,
        output_projections=[projection for _, _, projection in read],
        places=[places for places, _, _ in read],
        missing=[missing for _, missing, _ in read],
    )
