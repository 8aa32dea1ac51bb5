"""Setting edits on a model for the length of a block."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from sinkorigin.errors import SinkoriginError, listed
from sinkorigin.interventions.kind import AttentionEdit, Edit, MeanAndSpread, Target, VectorEdit
from sinkorigin.models.shapes import check_layers
from sinkorigin.sites.architecture import Architecture, read_architecture
from sinkorigin.sites.attention import Tap
from sinkorigin.sites.modules import Place, first_tensor


@contextmanager
def intervene(model: PreTrainedModel | Architecture, *edits: Edit | Tap) -> Iterator[Architecture]:
    """Run ``model`` with ``edits`` inside the block; they are removed on exit, also after an exception.

    >>> with sinkorigin.intervene(model, sinkorigin.Mask(layers=[0, 1], positions=[10])):
    ...     logits = model(token_ids).logits

    Blocks nest: inner edits apply after outer ones. They work under ``generate`` too, where positions count from the first
    token of the prompt. In a padded batch they count from the first token of each sequence, as its ``attention_mask`` has it.
    An edit that changes nothing (no layers, strength 1) is not set at all, and a block of such edits leaves the model's
    attention implementation in place.

    Args:
        model: the model; or its :class:`Architecture`, which an earlier block or ``sinkorigin.read_architecture`` gave, so
            that the model is not probed again.

    Yields:
        The model's architecture.

    Raises:
        SinkoriginError: the class does not support the attention interface; a layer, site, neuron or dim is not there; a
            position is padding, or, at the end of the block, was in none of the passes.
    """
    architecture = model if isinstance(model, Architecture) else read_architecture(model)
    for edit in edits:
        if isinstance(edit, Edit):
            check_layers(edit.layers, architecture.layers, type(architecture.model).__name__)
    padding = Padding()
    taps = [EditTap(edit, padding=padding) if isinstance(edit, Edit) else edit for edit in edits]
    with padding.read_in_passes(architecture.model), applied(architecture, *taps):
        yield architecture
    for tap in taps:
        if isinstance(tap, EditTap):
            tap.check_reached()


class Padding:
    """Padding of the batch that a model runs on, read from the ``attention_mask`` that it is given.

    Attributes:
        before: for each sequence, the number of padding tokens before its first token; None in a batch without padding.
        tokens: for each sequence, its number of tokens.
    """

    def __init__(self):
        self.before: list[int] | None = None
        self.tokens: list[int] = []

    @contextmanager
    def read_in_passes(self, model: PreTrainedModel) -> Iterator[None]:
        """Read the padding of every forward pass of the model, or of its decoder alone, inside the block."""

        def read(module, args, kwargs):
            given = kwargs.get("attention_mask")
            if given is None and len(args) > 1:
                given = inspect.signature(module.forward).bind_partial(*args).arguments.get("attention_mask")
            self._read(given)

        def forget(module, args, output):
            self.before = None

        with ExitStack() as stack:
            for module in {model, model.base_model}:
                stack.enter_context(module.register_forward_pre_hook(read, with_kwargs=True))
                stack.enter_context(module.register_forward_hook(forget, always_call=True))
            yield

    def _read(self, mask) -> None:
        # a mask of more axes says what each query sees; a decoder may get one that its model made of the padding
        if not isinstance(mask, Tensor) or mask.ndim != 2:
            return
        self.before = None
        if bool(mask.all()):
            return
        real = mask.cpu() != 0  # (N, S)
        before, tokens = real.int().argmax(dim=1).tolist(), real.sum(dim=1).tolist()
        for number, (start, count) in enumerate(zip(before, tokens, strict=True)):
            if not real[number, start : start + count].all():
                raise SinkoriginError(
                    f"the attention_mask of sequence {number} hides tokens between others, so positions cannot be counted; pad at "
                    "the beginning (as generate needs), or at the end"
                )
        self.before, self.tokens = before, tokens


class EditTap(Tap):
    """Makes an edit in the passes of one batch.

    Args:
        edit: what is done.
        moments: means over sequences; without, those of the batch are taken.
        first_sequence: number of the batch's first sequence, which random directions depend on.
        padding: of the batch that runs; by default there is none.
    """

    def __init__(
        self,
        edit: Edit,
        moments: MeanAndSpread | None = None,
        first_sequence: int = 0,
        padding: Padding | None = None,
    ):
        self.edit, self._moments, self._first_sequence = edit, moments, first_sequence
        self._padding = Padding() if padding is None else padding
        self._reached: set[int] = set()
        self._longest = 0  # number of positions of the longest pass

    def check_reached(self) -> None:
        """Check that every edited position was in one of the passes, if there were any.

        Raises:
            SinkoriginError: one was not.
        """
        missed = set(self.edit.positions) - self._reached
        if self._longest and missed:
            raise SinkoriginError(
                f"{type(self.edit).__name__}: position {min(missed)} was in no pass, the longest had {self._longest} tokens, 0 to "
                f"{self._longest - 1}; choose smaller positions or longer prompts"
            )

    def _targets(self, layer: int, offset: int, length: int, sequences: int) -> Iterator["_Place"]:
        """Where the edited positions are that this call computes."""
        if layer not in self.edit.layers:
            return
        before = self._padding.before
        starts = [0] * sequences if before is None else before
        self._longest = max(self._longest, offset + length - min(starts))
        for number, position in enumerate(self.edit.positions):
            rows = [position + start - offset for start in starts]
            here = [sequence for sequence, row in enumerate(rows) if 0 <= row < length]
            if not here:
                continue
            if before is not None:
                self._check_padding(position, here, sequences)
            self._reached.add(position)
            target = Target(layer, position, number, self._first_sequence, self._moments)
            yield _Place(target, [min(max(row, 0), length - 1) for row in rows], here, starts)

    def _check_padding(self, position: int, here: Sequence[int], sequences: int) -> None:
        """Raise a SinkoriginError where the edit cannot be made at a position of the padded sequences ``here``."""
        name = type(self.edit).__name__
        for sequence in here:
            if position >= self._padding.tokens[sequence]:
                raise SinkoriginError(
                    f"{name}: position {position} is padding in sequence {sequence}, which has {self._padding.tokens[sequence]} "
                    "tokens; choose positions that every sequence has"
                )
        mixes = self.edit.needs_mean or self.edit.mixes(getattr(self.edit, "strength", 1)) > 1
        if mixes and len(here) < sequences:
            raise SinkoriginError(
                f"{name}: position {position} is in {len(here)} of {sequences} sequences of this pass, and a mean over sequences "
                "needs all; choose positions of the prompt, or prompts of one length"
            )

    def edit_logits(self, layer, logits, offset):
        if isinstance(self.edit, AttentionEdit):
            for place in self._targets(layer, offset, logits.shape[2], len(logits)):
                sequences, rows = place.index(logits.device)
                visible = self.edit.visible(place.target.position)
                keys = torch.tensor([[key + start for key in visible] for start in place.starts])
                keys = keys.to(logits.device).unsqueeze(1).expand(-1, logits.shape[1], -1)  # (N, H, K)
                plain = logits[sequences, :, rows]  # (N, H, S)
                lowest = torch.finfo(logits.dtype).min
                if not self.edit.only_hides and (plain.gather(-1, keys)[place.here] <= lowest / 2).any():
                    raise SinkoriginError(
                        f"{self.edit.kind} lets position {place.target.position} attend to {listed(visible)} only, but layer {layer} "
                        "hides that from it, as a sliding window does, or attention that selects its keys; choose another position, or layers "
                        "that show it"
                    )
                seen = torch.full_like(plain, lowest)
                seen.scatter_(-1, keys, plain.gather(-1, keys))
                logits = logits.clone()
                logits[sequences[place.here], :, rows[place.here]] = seen[place.here]
        return logits

    def edit_aggregation(self, layer, aggregation, offset):
        if self.edit.site != "value_aggregation":
            return aggregation
        return self.edit_vectors(layer, aggregation.transpose(1, 2), offset).transpose(1, 2)

    def edit_vectors(self, layer: int, vectors: Tensor, offset: int) -> Tensor:
        """Edit the rows of (N, T, G, w) vectors that are targets; the others are handed on as they are."""
        edit = self.edit
        assert isinstance(edit, VectorEdit)
        for place in self._targets(layer, offset, vectors.shape[1], len(vectors)):
            mixed = edit.mixes(getattr(edit, "strength", 1))
            if len(vectors) < mixed:
                raise SinkoriginError(
                    f"{type(edit).__name__} mixes {mixed} sequences of a batch, but this one has {len(vectors)}; "
                    "run more sequences at once"
                )
            check_numbers(edit, layer, vectors.shape[-1])
            sequences, rows = place.index(vectors.device)
            edited = edit.edited(vectors[sequences, rows], place.target).to(vectors.dtype)  # (N, G, w)
            vectors = vectors.clone()
            vectors[sequences[place.here], rows[place.here]] = edited.expand(len(sequences), -1, -1)[place.here]
        return vectors


@dataclass(frozen=True)
class _Place:
    """Where an edited position is in one call.

    Attributes:
        rows: (N,) its row in each sequence.
        here: sequences that have it in this call; the rows of the others stand for nothing.
        starts: (N,) number of padding tokens before each sequence.
    """

    target: Target
    rows: list[int]
    here: list[int]
    starts: list[int]

    def index(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """(N,) numbers of the sequences, and the row in each."""
        return torch.arange(len(self.rows), device=device), torch.tensor(self.rows, device=device)


class _Clock(Tap):
    """Knows which positions the running forward pass computes, from its attention calls, or its first block's."""

    def __init__(self):
        self.offset = self.length = 0

    def begin(self, block, args, kwargs) -> None:
        """Hook before the first block, for models whose first attention may be in a later one."""
        hidden, cache = first_tensor(args, kwargs), kwargs.get("past_key_values")
        assert hidden is not None
        self.offset, self.length = 0 if cache is None else cache.get_seq_length(), hidden.shape[1]

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
        if 0 not in architecture.attention:
            stack.enter_context(architecture.blocks[0].register_forward_pre_hook(clock.begin, with_kwargs=True))
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
        "output_projection_output",
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
        editable = listed(["value_aggregation", *architecture.places[layer]])
        reason = architecture.missing[layer].get(site, f"the sites to edit there are {editable}")
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


def check_numbers(edit: VectorEdit, layer: int, width: int) -> None:
    """Raise a SinkoriginError when a neuron or dim that an edit names is not one of 0 … width − 1."""
    wrong = [number for number in edit.numbers(layer) if not 0 <= number < width]
    if wrong:
        raise SinkoriginError(
            f"{type(edit).__name__}: layer {layer} has no number {wrong[0]} at the site {edit.site}, which is {width} wide, 0 to "
            f"{width - 1}; choose numbers in that range"
        )
