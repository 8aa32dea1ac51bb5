"""The unedited passes of some prompts, made once for any number of sweeps over them."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sinkorigin.interventions.points import Point
from sinkorigin.interventions.readout import Before, UneditedReadout, reading
from sinkorigin.interventions.replay import Replay, Unedited


def even_batches(sequences: int, batch: int) -> list[slice]:
    """Slices of at most ``batch`` sequences whose sizes differ by one at most, so that none is nearly empty."""
    bounds = np.linspace(0, sequences, -(-sequences // batch) + 1).round().astype(int)
    return [slice(first, end) for first, end in pairwise(bounds.tolist())]


class Passes:
    """What the unedited pass of each batch leaves for the edited ones, and what it shows.

    With a ``folder`` each pass is run once and kept there, so that memory holds one batch; without, it is run whenever it is
    asked for.

    Args:
        token_ids: (N, T) ids.
        points: all edits that will start from these passes.
        batch: sequences in one forward pass.
        exact: whether partial passes give what full ones give, see :meth:`Replay.check`.
        logits: whether the language-model head runs.
        targets: other positions at which the unedited model is read.
        folder: an existing folder.
    """

    def __init__(
        self,
        token_ids: np.ndarray,
        points: Iterable[Point],
        *,
        batch: int,
        depth: int,
        exact: bool = True,
        logits: bool = False,
        targets: Sequence[int] = (),
        folder: Path | None = None,
    ):
        points = list(points)
        self.token_ids, self.exact, self.logits = token_ids, exact, logits
        self.batch, self.batches = batch, even_batches(len(token_ids), batch)
        self.targets = sorted({k for point in points for k in point.positions} | set(targets))
        begin = {self.begin(point) for point in points}
        self._starts = sorted({position for _, position in begin})
        self._spans = sorted({(self.begin(p)[0], p.positions[0], p.positions[-1]) for p in points})
        self._entries = ({layer for layer, _ in begin} | {layer + 1 for layer, _ in begin}) - {0, depth}
        self._folder = folder

    @property
    def kept(self) -> bool:
        """Whether each pass is run once only."""
        return self._folder is not None

    def begin(self, point: Point) -> tuple[int, int]:
        """Layer and position from which a pass with this edit is run."""
        return (min(point.layers), min(point.positions)) if self.exact else (0, 0)

    def make(self, replay: Replay, number: int) -> None:
        """Run the pass of batch ``number`` and keep it."""
        assert self._folder is not None
        torch.save(self._run(replay, number), self._folder / f"batch={number}.pt")

    def take(self, replay: Replay, number: int) -> tuple[Unedited, Before]:
        """The pass of batch ``number``."""
        if self._folder is None:
            return self._run(replay, number)
        path = self._folder / f"batch={number}.pt"
        # a file of this object's own making, so it may hold other things than tensors
        return torch.load(path, mmap=True, map_location=replay.device, weights_only=False)

    def _run(self, replay: Replay, number: int) -> tuple[Unedited, Before]:
        ids: Tensor = torch.from_numpy(self.token_ids[self.batches[number]]).to(replay.device)
        readout = UneditedReadout(self.targets, ids.shape[1], self._starts, self._spans)
        with reading(replay, readout):
            unedited = replay.unedited(ids, entries=self._entries, logits=self.logits)
        return unedited, readout.before()
