"""Attention inside the forward methods of classes outside transformers' attention interface (BLOOM, Falcon, GPT-J, MPT).

Their attention modules compute softmax(logits) · value with PyTorch's own functions. While such a module runs, a function
mode stands between it and PyTorch: it hands the logits that enter the softmax, the weights, and the product of weights and
values to the taps, and what these return takes their place. The rest is the class's own code, so that without taps every
number is the class's own.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sinkorigin.errors import SinkoriginError
from sinkorigin.sites.modules import first_tensor, has_matrix
from sinkorigin.sites.tap import Tap

_SOFTMAX = {torch.softmax, nn.functional.softmax, Tensor.softmax}
# each with the places of its two factors among the arguments
_PRODUCTS = {
    torch.matmul: (0, 1), Tensor.matmul: (0, 1), Tensor.__matmul__: (0, 1), torch.bmm: (0, 1), Tensor.bmm: (0, 1),
    torch.baddbmm: (1, 2), Tensor.baddbmm: (1, 2),
}  # fmt: skip


class EagerAttention(TorchFunctionMode):
    """One call of an attention module: its softmax and the products before and after it.

    Args:
        name: of the module's class, for messages.
        sequences: N.
        taps: layer and tap, in order.
    """

    def __init__(self, name: str, sequences: int, taps: Sequence[tuple[int, Tap]]):
        super().__init__()
        self._name, self._sequences, self._taps = name, sequences, taps
        self._products: list[tuple[Tensor, Tensor, Tensor]] = []  # two factors and their product
        self._query: Tensor | None = None  # (N, H, T, d_k)
        self._key: Tensor | None = None  # (N, H, S, d_k)
        self._weights: Tensor | None = None  # (N, H, T, S), until the values are aggregated
        self.done = False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _SOFTMAX and self._is_attention(args):
            return self._softmax(func, args[0], args[1:], kwargs)
        if func in _PRODUCTS:
            return self._product(func, args, kwargs)
        return func(*args, **kwargs)

    def _is_attention(self, args: tuple) -> bool:
        """Whether a softmax is over keys: its input is the product of queries and keys, whatever was added."""
        return bool(args) and any(_sinks(args[0], product) is not None for *_, product in self._products)

    def _softmax(self, func, logits: Tensor, args: tuple, kwargs: dict) -> Tensor:
        made = [(left, right) for left, right, product in self._products if _sinks(logits, product) is not None]
        if self.done or self._weights is not None or len(made) != 1:
            raise SinkoriginError(
                f"{self._name} computes its attention with several products or softmaxes, and sinkorigin knows that of one "
                "query, key and value; choose another model"
            )
        left, right = made[0]
        queries, keys = left.shape[-2], right.shape[-1]
        sinks = logits.shape[-1] - keys
        heads = logits.numel() // (self._sequences * queries * (keys + sinks))
        self._query = left.reshape(self._sequences, heads, queries, -1)
        key = right.transpose(-1, -2).reshape(self._sequences, -1, keys, right.shape[-2])
        self._key = key.repeat_interleave(heads // key.shape[1], dim=1)
        shape = (self._sequences, heads, queries, keys)
        if self._taps:
            seen = edited = logits[..., :keys].reshape(shape)
            for layer, tap in self._taps:
                edited = tap.edit_logits(layer, edited, keys - queries)
            if edited is not seen:
                parts = [edited.reshape(*logits.shape[:-1], keys), logits[..., keys:]]
                logits = torch.cat(parts, dim=-1) if sinks else parts[0]
        weights = func(logits, *args, **kwargs)
        self._weights = weights[..., :keys].reshape(shape)
        return weights

    def _product(self, func, args: tuple, kwargs: dict) -> Tensor:
        left, right = (args[place] if place < len(args) else kwargs[f"batch{place}"] for place in _PRODUCTS[func])
        product = func(*args, **kwargs)
        weights = self._weights
        if weights is None or left.numel() != weights.numel() or left.shape[-1] != weights.shape[-1]:
            if product.ndim >= 3:
                self._products.append((left, right, product))
            return product
        seen = aggregation = product.reshape(*weights.shape[:3], -1)
        offset = weights.shape[3] - weights.shape[2]
        for layer, tap in self._taps:
            aggregation = tap.edit_aggregation(layer, aggregation, offset)
        for layer, tap in self._taps:
            tap.observe_values(layer, right.reshape(self._sequences, -1, *right.shape[-2:]))
            tap.observe_weights(layer, weights, 0, 0, 0)
            tap.observe(layer, self._query, self._key, weights, aggregation)
        self._weights, self._products, self.done = None, [], True
        # edits leave other strides, which a class that uses view cannot have
        return product if aggregation is seen else aggregation.reshape(product.shape).contiguous()


def _sinks(logits: Tensor, product: Tensor) -> int | None:
    """Number of learned sink logits beside a product of queries and keys, 0 or 1; None where the logits are of another."""
    if logits.shape[-2:-1] != product.shape[-2:-1]:
        return None
    sinks = logits.shape[-1] - product.shape[-1]
    same = product.numel() // product.shape[-1] == logits.numel() // logits.shape[-1]
    return sinks if same and sinks in (0, 1) else None


@contextmanager
def seen_eagerly(modules: Sequence[nn.Module], taps_of: Callable[[nn.Module], Sequence]) -> Iterator[None]:
    """Let the taps that ``taps_of(module)`` gives see and edit the attention of these modules inside the block; blocks nest."""
    replaced = []
    for module in modules:
        before = vars(module).get("forward")
        if getattr(before, "func", None) is _forward:  # an outer block has done it
            continue
        replaced.append((module, before))
        module.forward = partial(_forward, module, module.forward, taps_of)
    try:
        yield
    finally:
        for module, before in replaced:
            del module.forward
            if before is not None:
                module.forward = before


def _forward(module: nn.Module, forward: Callable, taps_of: Callable[[nn.Module], Sequence], *args, **kwargs):
    hidden = first_tensor(args, kwargs)
    taps = taps_of(module)
    if not taps or hidden is None:
        return forward(*args, **kwargs)
    name = type(module).__name__
    with EagerAttention(name, len(hidden), taps) as attention:
        output = forward(*args, **kwargs)
    if not attention.done:
        raise SinkoriginError(
            f"{name} attends in this pass in another way than in the probe, which nothing can see, as some classes do in long "
            "prompts; use shorter prompts, or another model"
        )
    return output


class _Finder(TorchFunctionMode):
    """Modules that take a softmax over the keys of every query, in order, and those that use PyTorch's fused attention."""

    def __init__(self, length: int, running: list[nn.Module]):
        super().__init__()
        self._length, self._running = length, running
        self.attention: list[nn.Module] = []
        self.fused: list[nn.Module] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in _SOFTMAX and args and args[0].ndim >= 3:
            queries, keys = args[0].shape[-2:]
            if queries == self._length and keys - queries in (0, 1):  # perhaps beside a learned sink logit
                self.attention.append(self._module())
        if func is nn.functional.scaled_dot_product_attention:
            self.fused.append(self._module())
        return func(*args, **(kwargs or {}))

    def _module(self) -> nn.Module:
        """The innermost running module that has a matrix: a softmax or dropout may be a module too."""
        return next((module for module in reversed(self._running) if has_matrix(module)), self._running[0])


@contextmanager
def finding(model: nn.Module, length: int) -> Iterator[_Finder]:
    """Note the modules that attend over ``length`` positions with PyTorch's own functions inside the block."""
    running: list[nn.Module] = []
    handles = []

    def begin(module, args):
        running.append(module)

    def end(module, args, output):
        running.pop()

    for module in model.modules():
        handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end, always_call=True)]
    try:
        with _Finder(length, running) as finder:
            yield finder
    finally:
        for handle in handles:
            handle.remove()
