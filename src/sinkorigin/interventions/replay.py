"""Edited passes that compute only what an edit can change.

In a causal model an edit at layer l and position p changes nothing in the layers below l, and nothing at positions before
p. One unedited pass of a batch keeps the keys and values of every layer and the residual stream at the layers where edits
begin; an edited pass then starts at layer l with the tokens from p on, and reads the rest from what was kept. In layer l
itself only the edited positions change, because the keys and values there do not; and in the last layer, where no logits are
wanted, only the attention and the edited positions are of interest.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, DynamicLayer, PreTrainedModel
from transformers.cache_utils import DynamicSlidingWindowLayer

from sinkorigin.interventions.kind import Edit
from sinkorigin.sites.architecture import Architecture
from sinkorigin.sites.attention import Tap
from sinkorigin.sites.modules import first_tensor, output_tensor, replace_first_tensor


class Reached(Exception):
    """Ends a forward pass whose rest is not needed."""


@dataclass(frozen=True)
class Unedited:
    """What the unedited pass of one batch leaves for edited ones.

    Attributes:
        token_ids: (N, T).
        keys, values: for each layer that was run, (N, H_kv, T, d_k).
        residuals: layer → (N, T, d) residual stream that enters it.
        rest: layer → what its block returns beside the residual stream, where it returns a tuple.
    """

    token_ids: Tensor
    keys: list[Tensor]
    values: list[Tensor]
    residuals: dict[int, Tensor]
    rest: dict[int, tuple]


class _Stop(Tap):
    """Ends the pass when the attention of a layer has been seen."""

    def __init__(self, layer: int):
        self._layer = layer

    def observe(self, layer, query, key, weights, aggregation):
        if layer == self._layer:
            raise Reached


class Replay:
    """Runs a model from the first edited layer and position on; see this module's text.

    Use inside ``with replay.active():``, which passes the blocks' forward methods through this object.

    Attributes:
        exact: whether partial passes can give what full ones give, and :meth:`check` found that they do; if not, full ones
            are run.
    """

    def __init__(self, architecture: Architecture, *, exact: bool = True):
        self.architecture = architecture
        attends = len(architecture.attention) == architecture.layers
        self.exact = exact and attends and _keeps_only_keys_and_values(architecture.model, architecture.layers)
        self._entries: Collection[int] = ()
        self._residuals: dict[int, Tensor] = {}
        self._rest: dict[int, tuple] = {}  # what a block returns beside the hidden states
        self._start = 0
        self._stop: int | None = None
        self._enter: Tensor | None = None
        self._leave: Tensor | None = None
        self._last: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.architecture.model.parameters()).device

    @property
    def last(self) -> Tensor:
        """The (N, Q, d) residual stream that left the last layer in the latest pass, which was run to its end."""
        assert self._last is not None
        return self._last

    def computes(self, layer: int) -> bool:
        """Whether the running pass computes a layer, or leaves it out because it begins above."""
        return layer >= self._start

    @contextmanager
    def active(self) -> Iterator[None]:
        """Pass the blocks through this object inside the block."""
        with self.architecture.wrapped(self._forward):
            yield

    def _forward(self, layer: int, original: Callable) -> Callable:
        def forward(*args, **kwargs):
            if layer < self._start:
                value = first_tensor(args, kwargs)
                if self._leave is not None and layer == self.architecture.layers - 1:
                    value = self._leave
                return (value, *self._rest[layer]) if layer in self._rest else value
            if layer == self._start and self._enter is not None:
                args, kwargs = replace_first_tensor(args, kwargs, self._enter)
            if layer in self._entries:
                value = first_tensor(args, kwargs)
                assert value is not None
                self._residuals[layer] = value
            # only now, because the hooks of the block before are to see its output
            if self._stop is not None and layer > self._stop:
                raise Reached
            output = original(*args, **kwargs)
            if isinstance(output, tuple | list):
                self._rest[layer] = tuple(output[1:])
            if layer == len(self.architecture.blocks) - 1:
                self._last = output_tensor(output)
            return output

        return forward

    def _run(self, token_ids: Tensor, cache: DynamicCache | None) -> None:
        with torch.no_grad(), suppress(Reached):
            self.architecture.model.base_model(input_ids=token_ids, past_key_values=cache, use_cache=cache is not None)

    def logits(self, token_ids: Tensor, last: Tensor) -> Tensor:
        """Logits (n, q, V) that the final norm and the language-model head make of some of what left the last layer.

        Args:
            token_ids: (n, q) ids of these positions.
            last: (n, q, d) residual stream that leaves the last layer there.
        """
        self._start, self._leave = self.architecture.layers, last
        try:
            with torch.no_grad():
                return self.architecture.model(input_ids=token_ids, use_cache=False).logits
        finally:
            self._start, self._leave = 0, None

    def unedited(self, token_ids: Tensor, *, entries: Collection[int] = (), stop: int | None = None) -> Unedited:
        """Run (N, T) ids and keep what edited passes need.

        Args:
            entries: layers at which edited passes will begin.
            stop: last layer to run, or None for all.
        """
        self._entries, self._residuals, self._rest = entries, {}, {}
        self._start, self._stop, self._enter = 0, stop, None
        # without a config its layers keep every position, also those beyond a sliding window
        cache = DynamicCache() if self.exact else None
        self._run(token_ids, cache)
        self._entries = ()
        kept = [layer for layer in (() if cache is None else cache.layers) if isinstance(layer, DynamicLayer)]
        return Unedited(
            token_ids,
            [layer.keys for layer in kept],
            [layer.values for layer in kept],
            self._residuals,
            self._rest,
        )

    def begin(self, edit: Edit) -> tuple[int, int]:
        """Layer and position from which a pass with this edit is run."""
        return (min(edit.layers), edit.positions[0]) if self.exact else (0, 0)

    def edited(
        self,
        unedited: Unedited,
        *,
        layer: int,
        position: int,
        upto: int | None = None,
        stop: int | None = None,
        enter: Tensor | None = None,
    ) -> None:
        """Run again what an edit that begins at ``layer`` and ``position`` can change; the edit is set by the caller.

        Args:
            layer: one of ``entries`` of the unedited pass, or 0.
            position: first position; both as :meth:`begin` gives them.
            upto: end of the positions that are run, by default T.
            stop: last layer to run, or None for all.
            enter: residual that enters the layer from the first position on, if not the unedited one.
        """
        cache = DynamicCache() if self.exact else None
        if cache is not None and position:
            for number, (keys, values) in enumerate(zip(unedited.keys, unedited.values, strict=True)):
                # the mask and the positions are derived from the length of the first layer, so it is filled even if skipped
                if number == 0 or number >= layer:
                    cache.update(keys[:, :, :position], values[:, :, :position], number)
                else:
                    cache.update(keys[:, :, :0], values[:, :, :0], number)
        self._start, self._stop, self._rest = layer, stop, dict(unedited.rest)
        self._enter = (
            enter if enter is not None or not layer else unedited.residuals[layer][:, position:upto].contiguous()
        )
        try:
            self._run(unedited.token_ids[:, position:upto], cache)
        finally:
            self._start, self._stop, self._enter = 0, None, None

    def edited_rows(
        self, unedited: Unedited, *, layer: int, first: int, last: int, enter: Tensor | None = None
    ) -> Tensor | None:
        """Run one layer for the positions first … last.

        Args:
            enter: the (N, T − first, d) residual that enters the layer from ``first`` on, if not the unedited one.

        Returns:
            The (N, last − first + 1, d) residual that leaves it; None where it is the last layer.
        """
        self._entries, self._residuals = {layer + 1}, {}
        enter = None if enter is None else enter[:, : last + 1 - first]
        self.edited(unedited, layer=layer, position=first, upto=last + 1, stop=layer, enter=enter)
        self._entries = ()
        return self._residuals.get(layer + 1)

    def edited_attention(self, unedited: Unedited, *, layer: int, first: int, rows: Tensor) -> Tensor:
        """Run from ``layer`` on until the attention of the last layer has been seen.

        Args:
            layer: its entering residual, which the unedited pass kept, has other ``rows`` (N, R, d) from ``first`` on.

        Returns:
            The (N, T − first, d) residual that enters the last layer.
        """
        last = len(self.architecture.blocks) - 1
        self._entries, self._residuals = {last}, {}
        with self.architecture.tapped(_Stop(last)):
            self.edited(unedited, layer=layer, position=first, enter=_with_rows(unedited, layer, first, rows))
        self._entries = ()
        return self._residuals[last]

    def edited_to_end(self, unedited: Unedited, *, layer: int, first: int, rows: Tensor) -> None:
        """Run from ``layer`` on to the end, see :meth:`edited_attention`."""
        self.edited(unedited, layer=layer, position=first, enter=_with_rows(unedited, layer, first, rows))

    def check(self, token_ids: Tensor, *, layer: int, position: int) -> bool:
        """Try on (N, T) ids whether a partial pass without an edit ends where the full one does.

        Every decoder that keeps its keys and values in transformers' cache passes; one that carries other state from
        position to position does not, and is then run in full.
        """
        if not self.exact:
            return False
        unedited = self.unedited(token_ids, entries={layer})
        whole = self._last
        self.edited(unedited, layer=layer, position=position)
        part = self._last
        assert whole is not None and part is not None
        whole = whole[:, position:].float()
        tolerance = 1e-4 if part.dtype in (torch.float32, torch.float64) else 5e-2
        off = torch.linalg.vector_norm(part.float() - whole) / torch.linalg.vector_norm(whole).clamp_min(1e-30)
        self.exact = bool(off < tolerance)
        return self.exact


def _keeps_only_keys_and_values(model: PreTrainedModel, depth: int) -> bool:
    """Whether the model's cache holds the keys and values of each of its layers and nothing else.

    Layers that read those of another layer (Gemma 4) need that layer to run, and a cache of other state (the convolution of
    Zaya) cannot be filled from keys and values.
    """
    layers = DynamicCache(config=model.config).layers
    return len(layers) == depth and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def _with_rows(unedited: Unedited, layer: int, first: int, rows: Tensor) -> Tensor:
    """The residual that enters ``layer`` from ``first`` on, (N, T − first, d), with other first rows (N, R, d)."""
    return torch.cat([rows, unedited.residuals[layer][:, first + rows.shape[1] :]], dim=1)
