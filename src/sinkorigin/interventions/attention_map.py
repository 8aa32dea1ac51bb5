"""Attention maps: how much of its attention each query gives to each key, without an edit and under it."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sinkorigin import tables
from sinkorigin.interventions.context import EditTap, applied
from sinkorigin.interventions.mechanism import Cause
from sinkorigin.interventions.moments import estimate_moments
from sinkorigin.interventions.passes import even_batches
from sinkorigin.interventions.replay import Replay
from sinkorigin.interventions.schemas import NUMBERS
from sinkorigin.sites.architecture import Architecture
from sinkorigin.sites.attention import Tap

MOST_POSITIONS = 64  # of a map; longer prompts are shown up to there

SCHEMA = tables.schema(
    cause=(pa.string(), "name of the intervention"),
    kind=(pa.string(), "its kind"),
    strength=(pa.float64(), "its strength"),
    layers=(NUMBERS, "layers that it edits"),
    target=(pa.int32(), "edited position"),
    layer=(
        pa.int32(),
        "layer of the map: that in which the target receives most attention under the edit; null: mean over all layers with attention",
    ),
    query=(pa.int32(), f"query position, up to {MOST_POSITIONS - 1}"),
    key=(pa.int32(), "key position, at most the query's"),
    unedited=(
        pa.float32(),
        "attention weight of the query on the key, mean over heads and sequences, without the edit",
    ),
    edited=(pa.float32(), "that under the edit"),
)


class _Maps(Tap):
    """Adds up the attention weights of the first positions, by layer.

    Attributes:
        sums: layer → (T, T) sum over sequences of the mean over heads.
    """

    def __init__(self):
        self.sums: dict[int, Tensor] = {}

    def observe(self, layer, query, key, weights, aggregation):
        part = weights[:, :, :MOST_POSITIONS, :MOST_POSITIONS].double().mean(dim=1).sum(dim=0).cpu()
        self.sums[layer] = self.sums[layer] + part if layer in self.sums else part

    def stacked(self, sequences: int) -> np.ndarray:
        """(L, T, T) means over sequences, of the layers that have attention in their order."""
        return torch.stack([self.sums[layer] for layer in sorted(self.sums)]).numpy() / sequences


def attention_maps(
    architecture: Architecture, token_ids: np.ndarray, causes: Sequence[Cause], *, batch: int
) -> Iterator[list[dict]]:
    """The map of each cause, as the mean over layers and in the layer where its target receives most.

    Args:
        token_ids: (N, T) ids.
        causes: edits at one position each.
        batch: sequences in one forward pass, at most.

    Yields:
        Rows of ``SCHEMA``, a list a cause.
    """
    batch = architecture.fitting_batch(batch, token_ids.shape[1])
    replay = Replay(architecture)
    with replay.active():
        moments = estimate_moments(replay, token_ids, [one.edit for one in causes if one.edit.needs_mean], batch)

    def mapped(cause: Cause | None) -> tuple[np.ndarray, list[int]]:
        maps = _Maps()
        for part in even_batches(len(token_ids), batch):
            taps = [] if cause is None else [EditTap(cause.edit, moments.get(cause.edit), part.start)]
            with applied(architecture, *taps), architecture.tapped(maps):
                architecture.forward(torch.from_numpy(token_ids[part]).to(architecture.device))
        return maps.stacked(len(token_ids)), sorted(maps.sums)

    unedited, layers = mapped(None)
    queries, keys = np.tril_indices(unedited.shape[1])
    for cause in causes:
        edited, _ = mapped(cause)
        [target] = cause.edit.positions
        later = edited[:, target + 1 :, target : target + 1]  # nothing where the map ends before the target
        most = int(later.mean(axis=(1, 2)).argmax()) if later.size else 0
        identity = {
            "cause": cause.name, "kind": cause.edit.kind, "strength": getattr(cause.edit, "strength", 1.0),
            "layers": list(cause.edit.layers), "target": target,
        }  # fmt: skip
        pairs = (
            (None, unedited.mean(axis=0), edited.mean(axis=0)),
            (layers[most], unedited[most], edited[most]),
        )
        yield [
            {**identity, "layer": layer, "query": int(q), "key": int(k), "unedited": float(before[q, k]), "edited": float(after[q, k])}
            for layer, before, after in pairs
            for q, k in zip(queries, keys, strict=True)
        ]  # fmt: skip
