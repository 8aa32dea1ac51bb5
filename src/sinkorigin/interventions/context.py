"""Setting edits on a model for the length of a block."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor
from transformers import PreTrainedModel

from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions.edits import Edit, VectorEdit, check_layers
from sinkorigin.sites.architecture import Architecture, read_architecture
from sinkorigin.sites.attention import Tap
from sinkorigin.sites.modules import Place


@contextmanager
def intervene(model: PreTrainedModel, *edits: Tap) -> Iterator[Architecture]:
    """Run ``model`` with ``edits`` inside the block; they are removed on exit, also after an exception.

    >>> with sinkorigin.intervene(model, sinkorigin.Mask(layers=[0, 1], positions=[10])):
    ...     logits = model(token_ids).logits

    Blocks nest: inner edits apply after outer ones. They work under ``generate`` too, where positions count from the first
    token of the prompt. An edit that changes nothing (no layers, strength 1) is not set at all, and a block of such edits
    leaves the model's own attention implementation in place. Yields the model's :class:`Architecture`.

    Raises:
        SinkoriginError: the class does not support the attention interface, or a layer or its site is not there.
    """
    architecture = read_architecture(model)
    with applied(architecture, *edits):
        yield architecture


class _Clock(Tap):
    """Knows which positions the running forward pass computes: its attention calls say so."""

    def __init__(self):
        self.offset = self.length = 0

    def edit_logits(self, layer, logits, offset):
        self.offset, self.length = offset, logits.shape[2]
        return logits


@contextmanager
def applied(
    architecture: Architecture, *edits: Tap, computes: Callable[[int], bool] = lambda layer: True
) -> Iterator[None]:
    """Set ``edits`` on a model whose sites are known, for the block; see :func:`intervene`.

    Args:
        computes: whether the running pass computes a layer; one that it leaves out is not edited.
    """
    name = type(architecture.model).__name__
    edits = tuple(edit for edit in edits if not (isinstance(edit, Edit) and edit.changes_nothing))
    for edit in edits:
        check_layers(getattr(edit, "layers", ()), architecture.layers, name)
    if not edits:
        yield
        return
    clock = _Clock()
    with ExitStack() as stack:
        stack.enter_context(architecture.tapped(clock, *edits))
        for edit in edits:
            if isinstance(edit, VectorEdit) and edit.site != "value_aggregation":
                for layer in edit.layers:
                    place = place_of(architecture, layer, edit.site)
                    stack.enter_context(_hooked(place, edit, layer, clock, computes))
        yield


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


@contextmanager
def _hooked(place: Place, edit: VectorEdit, layer: int, clock: _Clock, computes) -> Iterator[None]:
    def change(values: Tensor) -> Tensor:
        if not computes(layer):
            return values
        vectors = values.reshape(-1, clock.length, 1, values.shape[-1])  # (N, T, 1, w); some FFNs flatten N and T
        return edit.edit_vectors(layer, vectors, clock.offset).reshape(values.shape)

    handle = place.hook(change)
    try:
        yield
    finally:
        handle.remove()
