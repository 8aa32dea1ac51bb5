"""Edits of the value aggregation, as composable taps: mask, variance amplification, norm control.

Each names its layers and target positions. At a target k the aggregation of a head is o_k = sum_j A[k, j] v_j.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from transformers import PreTrainedModel

from sinkorigin import tables
from sinkorigin.architecture import Architecture, read_architecture
from sinkorigin.attention import Tap
from sinkorigin.capture import attention_scores, watch_sites
from sinkorigin.errors import SinkoriginError

KINDS = ("mask", "variance_amplification", "norm_control")

SCHEMA = tables.schema(
    intervention=(pa.string(), "name of the intervention in the config; baseline for the unedited model"),
    kind=(pa.string(), "mask, variance_amplification, norm_control or baseline"),
    strength=(pa.float64(), "lambda; 1 for the mask, which has none; null for the baseline"),
    layers=(pa.string(), "edited layers, counted from 0"),
    target=(pa.int32(), "edited position k"),
    sequence=(pa.int32(), "number of the sequence in the prompt table"),
    layer=(pa.int32(), "layer of the readout, counted from 0"),
    head=(pa.int32(), "query head"),
    score=(pa.float32(), "mean attention weight on the target over queries q > target"),
    first_score=(pa.float32(), "mean attention weight on position 0 over queries q > 0"),
    norm=(pa.float32(), "norm of the residual leaving the layer at the target; the same for every head"),
    dominance_ratio=(pa.float32(), "max / mean of its absolute values; the same for every head"),
)


class _Edit(Tap):
    def __init__(self, *, layers: Sequence[int], positions: Sequence[int]):
        self.layers = tuple(sorted(set(layers)))
        self.positions = tuple(sorted(set(positions)))

    def _rows(self, layer: int, offset: int, length: int) -> list[tuple[int, int]]:
        """(index into positions, row in this call) of the targets that this call computes."""
        if layer not in self.layers:
            return []
        return [(i, p - offset) for i, p in enumerate(self.positions) if 0 <= p - offset < length]


class Mask(_Edit):
    """I1: at ``layers`` the positions attend to themselves only, so o_k = v_k exactly."""

    def edit_logits(self, layer, logits, offset):
        for i, row in self._rows(layer, offset, logits.shape[2]):
            alone = torch.full_like(logits[:, :, row], torch.finfo(logits.dtype).min)
            alone[..., self.positions[i]] = 0
            logits = logits.index_copy(2, torch.tensor([row], device=logits.device), alone.unsqueeze(2))
        return logits


class VarianceAmplification(_Edit):
    """I2: o'_k = o_k + (strength - 1)(o_k - mean), the mean being over sequences, so that strength 1 changes no bit.

    Args:
        layers, positions: where.
        strength: lambda > 0.
        means: layer → (positions, H, d_k) means; without it the mean of the running batch is taken.
    """

    def __init__(self, *, layers, positions, strength: float, means: dict[int, Tensor] | None = None):
        super().__init__(layers=layers, positions=positions)
        self.strength = strength
        self.means = means

    def edit_aggregation(self, layer, aggregation, offset):
        for i, row in self._rows(layer, offset, aggregation.shape[2]):
            own = aggregation[:, :, row]  # (N, H, d_k)
            mean = own.mean(dim=0, keepdim=True) if self.means is None else self.means[layer][i].to(own)
            edited = own + (self.strength - 1) * (own - mean)
            aggregation = aggregation.index_copy(2, torch.tensor([row], device=own.device), edited.unsqueeze(2))
        return aggregation


class NormControl(_Edit):
    """I3: o'_k = strength · o_k."""

    def __init__(self, *, layers, positions, strength: float):
        super().__init__(layers=layers, positions=positions)
        self.strength = strength

    def edit_aggregation(self, layer, aggregation, offset):
        for _, row in self._rows(layer, offset, aggregation.shape[2]):
            edited = self.strength * aggregation[:, :, row : row + 1]
            aggregation = aggregation.index_copy(2, torch.tensor([row], device=aggregation.device), edited)
        return aggregation


@contextmanager
def intervene(model: PreTrainedModel, *edits: Tap) -> Iterator[Architecture]:
    """Run ``model`` with ``edits`` inside the block; they are removed on exit, also after an exception.

    >>> with sinkorigin.intervene(model, sinkorigin.Mask(layers=[0, 1], positions=[10])):
    ...     logits = model(token_ids).logits

    Blocks nest: inner edits apply after outer ones. Yields the model's :class:`Architecture`.

    Raises:
        SinkoriginError: the class does not support the attention interface, or a layer is not there.
    """
    architecture = read_architecture(model)
    for edit in edits:
        check_layers(getattr(edit, "layers", ()), architecture.layers, type(model).__name__)
    with architecture.tapped(*edits):
        yield architecture


def check_layers(layers: Sequence[int], count: int, model: str, key: str = "layers") -> None:
    """Raise a SinkoriginError when a layer is not one of 0 … count − 1."""
    wrong = [layer for layer in layers if not 0 <= layer < count]
    if wrong:
        raise SinkoriginError(
            f"{key} has layer {wrong[0]}, but model {model} has {count} layers, 0 to {count - 1}; "
            "choose layers in that range"
        )


def layer_text(layers: Sequence[int]) -> str:
    """Layers as runs: [0, 1, 2, 5] → "0-2,5"."""
    runs: list[list[int]] = []
    for layer in sorted(set(layers)):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


class _Reached(Exception):
    """Ends a forward pass whose rest is not needed."""


class _Sum(Tap):
    """Sums the aggregation of one layer at some positions over sequences, then ends the forward pass."""

    def __init__(self, layer: int, positions: Sequence[int]):
        self.layer, self.positions = layer, list(positions)
        self.total = torch.zeros(())
        self.count = 0

    def edit_aggregation(self, layer, aggregation, offset):
        if layer == self.layer:
            own = aggregation[:, :, self.positions]  # (N, H, P, d_k)
            self.total = self.total.to(own.device) + own.double().sum(dim=0).transpose(0, 1)
            self.count += len(own)
            raise _Reached
        return aggregation


def running_means(architecture: Architecture, token_ids: np.ndarray, edit: VarianceAmplification, batch: int):
    """Means over all sequences of the aggregation at the edit's layers and positions, in the edited model.

    An edit changes what the next edited layer aggregates, so the layers are done in order, each with the edits below it
    in place. Only positions up to the last target can matter. Memory is bounded by the batch.

    Returns:
        layer → (positions, H, d_k) tensor of float64.
    """
    device = next(architecture.model.parameters()).device
    upto = max(edit.positions) + 1
    means: dict[int, Tensor] = {}
    for layer in edit.layers:
        below = VarianceAmplification(layers=list(means), positions=edit.positions, strength=edit.strength, means=means)
        total = _Sum(layer, edit.positions)
        with architecture.tapped(below, total):
            for first in range(0, len(token_ids), batch):
                with suppress(_Reached):
                    architecture.forward(torch.from_numpy(token_ids[first : first + batch, :upto]).to(device))
        means[layer] = total.total / total.count
    return means


def make_edit(kind: str, *, layers: Sequence[int], positions: Sequence[int], strength: float) -> Tap:
    """The edit of a kind of the config: mask, variance_amplification or norm_control."""
    if kind == "mask":
        return Mask(layers=layers, positions=positions)
    if kind == "variance_amplification":
        return VarianceAmplification(layers=layers, positions=positions, strength=strength)
    if kind == "norm_control":
        return NormControl(layers=layers, positions=positions, strength=strength)
    raise ValueError(f"unknown kind {kind!r}")


def measure(
    architecture: Architecture,
    token_ids: np.ndarray,
    path: str | Path,
    *,
    model: str,
    intervention: str,
    kind: str,
    strength: float | None,
    layers: Sequence[int],
    targets: Sequence[int],
    batch: int,
) -> None:
    """Run the prompts under one edit (or none: kind "baseline") and write what happens at the targets.

    Args:
        token_ids: (N, T) ids.
        path: the Parquet table to write, see ``SCHEMA``.
        strength: lambda, None for the baseline.
        targets: edited positions; for the baseline those that the study's interventions edit.
        batch: sequences in one forward pass; it bounds memory and does not change the result's meaning.

    Raises:
        SinkoriginError: a layer or target is not there, or fewer than two sequences to take a mean over.
    """
    sequences, length = token_ids.shape
    check_layers(layers, architecture.layers, model, f"intervention {intervention}: layers")
    if max(targets) >= length - 1:
        raise SinkoriginError(
            f"intervention {intervention}: target position {max(targets)} has no later query in prompts of {length} "
            "tokens; choose a smaller position or longer prompts"
        )
    edits: list[Tap] = []
    if kind != "baseline":
        edit = make_edit(kind, layers=layers, positions=targets, strength=strength)
        if isinstance(edit, VarianceAmplification):
            if sequences < 2:
                raise SinkoriginError(
                    f"intervention {intervention}: a mean over sequences needs at least 2, the prompts have {sequences}; "
                    "raise sequences of the prompt set"
                )
            edit.means = running_means(architecture, token_ids, edit, batch)
        edits.append(edit)
    scores: dict[int, Tensor] = {}
    sizes: dict[int, tuple[Tensor, Tensor]] = {}
    columns = list(targets)

    def on_attention(layer: int, query: Tensor, key: Tensor, weights: Tensor) -> None:
        excluding_self = attention_scores(weights.detach())[1]
        scores[layer] = excluding_self[..., [0, *columns]].to("cpu")  # (N, H, 1 + targets)

    def on_site(layer: int, site: str, values: Tensor) -> None:
        if layer >= 0:
            values = values.detach()[:, columns].float()  # (N, targets, d)
            absolute = values.abs()
            ratio = absolute.amax(dim=-1) / absolute.mean(dim=-1)
            sizes[layer] = torch.linalg.vector_norm(values, dim=-1).to("cpu"), ratio.to("cpu")

    edited = {"intervention": intervention, "kind": kind, "strength": strength, "layers": layer_text(layers)}
    device = next(architecture.model.parameters()).device
    with tables.table_writer(path, SCHEMA) as writer:
        with architecture.tapped(*edits), watch_sites(architecture, ["residual"], on_site, on_attention):
            for first in range(0, sequences, batch):
                ids = torch.from_numpy(token_ids[first : first + batch])
                architecture.forward(ids.to(device))
                for i, target in enumerate(columns):
                    rows = _readout_rows(scores, sizes, i, first, target=target, **edited)
                    if not np.isfinite(rows["norm"]).all():
                        raise SinkoriginError(
                            f"model {model}, intervention {intervention}, strength {strength}: the residual is not "
                            "finite; lower the strength, or use dtype: float32"
                        )
                    writer.write_batch(pa.record_batch(rows, schema=SCHEMA))


def _readout_rows(scores, sizes, i: int, first: int, *, target: int, intervention, kind, strength, layers) -> dict:
    """Rows of the table for the i-th target of one batch that begins with sequence ``first``.

    Args:
        scores: layer → (N, H, 1 + targets) scores at position 0 and at the targets.
        sizes: layer → norm and dominance ratio at the targets, each (N, targets).
    """
    depth = len(scores)
    score = torch.stack([scores[layer] for layer in range(depth)])  # (L, N, H, 1 + targets)
    norm, ratio = (torch.stack([sizes[layer][part][:, i] for layer in range(depth)]) for part in (0, 1))  # (L, N)
    shape = score.shape[:3]
    rows = score[..., 0].numel()
    number, sequence, head = np.meshgrid(
        np.arange(depth, dtype=np.int32), np.arange(first, first + shape[1], dtype=np.int32),
        np.arange(shape[2], dtype=np.int32), indexing="ij",
    )  # fmt: skip

    def repeated(value, type_) -> pa.Array:
        return pa.array([value], type=type_).take(pa.array(np.zeros(rows, dtype=np.int32)))

    return {
        "intervention": repeated(intervention, pa.string()),
        "kind": repeated(kind, pa.string()),
        "strength": repeated(strength, pa.float64()),
        "layers": repeated(layers, pa.string()),
        "target": np.full(rows, target, dtype=np.int32),
        "sequence": sequence.reshape(-1),
        "layer": number.reshape(-1),
        "head": head.reshape(-1),
        "score": score[..., 1 + i].reshape(-1).numpy(),
        "first_score": score[..., 0].reshape(-1).numpy(),
        "norm": norm.unsqueeze(-1).expand(shape).reshape(-1).numpy(),
        "dominance_ratio": ratio.unsqueeze(-1).expand(shape).reshape(-1).numpy(),
    }
