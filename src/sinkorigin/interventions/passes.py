"""The unedited passes of some prompts, made once for any number of sweeps over them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from sinkorigin.interventions.kind import Edit
from sinkorigin.interventions.logits import KeptLogits, keep_logits
from sinkorigin.interventions.readout import Before, UneditedReadout, reading
from sinkorigin.interventions.replay import Replay, Unedited


def even_batches(sequences: int, batch: int) -> list[slice]:
    """Slices of at most ``batch`` sequences whose sizes differ by one at most, so that none is nearly empty."""
    bounds = np.linspace(0, sequences, -(-sequences // batch) + 1).round().astype(int)
    return [slice(first, end) for first, end in pairwise(bounds.tolist())]


@dataclass(frozen=True)
class Pass:
    """The unedited pass of one batch: what it leaves for the edited ones, and what it shows.

    Attributes:
        logits: its logits, where losses are read.
        following: (N, T − 1) log-probability of each next token, where losses are read.
    """

    unedited: Unedited
    before: Before
    logits: KeptLogits | None
    following: torch.Tensor | None


class Passes:
    """The unedited pass of each batch, run once and kept in a folder, so that memory holds one batch.

    Args:
        token_ids: (N, T) ids.
        edits: all edits that will start from these passes.
        replay: one of those that will run them.
        batch: sequences in one forward pass.
        losses: whether the language-model head runs.
        folder: an existing folder.
    """

    def __init__(
        self,
        token_ids: np.ndarray,
        edits: Sequence[Edit],
        replay: Replay,
        *,
        batch: int,
        losses: bool,
        folder: Path,
    ):
        self.token_ids, self.losses = token_ids, losses
        self.batch, self.batches = batch, even_batches(len(token_ids), batch)
        self._targets = sorted({k for edit in edits for k in edit.positions})
        begin = {replay.begin(edit) for edit in edits}
        self._starts = sorted({position for _, position in begin})
        self._spans = sorted({(replay.begin(e)[0], e.positions[0], e.positions[-1]) for e in edits})
        self._entries = ({layer for layer, _ in begin} | {layer + 1 for layer, _ in begin}) - {
            0,
            replay.architecture.layers,
        }
        self._folder = folder

    def make(self, replay: Replay, number: int) -> None:
        """Run the pass of batch ``number`` and keep it."""
        ids = torch.from_numpy(self.token_ids[self.batches[number]]).to(replay.device)
        readout = UneditedReadout(self._targets, ids.shape[1], self._starts, self._spans)
        with reading(replay, readout):
            unedited = replay.unedited(ids, entries=self._entries)
        logits, following = None, None
        if self.losses:
            logits, following = keep_logits(replay, ids, replay.last, self._path(number).with_suffix(".logits"))
        torch.save(Pass(unedited, readout.before(), logits, following), self._path(number))

    def take(self, replay: Replay, number: int) -> Pass:
        """The pass of batch ``number``."""
        # a file that this object made, so it may hold other things than tensors
        return torch.load(self._path(number), mmap=True, map_location=replay.device, weights_only=False)

    def _path(self, number: int) -> Path:
        return self._folder / f"batch={number}.pt"
