"""Means over sequences of what an edit changes, in the edited model."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sinkorigin.interventions.context import EditTap, applied, edited_layers, place_of
from sinkorigin.interventions.kind import Edit, MeanAndSpread
from sinkorigin.interventions.passes import Passes, even_batches
from sinkorigin.interventions.replay import Reached, Replay
from sinkorigin.sites.attention import Tap
from sinkorigin.sites.precision import in_float64


@dataclass
class _Sums:
    """Sums over sequences of (N, P, G, w) vectors, shifted by the first batch's mean so that rounding stays small."""

    count: int = 0
    shift: Tensor | None = None
    first: Tensor | None = None
    second: Tensor | None = None

    def add(self, vectors: Tensor) -> None:
        vectors = in_float64(vectors)
        if self.shift is None:
            self.shift = vectors.mean(dim=0)
            self.first, self.second = torch.zeros_like(self.shift), torch.zeros_like(self.shift[..., 0])
        shifted = vectors - self.shift
        self.count += len(vectors)
        self.first = self.first + shifted.sum(dim=0)
        self.second = self.second + shifted.square().sum(dim=(0, -1))

    def mean_and_spread(self) -> tuple[Tensor, Tensor]:
        """Mean (P, G, w), and root mean square of the distance to it (P, G)."""
        assert self.shift is not None and self.first is not None and self.second is not None
        away = self.first / self.count
        spread = (self.second / self.count - away.square().sum(dim=-1)).clamp_min(0).sqrt()
        return self.shift + away, spread


class _Reader(Tap):
    """Adds up what an edit's site holds at one layer, before the edit changes it there, and ends the pass."""

    def __init__(self, edit: Edit, layer: int, sums: _Sums, position: int):
        self._rows = [p - position for p in edit.positions]
        self._edit, self._layer, self._sums = edit, layer, sums

    def edit_aggregation(self, layer, aggregation, offset):
        if self._edit.site == "value_aggregation" and layer == self._layer:
            self._sums.add(aggregation[:, :, self._rows].transpose(1, 2))  # (N, P, H, d_k)
            raise Reached
        return aggregation

    def read(self, values: Tensor) -> Tensor:
        """Hook of a module's site."""
        self._sums.add(values[:, self._rows].unsqueeze(2))  # (N, P, 1, w)
        raise Reached


def estimate_moments(
    replay: Replay, token_ids: np.ndarray, edits: Sequence[Edit], batch: int, passes: Passes | None = None
) -> dict[Edit, MeanAndSpread]:
    """Mean and spread of what each edit changes: over all of ``token_ids``, in the model that it edits.

    An edit changes what the next edited layer holds, so the layers are done in order, each with the edit in place in the
    layers below. Only positions up to the edit's last can matter, and of these only those from its first on are run again
    for each edit; the unedited part is run once a layer and batch for all. Memory is bounded by the batch.

    Args:
        replay: an active one.
        token_ids: (N, T) ids, N at least 2.
        edits: edits that need a mean, at any places.
        passes: unedited passes of ``token_ids``; without, they are run here.
    """
    moments = {edit: MeanAndSpread() for edit in edits}
    batches = even_batches(len(token_ids), batch) if passes is None else passes.batches
    name = type(replay.architecture.model).__name__
    layers = {edit: edited_layers(replay.architecture, edit, name) for edit in edits}
    for layer in sorted({layer for edit in edits for layer in layers[edit]}):
        sums = {edit: _Sums() for edit in edits if layer in layers[edit]}
        upto = max(edit.positions[-1] for edit in sums) + 1
        entries = {min(edit.layers) for edit in sums}
        for number, part in enumerate(batches):
            if passes is None:
                ids = torch.from_numpy(token_ids[part, :upto]).to(replay.device)
                unedited = replay.unedited(ids, entries=entries, stop=layer)
            else:
                unedited = passes.take(replay, number).unedited
            for edit, total in sums.items():
                first, position = replay.begin(edit)
                reader = _Reader(edit, layer, total, position)
                below = edit.at_layers([done for done in layers[edit] if done < layer])
                tap = EditTap(below, moments[edit], part.start)
                with (
                    applied(replay.architecture, tap, computes=replay.computes),
                    replay.architecture.tapped(reader),
                    nullcontext()
                    if edit.site == "value_aggregation"
                    else place_of(replay.architecture, layer, edit.site).hook(reader.read),
                ):
                    replay.edited(unedited, layer=first, position=position, upto=edit.positions[-1] + 1, stop=layer)
        for edit, total in sums.items():
            moments[edit].mean[layer], moments[edit].spread[layer] = total.mean_and_spread()
    return moments
