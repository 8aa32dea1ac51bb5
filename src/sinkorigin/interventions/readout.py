"""What a pass shows: attention on the targets and on every other position, and the residual and keys of the targets."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from sinkorigin.interventions.replay import Replay
from sinkorigin.sites.attention import Tap
from sinkorigin.sites.modules import output_tensor
from sinkorigin.sites.precision import in_float64


@dataclass(frozen=True)
class Shown:
    """What one pass of one batch shows, of all L layers or of the A layers that have attention.

    Attributes:
        targets: positions at which scores, norms and keys are read.
        attending: the A layers.
        scores: (N, A, H, targets) mean weight on each target over later queries.
        firsts: (N, A, H) mean weight on position 0 over later queries.
        columns: (A, T) float64 weight on each position, summed over later queries, heads and sequences.
        norms, ratios: (N, L, targets) norm and dominance ratio of the residual leaving a layer.
        cosines: (N, L, targets) cosine of the target's key with the next sequence's, mean over heads; NaN without attention.
    """

    targets: list[int]
    attending: list[int]
    scores: Tensor
    firsts: Tensor
    columns: Tensor
    norms: Tensor
    ratios: Tensor
    cosines: Tensor


@dataclass(frozen=True)
class Before:
    """What the unedited pass shows, and what edited passes need of it, which compute a part only.

    Attributes:
        targets: positions that any edit edits.
        attending: the A of L layers that have attention.
        laters: (A, N, H, T) weight on each position, summed over later queries.
        norms, ratios, cosines: (L, N, targets).
        prefixes: start → (A, N, H, start): the part of ``laters`` that queries before the start add.
        spans: (layer, first, last) → (N, H, last + 1): the part that the queries first … last add.
    """

    targets: list[int]
    attending: list[int]
    laters: Tensor
    norms: Tensor
    ratios: Tensor
    cosines: Tensor
    prefixes: dict[int, Tensor]
    spans: dict[tuple[int, int, int], Tensor]

    def shown(self, targets: Sequence[int] | None = None) -> Shown:
        """The unedited pass at some targets, by default all."""
        targets = self.targets if targets is None else targets
        chosen = [self.targets.index(target) for target in targets]
        return _shown(
            targets,
            self.attending,
            self.laters,
            *(part[..., chosen] for part in (self.norms, self.ratios, self.cosines)),
        )


def _shown(
    targets: Sequence[int], attending: list[int], laters: Tensor, norms: Tensor, ratios: Tensor, cosines: Tensor
) -> Shown:
    length = laters.shape[-1]
    by_sequence = laters.transpose(0, 1)  # (N, A, H, T)
    later = length - 1 - torch.tensor(targets, device=laters.device)
    return Shown(
        list(targets), attending, by_sequence[..., list(targets)] / later, by_sequence[..., 0] / (length - 1),
        in_float64(laters).sum(dim=(1, 2)), *(part.transpose(0, 1) for part in (norms, ratios, cosines)),
    )  # fmt: skip


class Readout(Tap):
    """Collects, layer by layer, what a pass shows at ``targets``."""

    def __init__(self, targets: Sequence[int], length: int):
        self.targets, self.length = list(targets), length
        self._laters: dict[int, Tensor] = {}  # layer → (N, H, T) weight of the queries that were run
        self._keys: dict[int, Tensor] = {}  # layer → (N, H, targets, d_k)
        self._residuals: dict[int, Tensor] = {}  # layer → (N, targets, d)

    def observe(self, layer, query, key, weights, aggregation):
        self._laters[layer] = later_queries(weights.float(), weights.shape[3] - weights.shape[2])
        self._see_keys(layer, key)

    def _see_keys(self, layer: int, key: Tensor) -> None:
        self._keys[layer] = key[:, :, self.targets]

    def see_residual(self, layer: int, values: Tensor, start: int) -> None:
        """Take the (N, Q, d) residual stream that leaves a layer, of positions from ``start`` on."""
        self._residuals[layer] = values[:, [k - start for k in self.targets]]

    def _at_targets(self, layers: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Norms, dominance ratios and key cosines of these layers, (layers, N, targets) each."""
        residuals = torch.stack([self._residuals[layer] for layer in layers]).float()
        absolute = residuals.abs()
        # NaN in a batch of one, and in layers without attention, which have no keys
        nothing = torch.full(residuals.shape[1:-1], torch.nan, device=residuals.device)  # (N, targets)
        alone = residuals.shape[1] == 1
        cosines = torch.stack(
            [
                nothing
                if alone or layer not in self._keys
                else _to_next_sequence(self._keys[layer]).mean(dim=1).to(nothing)
                for layer in layers
            ]
        )
        return (
            torch.linalg.vector_norm(residuals, dim=-1), absolute.amax(dim=-1) / absolute.mean(dim=-1), cosines,
        )  # fmt: skip


def _to_next_sequence(keys: Tensor) -> Tensor:
    """Cosine of each of (N, H, targets, d_k) keys and the next sequence's; d_k may differ from layer to layer."""
    keys = torch.nn.functional.normalize(keys.float(), dim=-1)
    return (keys * keys.roll(-1, dims=0)).sum(dim=-1)


class UneditedReadout(Readout):
    """What a pass that computes everything shows.

    Args:
        starts: positions from which edited passes will run.
        spans: (layer, first, last) of edits: an edited pass runs these queries only in the first edited layer.
    """

    def __init__(self, targets, length, starts: Sequence[int] = (), spans: Sequence[tuple[int, int, int]] = ()):
        super().__init__(targets, length)
        self._starts, self._spans = [start for start in starts if start], spans
        self._prefixes: dict[int, list[Tensor]] = {start: [] for start in self._starts}
        self._span_parts: dict[tuple[int, int, int], Tensor] = {}

    def observe(self, layer, query, key, weights, aggregation):
        super().observe(layer, query, key, weights, aggregation)
        for start in self._starts:
            self._prefixes[start].append(later_queries(weights[:, :, :start, :start].float(), 0))
        for span in self._spans:
            if span[0] == layer:
                _, first, last = span
                self._span_parts[span] = later_queries(weights[:, :, first : last + 1, : last + 1].float(), first)

    def before(self) -> Before:
        """What the pass showed in all layers."""
        attending = sorted(self._laters)
        return Before(
            self.targets, attending, torch.stack([self._laters[layer] for layer in attending]),
            *self._at_targets(sorted(self._residuals)),
            {start: torch.stack(parts) for start, parts in self._prefixes.items()}, self._span_parts,
        )  # fmt: skip


class EditedReadout(Readout):
    """What a pass that computes a part shows; the rest is as in the unedited one."""

    def __init__(self, before: Before, targets: Sequence[int]):
        super().__init__(targets, before.laters.shape[-1])
        self._before, self._start = before, 0
        # in the layer whose edited positions alone were run: (layer, first, last) and the (N, H, last + 1) weight they add
        self._rows: tuple[tuple[int, int, int], Tensor] | None = None

    def observe(self, layer, query, key, weights, aggregation):
        start = weights.shape[3] - weights.shape[2]
        if weights.shape[3] == self.length:
            self._start = start
            super().observe(layer, query, key, weights, aggregation)
            return
        self._rows = (layer, start, weights.shape[3] - 1), later_queries(weights.float(), start)
        self._see_keys(layer, key)

    def shown(self) -> Shown:
        """What the whole model shows: below the first edited layer and before the first position, the unedited pass."""
        before = self._before
        laters = before.laters.clone()
        row = {layer: number for number, layer in enumerate(before.attending)}
        if self._laters:
            whole = [row[layer] for layer in sorted(self._laters)]
            laters[whole] = torch.stack([self._laters[layer] for layer in sorted(self._laters)])
            if self._start:
                laters[whole, ..., : self._start] += before.prefixes[self._start][whole]
        if self._rows is not None:
            # all other queries, and the keys, are as before
            span, part = self._rows
            laters[row[span[0]], ..., : part.shape[-1]] += part - before.spans[span]
        layers = sorted(self._residuals)
        chosen = [before.targets.index(target) for target in self.targets]
        unedited = (part[: layers[0], :, chosen] for part in (before.norms, before.ratios, before.cosines))
        at_targets = zip(unedited, self._at_targets(layers), strict=True)
        return _shown(self.targets, before.attending, laters, *(torch.cat(parts) for parts in at_targets))


def later_queries(weights: Tensor, start: int) -> Tensor:
    """Weight on each key position summed over later queries, from (N, H, Q, S) causal weights of queries from ``start`` on.

    What a causal column holds beside these is the position's attention to itself.
    """
    total = weights.sum(dim=2)  # (N, H, S)
    itself = weights.diagonal(offset=start, dim1=2, dim2=3)  # (N, H, Q)
    total[..., start : start + itself.shape[-1]] -= itself
    return total


@contextmanager
def reading(replay: Replay, readout: Readout, position: int = 0) -> Iterator[None]:
    """Hand all that passes from ``position`` on show to ``readout``; edits set earlier are seen."""
    with reading_residuals(replay, readout, position), replay.architecture.tapped(readout):
        yield


@contextmanager
def reading_residuals(replay: Replay, readout: Readout, position: int = 0) -> Iterator[None]:
    """Hand the residuals of passes from ``position`` on to ``readout``, and no attention."""

    def hook(layer: int):
        def after(module, args, output):
            values = output_tensor(output)
            if replay.computes(layer):  # a block that is left out shows nothing
                assert values is not None
                readout.see_residual(layer, values, position)

        return after

    with ExitStack() as stack:
        for layer, block in enumerate(replay.architecture.blocks):
            stack.enter_context(block.register_forward_hook(hook(layer)))
        yield
