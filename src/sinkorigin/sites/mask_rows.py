"""The attention mask of long prompts, made a block of queries at a time: as a whole it has as many numbers as the attention weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.masking_utils import eager_mask, sdpa_mask

from sinkorigin.errors import SinkoriginError
from sinkorigin.sites.batches import in_blocks


class Rows(NamedTuple):
    """What a block of queries sees."""

    keys: slice  # keys of which some query sees any
    mask: (
        Tensor | None
    )  # (N or 1, 1, b, s) to be added to the logits of the last s of these keys; None where all see all of them


@dataclass
class MaskRows:
    """Mask of one attention call, by rows.

    Attributes:
        tensor: the mask as transformers made it, (N or 1, 1, T, S), added to the logits; or None.
        arguments: those of transformers' mask function, of a mask that is too large to be made as a whole; or None.
    """

    tensor: Tensor | None = None
    arguments: Mapping[str, Any] | None = None
    _kept: dict[tuple[int, int], Rows] = field(
        default_factory=dict, repr=False
    )  # all layers of a pass have the same mask

    def __getattr__(self, name: str):
        # a model that computes with its mask expects a tensor, and only long prompts have none
        if name.startswith("__"):
            raise AttributeError(name)
        raise SinkoriginError(
            f"the model computes with its attention mask itself (it asks for its {name}), so it cannot be run on prompts as long as these, "
            "whose mask is made block by block; use prompts of at most 1024 tokens, or another model"
        )

    def __getitem__(self, place):
        return self.__getattr__("elements")

    @classmethod
    def of(cls, mask: "Tensor | MaskRows | None", keys: int) -> "MaskRows":
        """Rows of the mask that an attention function got, for so many keys."""
        if isinstance(mask, MaskRows):
            return mask
        return cls(None if mask is None else mask[..., :keys])

    @cached_property
    def whole(self) -> Tensor | None:
        """The mask of all queries, (N or 1, 1, T, S); made once for all layers."""
        return self.tensor if self.arguments is None else eager_mask(**self.arguments)

    def of_queries(self, queries: Sequence[int]) -> Tensor | None:
        """Rows of the mask of some queries, counted from the first that the call has: (N or 1, 1, queries, S)."""
        if self.arguments is None:
            return None if self.tensor is None else self.tensor[..., list(queries), :]
        return torch.cat([self._added(self._visible(query, query + 1)) for query in queries], dim=2)

    def rows(self, first: int, stop: int) -> Rows:
        """What the queries from ``first`` to before ``stop`` see."""
        if self.arguments is None:
            return Rows(slice(None), None if self.tensor is None else self.tensor[..., first:stop, :])
        if (first, stop) in self._kept:
            return self._kept[first, stop]
        visible = self._visible(first, stop)
        by_key = visible.flatten(0, 2)  # (N·b, S)
        some = by_key.any(0).nonzero()
        keys = slice(0, visible.shape[-1])
        if len(some) and by_key.any(1).all():  # a query that sees nothing spreads its attention over all keys
            keys = slice(int(some[0]), int(some[-1]) + 1)
        hidden = (~by_key[:, keys].all(0)).nonzero()
        found = Rows(keys, self._added(visible[..., keys][..., int(hidden[0]) :]) if len(hidden) else None)
        if found.mask is None or found.mask.shape[-1] <= 2 * (
            stop - first
        ):  # as of a causal mask, which has little to keep
            self._kept[first, stop] = found
        return found

    def _visible(self, first: int, stop: int) -> Tensor:
        """Whether queries see keys, (N or 1, 1, b, S)."""
        offset = self.arguments.get("q_offset", 0) + first
        queries = {"q_offset": offset, "q_length": stop - first, "allow_is_causal_skip": False}
        return sdpa_mask(**{**self.arguments, **queries})

    def _added(self, visible: Tensor) -> Tensor:
        """What is added to the logits, as transformers' eager mask has it."""
        dtype = self.arguments.get("dtype", torch.float32)
        zero = torch.zeros((), dtype=dtype, device=visible.device)
        return torch.where(visible, zero, torch.finfo(dtype).min)


def mask_of_rows(**arguments) -> Tensor | MaskRows:
    """Mask function in the form of transformers' ``AttentionMaskInterface``: the eager one's, or its rows for attention in blocks."""
    heads = getattr(arguments.get("config"), "num_attention_heads", None)
    sizes = (
        arguments["batch_size"],
        heads if isinstance(heads, int) else 1,
        arguments["q_length"],
        arguments["kv_length"],
    )
    return MaskRows(arguments=arguments) if in_blocks(*sizes) else eager_mask(**arguments)
