"""Parts of a decoder block, recognised by the data that flow through its modules in the probe.

W_O is the projection that receives the value aggregation. The contributions of attention and FFN are the two module
outputs that add up to what the block adds to the residual stream, so that pre-norm and post-norm, parallel blocks, fused
projections and biases need no special case.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from sinkorigin.sites.modules import Place, Projection, has_matrix, is_projection
from sinkorigin.sites.precision import in_float64


@dataclass(frozen=True)
class Lacking:
    """Stands for a part that a block does not have, with the reason."""

    reason: str

    def place(self, end: str) -> "Lacking":
        return self


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a module in the probe, with the hidden states that it took and returned."""

    name: str  # of the module, within its block
    module: nn.Module
    order: int  # number of the call among those that ended in the block
    input: Tensor
    output: Tensor

    @property
    def is_leaf(self) -> bool:
        """Whether the module has no children."""
        return not any(True for _ in self.module.children())

    def place(self, end: Literal["input", "output"]) -> Place:
        """Where the input or output of this call can be seen."""
        return Place(self.module, end)


Part = Call | Lacking


def tolerance(dtype: torch.dtype) -> float:
    """Largest relative difference that rounding in ``dtype`` explains."""
    return 1e-4 if dtype in (torch.float32, torch.float64) else 3e-2


def equal(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors hold the same numbers in the same order; some FFNs flatten sequences and positions."""
    return left.numel() == right.numel() and torch.equal(left.reshape(-1), right.reshape(-1))


@dataclass(eq=False)
class Block:
    """What the probe showed of one block, from which sites and matrices are read."""

    stream: Call  # of the block: the residual stream before and after it
    attention: Call  # of its attention module
    calls: list[Call]  # of the modules in the block, in order, without those that return their input
    aggregation: Tensor  # (N, T, H·d_k) value aggregation
    rows_sum_to_one: bool  # whether the attention weights of each query do

    def in_attention(self, call: Call) -> bool:
        """Whether a call is that of the attention module or of a module in it."""
        return call.name == self.attention.name or call.name.startswith(self.attention.name + ".")

    @cached_property
    def output(self) -> Part:
        """W_O: the projection that receives the value aggregation."""
        for call in self.calls:
            if self.in_attention(call) and is_projection(call.module) and equal(call.input, self.aggregation):
                return call
        return Lacking("no single matrix receives the value aggregation unchanged")

    @cached_property
    def contributions(self) -> tuple[Part, Part]:
        """Calls whose outputs add up to what the block adds to the residual stream: the attention's and the FFN's."""
        before, after = self.stream.input, self.stream.output
        beside = [call for call in self.calls if not self.in_attention(call) and call.output.numel() == before.numel()]
        # what the attention's output becomes: itself, then modules that it is passed through (post-norm, dropout)
        chain = [self.attention]
        for call in beside:
            if not has_matrix(call.module) and any(equal(call.input, link.output) for link in chain):
                chain.append(call)
        added = (in_float64(after) - in_float64(before)).reshape(-1)
        scale = added.abs().max().clamp_min(1e-30)
        # what the sum itself rounds away, in dims where the residual stream is massive much more than is added
        rounding = 4 * torch.finfo(after.dtype).eps * in_float64(torch.maximum(before.abs(), after.abs())).reshape(-1)
        best: tuple[float, Call, Call] | None = None
        for first in reversed(chain):
            rest = added - in_float64(first.output).reshape(-1)
            for second in (call for call in beside if call not in chain):
                off = (rest - in_float64(second.output).reshape(-1)).abs() - rounding
                error = (off.clamp_min(0).max() / scale).item()
                # of equal outputs (an MLP and its last projection) the later call is the outer module
                if best is None or error < best[0] or (error == best[0] and second.order > best[2].order):
                    best = (error, first, second)
        if best is None or best[0] > tolerance(before.dtype):
            lacking = Lacking("the block does not add two module outputs to its residual stream")
            return lacking, lacking
        return best[1], best[2]

    @property
    def attended(self) -> Part:
        """Call whose output is what the attention adds to the residual stream."""
        return self.contributions[0]

    @property
    def fed(self) -> Part:
        """Call whose output is what the FFN adds to the residual stream."""
        return self.contributions[1]

    @cached_property
    def ffn(self) -> Part:
        """The FFN itself, found from its contribution backwards through a post-norm or dropout."""
        core = self.fed
        while isinstance(core, Call) and not has_matrix(core.module):
            earlier = [call for call in self.calls if call.order < core.order and equal(call.output, core.input)]
            core = earlier[-1] if earlier else Lacking("no module with a matrix makes the FFN's output")
        return core

    @cached_property
    def ffn_entry(self) -> Part:
        """Call whose input is what the FFN receives."""
        # the FFN's projections may be children of the block itself, as in OPT, so that the last one stands for it
        if isinstance(self.ffn, Call) and self.ffn.is_leaf:
            return next(call for call in self.calls if not self.in_attention(call) and has_matrix(call.module))
        return self.ffn

    @cached_property
    def _ffn_calls(self) -> list[Call]:
        """Calls of modules of the FFN, in order."""
        ffn = self.ffn
        if isinstance(ffn, Lacking):
            return []
        if ffn.is_leaf:
            return [call for call in self.calls if not self.in_attention(call)]
        return [call for call in self.calls if call.name.startswith(ffn.name + ".")]

    @cached_property
    def down(self) -> Part:
        """The down-projection: the last matrix of the FFN."""
        ffn = self.ffn
        if isinstance(ffn, Lacking):
            return ffn
        for call in reversed(self._ffn_calls):
            if is_projection(call.module) and equal(call.output, ffn.output):
                return call
        return Lacking("no single projection makes the FFN's output, as in a mixture of experts")

    def matrices(self) -> dict[str, Projection | Lacking]:
        """``output`` (W_O), and ``gate``, ``up`` and ``down`` of the FFN: each role's matrix, or why there is none."""
        output, down = (
            part if isinstance(part, Lacking) else Projection(part.module) for part in (self.output, self.down)
        )
        gate, up = self._gate_and_up()
        return {"output": output, "down": down, "gate": gate, "up": up}

    def _gate_and_up(self) -> tuple[Projection | Lacking, Projection | Lacking]:
        """Matrices with activation = act(gate) ⊙ up, or act(up) in an FFN without a gate."""
        if isinstance(self.down, Lacking):
            return self.down, self.down
        width = self.down.input.shape[-1]
        activation = self.down.input.reshape(-1, width)
        parts = self._entry_parts(width)
        nonlinear = [call for call in self._ffn_calls if not has_matrix(call.module) and call.output.shape[-1] == width]
        for gate, before in parts:
            for call in nonlinear:
                if not equal(call.input, before):
                    continue
                after = call.output.reshape(-1, width)
                if equal(after, activation):
                    return Lacking("the FFN has no gate"), gate
                for up, linear in parts:
                    product = after * linear
                    off = (product - activation).abs().max()
                    if up is not gate and off <= tolerance(product.dtype) * product.abs().max():
                        return gate, up
        lacking = Lacking("the FFN's activation is not act(gate) * up of modules that can be seen")
        return lacking, lacking

    def _entry_parts(self, width: int) -> list[tuple[Projection, Tensor]]:
        """Matrices that the FFN's input goes into, a fused one in its two parts, each with its (N·T, width) output."""
        entry = self.ffn_entry
        assert isinstance(entry, Call)  # the down-projection was found within it
        parts = []
        for call in self._ffn_calls:
            if call is self.down or not is_projection(call.module) or not equal(call.input, entry.input):
                continue
            output = call.output.reshape(-1, call.output.shape[-1])
            if output.shape[-1] in (width, 2 * width):
                for start in range(0, output.shape[-1], width):
                    stop = start + width
                    parts.append((Projection(call.module, start, stop), output[:, start:stop]))
        return parts

    def contribution(self) -> Lacking | None:
        """Reason why the FFN's neurons do not write their down weights to the residual stream; None where they do."""
        if isinstance(self.down, Lacking):
            return self.down
        if isinstance(self.fed, Call) and self.fed is not self.ffn and not equal(self.fed.output, self.down.output):
            return Lacking("a norm after the FFN rescales what its neurons write")
        return None

    def norm(self) -> str | Lacking:
        """What normalises the residual stream for the attention, "RMSNorm" or "LayerNorm", by what a shifted input gives."""
        norm = next(
            (c for c in self.calls if equal(c.input, self.stream.input) and equal(c.output, self.attention.input)), None
        )
        if norm is None:
            return Lacking("nothing normalises the residual stream before the attention reads it")
        try:
            with torch.no_grad():
                shifted = norm.module(norm.input + norm.input.abs().max())
        except TypeError:
            return Lacking("what normalises the residual stream before the attention reads more than that stream")
        # a LayerNorm subtracts the mean, so a constant added to every dim changes nothing
        centred = (shifted - norm.output).abs().max() < 0.01 * norm.output.abs().max()
        return "LayerNorm" if centred else "RMSNorm"
