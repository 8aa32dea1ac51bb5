"""Parts of a decoder block, recognised by the data that flow through its modules in the probe.

W_O is the projection that receives the value aggregation. The contributions of attention and FFN are the module outputs
that add up to what the block adds to the residual stream, so that pre-norm and post-norm, parallel blocks, fused projections
and biases need no special case. A block may have no attention (a state-space layer), no FFN, something else beside them, or
norms through which the sums go (BERT).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor, nn

from sinkorigin.sites.modules import Place, Projection, has_matrix, is_projection, output_tensor
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
    scale: float = 1.0  # of what the block adds of the output to its residual stream

    @property
    def is_leaf(self) -> bool:
        """Whether the module has no children."""
        return not any(True for _ in self.module.children())

    def place(self, end: Literal["input", "output"]) -> Place:
        """Where the input or output of this call can be seen."""
        return Place(self.module, end, self.scale if end == "output" else 1.0)


Part = Call | Lacking


def tolerance(dtype: torch.dtype) -> float:
    """Largest relative difference that rounding in ``dtype`` explains."""
    return 1e-4 if dtype in (torch.float32, torch.float64) else 3e-2


def equal(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors hold the same numbers in the same order; some FFNs flatten sequences and positions."""
    return left.numel() == right.numel() and torch.equal(left.reshape(-1), right.reshape(-1))


def _within(call: Call, outer: Call) -> bool:
    """Whether a call is of the module of another, or of a module in it."""
    return call.name == outer.name or call.name.startswith(outer.name + ".")


@dataclass(frozen=True, eq=False)
class Sum:
    """How a block makes the next residual stream of the one that enters it.

    Attributes:
        attended, fed: calls whose outputs are what the attention and the FFN add.
        others: calls of what else adds its output: a state-space or linear-attention layer.
        norms: in a post-norm block, the norm of x + attention and that of its sum with the FFN's output; or the last one only.
    """

    attended: Part
    fed: Part
    others: tuple[Call, ...] = ()
    norms: tuple[Call, ...] = ()


@dataclass(eq=False)
class Block:
    """What the probe showed of one block, from which sites and matrices are read."""

    stream: Call  # of the block: the residual stream before and after it
    attention: Part  # of its attention module
    calls: list[Call]  # of the modules in the block, in order, without those that return their input
    aggregation: Tensor | None  # (N, T, H·d_k) value aggregation
    rows_sum_to_one: bool | None  # whether the attention weights of each query do; None without attention

    def in_attention(self, call: Call) -> bool:
        """Whether a call is that of the attention module or of a module in it."""
        return isinstance(self.attention, Call) and _within(call, self.attention)

    @cached_property
    def output(self) -> Part:
        """W_O: the projection that receives the value aggregation, in the attention module or after it."""
        if self.aggregation is None:
            assert isinstance(self.attention, Lacking)
            return self.attention
        received = [call for call in self.calls if is_projection(call.module) and equal(call.input, self.aggregation)]
        inside = [call for call in received if self.in_attention(call)]
        if received:
            return (inside or received)[0]
        return Lacking("no single matrix receives the value aggregation unchanged")

    @cached_property
    def _beside(self) -> list[Call]:
        """Calls outside the attention that make something as large as the residual stream."""
        size = self.stream.input.numel()
        return [call for call in self.calls if not self._attends(call) and call.output.numel() == size]

    def _attends(self, call: Call) -> bool:
        """Whether a call is of the attention, of W_O, or of a module that holds either."""
        ends = [part for part in (self.attention, self.output) if isinstance(part, Call)]
        return any(_within(call, end) or _within(end, call) for end in ends)

    @cached_property
    def _chain(self) -> list[Call]:
        """What the attention's output becomes: W_O's output, the module's own, then what these are passed through.

        The module's output may have passed a norm, or the residual stream been added to it (BLOOM); W_O may be behind it (BERT).
        """
        chain = [part for part in (self.output, self.attention) if isinstance(part, Call)]
        for call in self._beside:
            if not has_matrix(call.module) and any(equal(call.input, link.output) for link in chain):
                chain.append(call)
        return [call for call in chain if call.output.numel() == self.stream.input.numel()]

    @cached_property
    def sum(self) -> Sum | Lacking:
        """How the block makes the next residual stream."""
        before, after = self.stream.input, self.stream.output
        found = self._added(before, after)
        if found is not None:
            return found
        norms = [call for call in self._beside if not has_matrix(call.module)]
        for last in (call for call in norms if equal(call.output, after)):
            found = self._added(before, last.input)
            if found is not None:
                return replace(found, norms=(last,))
            for norm in (call for call in norms if call.order < last.order):
                first = self._best(norm.input, before, [(link,) for link in reversed(self._chain)])
                if first is not None:
                    second = self._best(
                        last.input, norm.output, [(call,) for call in self._beside if call.order > norm.order]
                    )
                    if second is not None:
                        return Sum(first[0], second[0], norms=(norm, last))
        return Lacking("what the block adds to its residual stream is not the sum of outputs of its modules")

    def _added(self, before: Tensor, after: Tensor) -> Sum | None:
        """The outputs that are the difference of two streams, or None.

        One output alone is taken where no second makes the sum better; of equal outputs (an MLP and its last projection) the
        later call, which is the outer module.
        """
        chain = list(reversed(self._chain))
        beside = [call for call in reversed(self._beside) if call not in chain]
        if isinstance(self.attention, Lacking):
            found = self._best(after, before, [*combinations(beside, 2), *((call,) for call in beside)])
            return None if found is None else self._told_apart(self.attention, found)
        pairs = [(first, second) for first in chain for second in beside]
        for groups, scaled in (([*pairs, *((first,) for first in chain)], False), (pairs, True)):
            found = self._best(after, before, groups, scaled=scaled)
            if found is not None:
                return Sum(found[0], found[1] if len(found) == 2 else Lacking("the layer has no FFN"))
        more = [(first, *two) for first in chain for two in combinations(beside, 2)]
        found = self._best(after, before, more)
        return None if found is None else self._told_apart(found[0], found[1:])

    def _told_apart(self, attended: Part, calls: tuple[Call, ...]) -> Sum:
        """The sum of these calls: the FFN is the one that makes of each position what depends on that position only."""
        fed = [call for call in calls if self._is_pointwise(call)]
        if len(fed) == 1:
            return Sum(attended, fed[0], tuple(call for call in calls if call is not fed[0]))
        reason = (
            "beside its attention the layer adds two outputs that may be its FFN's" if fed else "the layer has no FFN"
        )
        return Sum(attended, Lacking(reason), calls)

    def _best(
        self, after: Tensor, before: Tensor, groups: Iterable[tuple[Call, ...]], *, scaled: bool = False
    ) -> tuple[Call, ...] | None:
        """The first group of calls whose outputs are closest to the difference of two streams, if rounding explains the rest.

        Args:
            scaled: whether they may all be multiplied with one number, which the calls that are returned then have.
        """
        added = in_float64(after).reshape(-1) - in_float64(before).reshape(-1)
        largest = added.abs().max().clamp_min(1e-30)
        # what the sum itself rounds away, in dims where the residual stream is massive much more than is added
        magnitude = in_float64(torch.maximum(before.abs().reshape(-1), after.abs().reshape(-1)))
        rounding = 4 * torch.finfo(after.dtype).eps * magnitude
        best: tuple[float, float, tuple[Call, ...]] | None = None
        for group in groups:
            outputs = torch.stack([in_float64(call.output).reshape(-1) for call in group]).sum(dim=0)
            scale = (outputs.dot(added) / outputs.dot(outputs).clamp_min(1e-30)).item() if scaled else 1.0
            off = (added - scale * outputs).abs() - rounding
            error = (off.clamp_min(0).max() / largest).item()
            if best is None or error < best[0]:
                best = (error, scale, group)
        if best is None or best[0] > tolerance(after.dtype):
            return None
        return tuple(replace(call, scale=best[1]) for call in best[2]) if scaled else best[2]

    def _is_pointwise(self, call: Call) -> bool:
        """Whether a module makes of each position something that depends on that position only, as an FFN does."""
        try:
            with torch.no_grad():
                output = output_tensor(call.module(call.input.flip(-2)))
        except Exception:  # whatever a module raises that needs more than hidden states
            return False
        if output is None or output.shape != call.output.shape:
            return False
        off = (output.flip(-2) - call.output).abs().max()
        return bool(off <= tolerance(output.dtype) * call.output.abs().max())

    @property
    def attended(self) -> Part:
        """Call whose output is what the attention adds to the residual stream."""
        return self.sum if isinstance(self.sum, Lacking) else self.sum.attended

    @property
    def fed(self) -> Part:
        """Call whose output is what the FFN adds to the residual stream."""
        return self.sum if isinstance(self.sum, Lacking) else self.sum.fed

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
            return next(call for call in self._outside if has_matrix(call.module))
        return self.ffn

    @property
    def _outside(self) -> list[Call]:
        """Calls outside the attention and outside what else adds to the residual stream, in order."""
        others = () if isinstance(self.sum, Lacking) else self.sum.others
        return [
            call for call in self.calls if not self._attends(call) and not any(_within(call, one) for one in others)
        ]

    @cached_property
    def _ffn_calls(self) -> list[Call]:
        """Calls of modules of the FFN, in order."""
        ffn = self.ffn
        if isinstance(ffn, Lacking):
            return []
        if ffn.is_leaf:
            return self._outside
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
        rescaled = (
            isinstance(self.fed, Call) and self.fed is not self.ffn and not equal(self.fed.output, self.down.output)
        )
        if isinstance(self.fed, Call) and self.fed.scale != 1:
            return Lacking("the block scales what its FFN's neurons write")
        if rescaled or (isinstance(self.sum, Sum) and self.sum.norms):
            return Lacking("a norm after the FFN rescales what its neurons write")
        return None

    def norm(self) -> str | Lacking:
        """What normalises the residual stream for the attention, "RMSNorm" or "LayerNorm", by what a shifted input gives."""
        if isinstance(self.attention, Lacking):
            return self.attention
        attended = self.attention.input
        norm = next((c for c in self.calls if equal(c.input, self.stream.input) and equal(c.output, attended)), None)
        if norm is None:
            return Lacking("nothing normalises the residual stream before the attention reads it")
        try:
            with torch.no_grad():
                shifted = output_tensor(norm.module(norm.input + norm.input.abs().max()))
        except TypeError:
            shifted = None
        if shifted is None or shifted.shape != norm.output.shape:
            return Lacking("what normalises the residual stream before the attention reads more than that stream")
        # a LayerNorm subtracts the mean, so a constant added to every dim changes nothing
        centred = (shifted - norm.output).abs().max() < 0.01 * norm.output.abs().max()
        return "LayerNorm" if centred else "RMSNorm"
