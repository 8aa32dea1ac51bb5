"""Sums over the attention weights of one layer that its tables are made of, taken block by block, so that no T × T matrix is needed."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class _Heads:
    """Sums of the weights A[q, k] of some heads, (n, h, T) each."""

    columns: Tensor  # for each key k: over queries of A[q, k]
    itself: Tensor  # for each key k: A[k, k]

    @classmethod
    def zeros(cls, *shape: int, device: torch.device) -> "_Heads":
        return cls(torch.zeros(shape, device=device), torch.zeros(shape, device=device))

    def add(self, weights: Tensor, query: int, key: int) -> None:
        """Add (n, h, b, s) float32 weights from these queries and keys on."""
        self.columns[..., key : key + weights.shape[-1]] += weights.sum(dim=-2)
        diagonal = weights.diagonal(offset=query - key, dim1=-2, dim2=-1)
        self.itself[..., query : query + diagonal.shape[-1]] = diagonal


@dataclass
class _Block:
    """What is kept of some heads."""

    weights: _Heads  # of the weights as they are
    normalised: _Heads | None  # of each row divided by its sum; None where rows sum to one
    on_first: Tensor  # (n, h, T) A[q, 0]
    on_first_normalised: Tensor | None  # the same of rows divided by their sum
    largest: Tensor  # (n, h) number of queries q >= 1 with A[q, 0] > A[q, k] for every other key k


@dataclass
class AttentionSums:
    """Sums of the attention weights of one layer in one batch.

    Attributes:
        length: T.
        rows_sum_to_one: whether the weights of a query do, so that nothing is kept of rows divided by their sum.
    """

    length: int
    rows_sum_to_one: bool
    _blocks: dict[int, _Block] = field(default_factory=dict)  # by their first head

    def add(self, weights: Tensor, head: int, query: int, key: int) -> None:
        """Take the weights (n, h, b, s) of these heads, queries and keys, given by their first numbers (see ``Tap.observe_weights``)."""
        weights = weights.detach().float()
        if head not in self._blocks:
            self._blocks[head] = self._empty(weights)
        block = self._blocks[head]
        queries = slice(query, query + weights.shape[2])
        block.weights.add(weights, query, key)
        if key == 0:
            on_first, others = weights[..., 0], weights[..., 1:]
        else:
            on_first, others = torch.zeros_like(weights[..., 0]), weights
        block.on_first[..., queries] = on_first
        # equal weights lie on no key in particular: a head that spreads its attention evenly has no row with its largest at 0
        elsewhere = others.amax(dim=-1) if others.shape[-1] else torch.zeros_like(on_first)
        more = on_first > elsewhere  # (n, h, b)
        block.largest += (more[..., 1:] if query == 0 else more).sum(dim=-1)
        if block.normalised is not None and block.on_first_normalised is not None:
            shares = normalised_rows(weights)
            block.normalised.add(shares, query, key)
            if key == 0:
                block.on_first_normalised[..., queries] = shares[..., 0]

    def _empty(self, weights: Tensor) -> _Block:
        shape, device = (*weights.shape[:2], self.length), weights.device
        rows = torch.zeros(shape, device=device)
        return _Block(
            _Heads.zeros(*shape, device=device),
            None if self.rows_sum_to_one else _Heads.zeros(*shape, device=device),
            rows,
            None if self.rows_sum_to_one else torch.zeros_like(rows),
            torch.zeros(shape[:2], dtype=torch.int32, device=device),
        )

    def _of_all_heads(self, part) -> Tensor:
        return torch.cat([part(block) for _, block in sorted(self._blocks.items())], dim=1).cpu()

    @property
    def columns(self) -> Tensor:
        """(n, H, T) sum over queries q of A[q, k], for every key k."""
        return self._of_all_heads(lambda block: block.weights.columns)

    @property
    def itself(self) -> Tensor:
        """(n, H, T) A[k, k]."""
        return self._of_all_heads(lambda block: block.weights.itself)

    @property
    def normalised_columns(self) -> Tensor:
        """``columns`` of rows divided by their sum."""
        return self._of_all_heads(lambda block: block.normalised.columns)

    @property
    def normalised_itself(self) -> Tensor:
        """``itself`` of rows divided by their sum."""
        return self._of_all_heads(lambda block: block.normalised.itself)

    @property
    def on_first(self) -> Tensor:
        """(n, H, T) weight A[q, 0] of every query q on position 0."""
        return self._of_all_heads(lambda block: block.on_first)

    @property
    def on_first_normalised(self) -> Tensor:
        """``on_first`` of rows divided by their sum."""
        return self._of_all_heads(lambda block: block.on_first_normalised)

    @property
    def largest(self) -> Tensor:
        """(n, H) number of queries q at positions >= 1 with A[q, 0] > A[q, k] for every other key k."""
        return self._of_all_heads(lambda block: block.largest)


def normalised_rows(weights: Tensor) -> Tensor:
    """Attention weights (N, H, T, S) with each row divided by its sum; a row of zeros stays one."""
    sums = weights.sum(dim=-1, keepdim=True)
    return weights / sums.masked_fill(sums == 0, 1)
