"""Where the sites of a decoder are, for any Hugging Face causal language model, without code per model class.

A short probe runs through the model and the sites are recognised by the data that flows: the attention modules are
those that call the registered attention function, W_O is the projection that receives the value aggregation, the two
contributions of a block are the two module outputs that add up to what the block adds to the residual stream. So
pre-norm and post-norm, parallel blocks, fused projections and biases need no special case.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sinkorigin.errors import SinkoriginError
from sinkorigin.sites.attention import Tap, tapped, through_taps, without_taps, witnessed

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
class Projection:
    """One matrix of the model, or, of a fused one, the part that makes outputs ``start`` to ``stop``."""

    module: nn.Module
    start: int = 0
    stop: int | None = None

    def weight(self) -> Tensor:
        """(outputs, inputs) float32 on the CPU, whatever layout and precision the module keeps."""
        weight = self.module.get_parameter("weight").detach()
        weight = weight.T if isinstance(self.module, Conv1D) else weight
        return weight[self.start : self.stop].to("cpu", torch.float32)


@dataclass(frozen=True)
class Architecture:
    """The sites of one model.

    Attributes:
        blocks: the decoder layers, in order; attention: each one's attention module.
        places: for each layer, site → where it can be seen.
        projections: for each layer, role → matrix: ``output`` (W_O), and ``gate``, ``up`` and ``down`` of the FFN. An FFN
            without a gate has no ``gate``; its first matrix is ``up``.
        rows_sum_to_one: for each layer, whether the attention weights of a query do (not those of sigmoid attention, of
            softmax-off-by-one, of softpick, or beside learned sink logits).
        norms: for each layer, what normalises the residual stream for the attention: "RMSNorm", "LayerNorm", or None.
        missing: for each layer, site or role or "norm" → the reason why there is none.
    """

    model: PreTrainedModel
    blocks: list[nn.Module]
    attention: dict[int, nn.Module]
    places: list[dict[str, Place]]
    projections: list[dict[str, Projection]]
    norms: list[str | None]
    rows_sum_to_one: list[bool]
    missing: list[dict[str, str]] = field(default_factory=list)

    @property
    def layers(self) -> int:
        return len(self.blocks)

    @contextmanager
    def tapped(self, *taps: Tap) -> Iterator[None]:
        """Set attention taps on every layer for the block."""
        with tapped(self.model, self.attention, *taps):
            yield

    @contextmanager
    def wrapped(self, wrap: Callable[[int, Callable], Callable]) -> Iterator[None]:
        """Let ``wrap(layer, forward)`` stand in for the forward method of every block inside the block."""
        own = [vars(block).get("forward") for block in self.blocks]  # set by who places a model on several devices
        for layer, block in enumerate(self.blocks):
            block.forward = wrap(layer, block.forward)
        try:
            yield
        finally:
            for block, before in zip(self.blocks, own, strict=True):
                del block.forward
                if before is not None:
                    block.forward = before

    def replica(self) -> "Architecture":
        """The same sites in a copy of the modules, for another thread to set hooks on; it shares all weights."""
        shared = (*self.model.parameters(), *self.model.buffers())
        return copy.deepcopy(self, {id(tensor): tensor for tensor in shared})

    def forward(self, token_ids: Tensor) -> Tensor:
        """Run the decoder without its language-model head, on (N, T) ids; return its (N, T, d) hidden states."""
        with torch.no_grad():
            return self.model.base_model(input_ids=token_ids, use_cache=False)[0]

    def check_own(self, token_ids: Tensor, name: str) -> None:
        """Run (N, T) ids with and without the attention function of the taps, and compare the last hidden states.

        The probe sees few tokens; a sliding window, chunks, or a selection of keys show only in prompts as long as those that
        are run. The cost is two forward passes of ``token_ids``. Where the hidden states of both are not finite nothing is
        compared: the caller's own check names the first site that is not.

        Raises:
            SinkoriginError: at some position the two differ by more than the model's precision explains.
        """
        with through_taps(self.model):
            tapped_states = self.forward(token_ids).double()
        with without_taps(self.model):
            own_states = self.forward(token_ids).double()
        if not (tapped_states.isfinite().all() or own_states.isfinite().all()):
            return
        norms = torch.linalg.vector_norm(own_states, dim=-1).clamp_min(1e-30)
        off = (torch.linalg.vector_norm(tapped_states - own_states, dim=-1) / norms).max().item()
        if not off <= _tolerance(self.model.dtype):
            half = self.model.dtype in (torch.bfloat16, torch.float16)
            remedy = "use dtype: float32, which rounds less, or another model" if half else "choose another model"
            raise SinkoriginError(
                f"model {name}: on a prompt of {token_ids.shape[1]} tokens {type(self.model).__name__} gives other hidden states "
                f"through sinkorigin's attention function than with its own eager attention (relative difference {off:.2g}), so "
                f"what would be measured is another model; {remedy}"
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


def replace_first_tensor(args: tuple, kwargs: dict, value: Tensor) -> tuple[tuple, dict]:
    """Arguments of a module with other hidden states: the counterpart of :func:`first_tensor`."""
    for i, own in enumerate(args):
        if isinstance(own, Tensor) and own.is_floating_point():
            return (*args[:i], value, *args[i + 1 :]), kwargs
    name = next(name for name, own in kwargs.items() if isinstance(own, Tensor) and own.is_floating_point())
    return args, {**kwargs, name: value}


def edit_place(place: Place, change: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Pass the hidden states at ``place`` through ``change`` in every forward pass, until the handle is removed."""
    if place.end == "input":

        def before(module, args, kwargs):
            value = first_tensor(args, kwargs)
            return None if value is None else replace_first_tensor(args, kwargs, change(value))

        return place.module.register_forward_pre_hook(before, with_kwargs=True)

    def after(module, args, output):
        value = output_tensor(output)
        if value is None:
            return output
        return (change(value), *output[1:]) if isinstance(output, tuple | list) else change(value)

    return place.module.register_forward_hook(after)


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
        self.rows_sum_to_one: dict[int, bool] = {}
        self.causal = True

    def observe(self, layer, query, key, weights, aggregation):
        sums = weights.double().sum(dim=-1)
        self.rows_sum_to_one[layer] = bool((sums - 1).abs().max() <= _tolerance(weights.dtype))
        self.causal &= not (weights.triu(1) > 0).any()
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
    added = (after.double() - before.double()).reshape(-1)
    scale = added.abs().max().clamp_min(1e-30)
    # what the sum itself rounds away, in dims where the residual stream is massive much more than is added
    rounding = 4 * torch.finfo(after.dtype).eps * torch.maximum(before.abs(), after.abs()).double().reshape(-1)
    best = None
    for first in reversed(chain):
        rest = added - first.output.double().reshape(-1)
        for second in calls:
            if second.name in inside or second in chain or second.output.numel() != width:
                continue
            off = (rest - second.output.double().reshape(-1)).abs() - rounding
            error = (off.clamp_min(0).max() / scale).item()
            # of equal outputs (an MLP and its last projection) the later call is the outer module
            if best is None or error < best[0] or (error == best[0] and second.order > best[2].order):
                best = (error, first, second)
    if best is None or best[0] > _tolerance(before.dtype):
        return None
    return best[1], best[2]


@dataclass
class _Block:
    """What the probe found in one block."""

    places: dict[str, Place]
    projections: dict[str, Projection] = field(default_factory=dict)
    norm: str | None = None
    missing: dict[str, str] = field(default_factory=dict)


_FFN_SITES = ("attention_output", "ffn_input", "ffn_activation", "ffn_output")
_FFN_ROLES = ("gate", "up", "down")


def _check_stream(own: _Call | None, shape: torch.Size, where: str) -> None:
    """Raise a SinkoriginError where a block's call does not turn one (N, T, d) residual stream into the next.

    Args:
        shape: (N, T).
        where: the block, for messages.
    """
    if own is None:
        raise SinkoriginError(f"{where} does not take and return a tensor of hidden states; choose another model")
    for stream in (own.input, own.output):
        if stream.shape[:-1] != shape:
            reason = "its blocks carry several residual streams" if stream.ndim > 3 else "not one vector a token"
            raise SinkoriginError(
                f"{where} has hidden states of shape {tuple(stream.shape)} for {shape[0]} sequences of {shape[1]} tokens: "
                f"{reason}; choose another model"
            )
    if own.input.shape != own.output.shape:
        raise SinkoriginError(
            f"{where} takes hidden states of width {own.input.shape[-1]} and returns {own.output.shape[-1]}, so no residual "
            "stream runs through it; choose another model"
        )


def _read_block(block: nn.Module, attention: nn.Module, calls: list[_Call], aggregation: Tensor) -> _Block:
    """Sites and matrices of one block from the calls of the probe."""
    names = {id(module): name for name, module in block.named_modules()}
    attention_name = names[id(attention)]
    inside = {name for name in names.values() if name == attention_name or name.startswith(attention_name + ".")}
    own = next(call for call in calls if call.module is block)
    attention_call = next(call for call in calls if call.module is attention)
    # a module that returns its input (dropout in evaluation) is no site, and one such module may serve twice
    calls = [call for call in calls if call.module is not block and not _same(call.input, call.output)]
    found = _Block({"residual": Place(block, "output"), "attention_input": Place(attention, "input")})
    _read_norm(found, own, calls, attention_call)
    projection = next(
        (
            call.module
            for call in calls
            if call.name in inside and _is_projection(call.module) and _same(call.input, aggregation)
        ),
        None,
    )
    if projection is None:
        found.missing["output"] = "no single matrix receives the value aggregation unchanged"
    else:
        found.projections["output"] = Projection(projection)
    contributions = _contributions(calls, inside, attention_call, own.input, own.output)
    if contributions is None:
        reason = "the block does not add two module outputs to its residual stream"
        found.missing |= dict.fromkeys((*_FFN_SITES, *_FFN_ROLES), reason)
        return found
    attended, fed = contributions
    found.places["attention_output"] = Place(attended.module, "output")
    found.places["ffn_output"] = Place(fed.module, "output")
    core: _Call | None = fed
    while not _has_matrix(core.module):  # from a post-norm or dropout back to the FFN
        before = (call for call in reversed(calls) if call.order < core.order and _same(call.output, core.input))
        core = next(before, None)
        if core is None:
            reason = "no module with a matrix makes the FFN's output"
            found.missing |= dict.fromkeys(("ffn_input", "ffn_activation", *_FFN_ROLES), reason)
            return found
    leaf = not any(True for _ in core.module.children())
    # the FFN's projections may be children of the block itself, as in OPT
    entry = next(call for call in calls if call.name not in inside and _has_matrix(call.module)) if leaf else core
    found.places["ffn_input"] = Place(entry.module, "input")
    prefix = core.name + "."
    ffn = (
        [call for call in calls if call.name not in inside] if leaf else [c for c in calls if c.name.startswith(prefix)]
    )
    down = next(
        (
            call
            for call in reversed(ffn)
            if (call is core or not leaf) and _is_projection(call.module) and _same(call.output, core.output)
        ),
        None,
    )
    if down is None:
        reason = "no single projection makes the FFN's output, as in a mixture of experts"
        found.missing |= dict.fromkeys(("ffn_activation", *_FFN_ROLES), reason)
        return found
    found.places["ffn_activation"] = Place(down.module, "input")
    found.projections["down"] = Projection(down.module)
    if fed is not core and not _same(fed.output, down.output):
        found.missing["contribution"] = "a norm after the FFN rescales what its neurons write"
    _read_neurons(found, ffn, entry, down)
    return found


def _read_norm(found: _Block, own: _Call, calls: list[_Call], attention_call: _Call) -> None:
    """What stands between the residual stream and the attention, told by what it does to a shifted input."""
    norm = next((c for c in calls if _same(c.input, own.input) and _same(c.output, attention_call.input)), None)
    if norm is None:
        found.missing["norm"] = "nothing normalises the residual stream before the attention reads it"
        return
    try:
        with torch.no_grad():
            shifted = norm.module(norm.input + norm.input.abs().max())
    except TypeError:
        found.missing["norm"] = "what normalises the residual stream before the attention reads more than that stream"
        return
    # a LayerNorm subtracts the mean, so a constant added to every dim changes nothing
    centred = (shifted - norm.output).abs().max() < 0.01 * norm.output.abs().max()
    found.norm = "LayerNorm" if centred else "RMSNorm"


def _read_neurons(found: _Block, ffn: list[_Call], entry: _Call, down: _Call) -> None:
    """The gate and up matrices: activation = act(gate) ⊙ up, or act(up) in an FFN without a gate."""
    width = down.input.shape[-1]
    activation = down.input.reshape(-1, width)
    parts: list[tuple[Projection, Tensor]] = []
    for call in ffn:
        if call is down or not _is_projection(call.module) or not _same(call.input, entry.input):
            continue
        output = call.output.reshape(-1, call.output.shape[-1])
        if output.shape[-1] in (width, 2 * width):
            for start in range(0, output.shape[-1], width):
                part = Projection(call.module, start, start + width)
                parts.append((part, output[:, start : start + width]))
    nonlinear = [call for call in ffn if not _has_matrix(call.module) and call.output.shape[-1] == width]
    for gate, before in parts:
        for call in nonlinear:
            if not _same(call.input, before):
                continue
            after = call.output.reshape(-1, width)
            if _same(after, activation):
                found.projections["up"] = gate
                found.missing["gate"] = "the FFN has no gate"
                return
            for up, linear in parts:
                product = after * linear
                if (
                    up is not gate
                    and (product - activation).abs().max() <= _tolerance(product.dtype) * product.abs().max()
                ):
                    found.projections |= {"gate": gate, "up": up}
                    return
    reason = "the FFN's activation is not act(gate) * up of modules that can be seen"
    found.missing |= dict.fromkeys(("gate", "up"), reason)


def _probe_ids(model: PreTrainedModel, name: str) -> Tensor:
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
    drawn = torch.randint(len(ordinary), _PROBE, generator=generator)
    return ordinary[drawn.to(ordinary.device)].to(next(model.parameters()).device)


def _attention_modules(model: PreTrainedModel, ids: Tensor, name: str) -> list[nn.Module]:
    """The modules that call the attention function as the model runs on (N, T) ids, in order.

    Raises:
        SinkoriginError: the model cannot be run so.
    """
    try:
        with torch.no_grad(), through_taps(model), witnessed() as attention:
            model.base_model(input_ids=ids, use_cache=False)
    except SinkoriginError as error:  # of the attention function, which does not know the model's name
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


def read_architecture(model: PreTrainedModel, name: str = "") -> Architecture:
    """Find the sites of ``model`` by probing it once with a few tokens.

    Raises:
        SinkoriginError: the sites cannot be found: the model class does not take the attention of every layer from
            transformers' attention interface, passes it what is not computed with here, lets queries see later keys, or
            carries several residual streams; or fewer than two tokens have a finite embedding.
    """
    name = name or type(model).__name__
    unsupported = SinkoriginError(
        f"model {name}: {type(model).__name__} does not take its attention from transformers' AttentionInterface, "
        "so nothing between value aggregation and W_O can be seen; choose a model class that supports it"
    )
    if not getattr(model, "_supports_attention_backend", False):
        raise unsupported
    ids = _probe_ids(model, name)
    attention = _attention_modules(model, ids, name)
    if not attention:
        raise unsupported
    layers = getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", len(attention))
    if not len(attention) == len(set(attention)) == layers:
        raise SinkoriginError(
            f"model {name}: the number of layers of {type(model).__name__} is {layers}, that of its calls of transformers' "
            f"AttentionInterface {len(attention)}, by {len(set(attention))} modules in all; choose a model whose every layer "
            "attends once, with a module of its own"
        )
    blocks = _blocks_of(model, attention)
    if not blocks:
        raise SinkoriginError(
            f"model {name}: {type(model).__name__} has no list of {layers} blocks of which each holds the attention of one "
            "layer, so no residual stream between them can be seen; choose another model"
        )
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
    for layer, block in enumerate(blocks):
        where = f"model {name}: block {layer} of {type(model).__name__}"
        _check_stream(next((call for call in calls[layer] if call.module is block), None), ids.shape, where)
        if block is by_layer[layer] or not any(call.module is by_layer[layer] for call in calls[layer]):
            raise SinkoriginError(
                f"{where} has no attention module that takes and returns hidden states; choose another model"
            )
    if not aggregations.causal:
        raise SinkoriginError(
            f"model {name}: {type(model).__name__} lets a token attend to later ones, but all that is measured is defined for "
            "causal attention; choose a causal model, or set is_decoder in its config.json where the class has it"
        )
    read = [
        _read_block(block, by_layer[layer], calls[layer], aggregations.of[layer]) for layer, block in enumerate(blocks)
    ]
    return Architecture(
        model=model,
        blocks=blocks,
        attention=by_layer,
        places=[block.places for block in read],
        projections=[block.projections for block in read],
        norms=[block.norm for block in read],
        rows_sum_to_one=[aggregations.rows_sum_to_one[layer] for layer in range(len(read))],
        missing=[block.missing for block in read],
    )
