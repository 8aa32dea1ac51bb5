"""Setting edits on a model for the length of a block."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from sinkorigin.errors import SinkoriginError, listed
from sinkorigin.interventions.kind import AttentionEdit, Edit, MeanAndSpread, Target, VectorEdit
from sinkorigin.sites.architecture import Architecture, read_architecture
from sinkorigin.sites.attention import Tap
from sinkorigin.sites.modules import Place


@contextmanager
def intervene(model: PreTrainedModel, *edits: Edit | Tap) -> Iterator[Architecture]:
    """Run ``model`` with ``edits`` inside the block; they are removed on exit, also after an exception.

    >>> with sinkorigin.intervene(model, sinkorigin.Mask(layers=[0, 1], positions=[10])):
    ...     logits = model(token_ids).logits

    Blocks nest: inner edits apply after outer ones. They work under ``generate`` too, where positions count from the first
    token of the prompt. An edit that changes nothing (no layers, strength 1) is not set at all, and a block of such edits
    leaves the model's attention implementation in place. Yields the model's :class:`Architecture`.

    Raises:
        SinkoriginError: the class does not support the attention interface, or a layer or its site is not there.
    """
    architecture = read_architecture(model)
    with applied(architecture, *edits):
        yield architecture


class EditTap(Tap):
    """Makes an edit in the passes of one batch.

    Args:
        edit: what is done.
        moments: means over sequences; without, those of the batch are taken.
        first_sequence: number of the batch's first sequence, which random directions depend on.
    """

    def __init__(self, edit: Edit, moments: MeanAndSpread | None = None, first_sequence: int = 0):
        self.edit, self._moments, self._first_sequence = edit, moments, first_sequence

    def _targets(self, layer: int, offset: int, length: int) -> list[tuple[int, Target]]:
        """Row in this call, and target, of the edited positions that the call computes."""
        if layer not in self.edit.layers:
            return []
        return [
            (position - offset, Target(layer, position, number, self._first_sequence, self._moments))
            for number, position in enumerate(self.edit.positions)
            if 0 <= position - offset < length
        ]

    def edit_logits(self, layer, logits, offset):
        if isinstance(self.edit, AttentionEdit):
            for row, target in self._targets(layer, offset, logits.shape[2]):
                keys = list(self.edit.visible(target.position))
                if (logits[:, :, row, keys] <= torch.finfo(logits.dtype).min / 2).any():
                    raise SinkoriginError(
                        f"{self.edit.kind} lets position {target.position} attend to {listed(keys)} only, but layer {layer} hides "
                        "that from it, as attention does that selects its keys; choose another position, or layers without selection"
                    )
                seen = torch.full_like(logits[:, :, row], torch.finfo(logits.dtype).min)  # (N, H, S)
                seen[..., keys] = logits[:, :, row, keys]
                logits = logits.index_copy(2, torch.tensor([row], device=logits.device), seen.unsqueeze(2))
        return logits

    def edit_aggregation(self, layer, aggregation, offset):
        if self.edit.site != "value_aggregation":
            return aggregation
        return self.edit_vectors(layer, aggregation.transpose(1, 2), offset).transpose(1, 2)

    def edit_vectors(self, layer: int, vectors: Tensor, offset: int) -> Tensor:
        """Edit the rows of (N, T, G, w) vectors that are targets; the others are handed on as they are."""
        edit = self.edit
        assert isinstance(edit, VectorEdit)
        for row, target in self._targets(layer, offset, vectors.shape[1]):
            mixed = edit.mixes(getattr(edit, "strength", 1))
            if len(vectors) < mixed:
                raise SinkoriginError(
                    f"{type(edit).__name__} mixes {mixed} sequences of a batch, but this one has {len(vectors)}; "
                    "run more sequences at once"
                )
            edited = edit.edited(vectors[:, row], target).to(vectors.dtype)
            vectors = vectors.index_copy(1, torch.tensor([row], device=vectors.device), edited.unsqueeze(1))
        return vectors


class _Clock(Tap):
    """Knows which positions the running forward pass computes, from its attention calls."""

    def __init__(self):
        self.offset = self.length = 0

    def edit_logits(self, layer, logits, offset):
        self.offset, self.length = offset, logits.shape[2]
        return logits


@contextmanager
def applied(
    architecture: Architecture, *edits: Edit | Tap, computes: Callable[[int], bool] = lambda layer: True
) -> Iterator[None]:
    """Set ``edits`` on a model whose sites are known, for the block; see :func:`intervene`.

    Args:
        computes: whether the running pass computes a layer; one that it leaves out is not edited.
    """
    name = type(architecture.model).__name__
    taps = [EditTap(edit) if isinstance(edit, Edit) else edit for edit in edits]
    taps = [tap for tap in taps if not (isinstance(tap, EditTap) and tap.edit.changes_nothing)]
    if not taps:
        yield
        return
    clock = _Clock()
    with ExitStack() as stack:
        stack.enter_context(architecture.tapped(clock, *taps))
        for tap in taps:
            if isinstance(tap, EditTap):
                layers = edited_layers(architecture, tap.edit, name)
                if isinstance(tap.edit, VectorEdit) and tap.edit.site != "value_aggregation":
                    for layer in layers:
                        place = place_of(architecture, layer, tap.edit.site)
                        stack.enter_context(place.hook(_change(tap, layer, clock, computes)))
        yield


def edited_layers(architecture: Architecture, edit: Edit, model: str, key: str = "layers") -> list[int]:
    """Layers of an edit that it changes: an edit of the attention leaves layers without attention as they are.

    Args:
        model, key: name of the model, and key of the config that names the layers, for messages.

    Raises:
        SinkoriginError: a layer is not there, or none of them has the attention that is edited.
    """
    check_layers(edit.layers, architecture.layers, model, key)
    if not isinstance(edit, AttentionEdit) and edit.site not in (
        "value_aggregation",
        "attention_input",
        "attention_output",
    ):
        return list(edit.layers)
    layers = [layer for layer in edit.layers if layer in architecture.attention]
    if edit.layers and not layers:
        raise SinkoriginError(
            f"{key}: none of the layers {listed(edit.layers)} of model {model} has attention, which {edit.kind} edits; choose from "
            f"layers {listed(architecture.attention)}"
        )
    return layers


def place_of(architecture: Architecture, layer: int, site: str) -> Place:
    """Where a module's site can be edited.

    Raises:
        SinkoriginError: the layer does not have it.
    """
    place = architecture.places[layer].get(site)
    if place is None:
        reason = architecture.missing[layer].get(site, "it is no site of a module")
        raise SinkoriginError(
            f"model {type(architecture.model).__name__}: {site} of layer {layer} cannot be edited, because {reason}; "
            "choose another site or model"
        )
    return place


def _change(tap: EditTap, layer: int, clock: _Clock, computes: Callable[[int], bool]) -> Callable[[Tensor], Tensor]:
    """Hook that edits a module's site in the layer."""

    def change(values: Tensor) -> Tensor:
        if not computes(layer):
            return values
        vectors = values.reshape(-1, clock.length, 1, values.shape[-1])  # (N, T, 1, w); some FFNs flatten N and T
        return tap.edit_vectors(layer, vectors, clock.offset).reshape(values.shape)

    return change


def check_layers(layers: Sequence[int], count: int, model: str, key: str = "layers") -> None:
    """Raise a SinkoriginError when a layer is not one of 0 … count − 1."""
    wrong = [layer for layer in layers if not 0 <= layer < count]
    if wrong:
        raise SinkoriginError(
            f"{key} has layer {wrong[0]}, but model {model} has {count} layers, 0 to {count - 1}; "
            "choose layers in that range"
        )
