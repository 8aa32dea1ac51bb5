"""What must hold for a model to be measured here, tried on one: nothing that is found may be anything but the model's own."""

from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from sinkorigin.activations.capture import watch_sites
from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions.context import applied
from sinkorigin.interventions.kind import Edit, kind_named
from sinkorigin.interventions.replay import Replay
from sinkorigin.sites.architecture import Architecture, read_architecture
from sinkorigin.sites.block import Lacking
from sinkorigin.support.tiny import VOCABULARY

SEQUENCES, LENGTH, TARGET = 4, 12, 5
# sites that are inputs or outputs of modules, and those inside the attention function
MODULE_SITES = ("residual", "attention_input", "attention_output", "ffn_input", "ffn_activation", "ffn_output")
ATTENTION_SITES = ("query", "key", "attention", "value_aggregation")
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Trial:
    """What the checks say of a model that can be measured.

    Attributes:
        lacking: what some layers lack, in words, each with its reason.
        attends: number of layers with attention; layers: of all.
        eager: whether the attention is seen in the class's own eager attention.
        partial: whether edited passes run from the edited layer and position on; else they run in full.
    """

    lacking: tuple[str, ...]
    attends: int
    layers: int
    eager: bool
    partial: bool


def try_model(model: PreTrainedModel, name: str, vocabulary: int = VOCABULARY) -> Trial:
    """Try capture, recombination, the attention, the mask and a partial pass on a float32 model with eager attention.

    Args:
        vocabulary: number of its tokens; the first half is used, because special tokens may be in the other.

    Raises:
        SinkoriginError: the model is refused, or something that is found is not the model's own.
    """
    architecture = read_architecture(model, name)
    generator = torch.Generator().manual_seed(1)
    token_ids = torch.randint(3, vocabulary // 2, (SEQUENCES, LENGTH), generator=generator)
    architecture.check_against_eager(token_ids, name)
    with torch.no_grad():
        plain = model(input_ids=token_ids, use_cache=False).logits
    seen, logits = _captured(architecture, token_ids)
    off = _off(logits, plain)
    _require(off < _TOLERANCE, name, f"logits with taps are not those without (relative difference {off:.2g})")
    _check_sums(architecture, seen, name)
    _check_projection(architecture, seen, name)
    lacking = _lacking(architecture)
    if off:
        lacking.append(
            f"equality to the bit (logits with taps differ by rounding from eager ones, {off:.0e} of the largest)"
        )
    try:
        masked, _ = _captured(
            architecture, token_ids, kind_named("mask")(layers=list(architecture.attention), positions=[TARGET])
        )
    except SinkoriginError as error:  # the edit cannot be made, and says so
        lacking.append(f"the mask ({error})")
    else:
        _check_mask(architecture, masked, seen, name)
    _check_aggregation(architecture, token_ids, seen, name)
    return Trial(
        lacking=tuple(lacking),
        attends=len(architecture.attention),
        layers=architecture.layers,
        eager=architecture.eager,
        partial=_partial(architecture, token_ids),
    )


Seen = dict[tuple[int, str], Tensor]


def _captured(architecture: Architecture, token_ids: Tensor, *edits: Edit) -> tuple[Seen, Tensor]:
    """Every site of every layer, (N, T, width), and the logits (N, T, V), under these edits."""
    seen: Seen = {}

    def see(layer: int, site: str, values: Tensor) -> None:
        seen[layer, site] = values.detach().reshape(*token_ids.shape, -1).clone()

    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(applied(architecture, *edits))
        stack.enter_context(watch_sites(architecture, (*MODULE_SITES, *ATTENTION_SITES), see))
        for layer, made in enumerate(architecture.sums):
            for number, call in enumerate(() if isinstance(made, Lacking) else made.others):
                stack.callback(call.place("output").hook(partial(see, layer, f"other {number}")).remove)
        logits = architecture.model(input_ids=token_ids, use_cache=False).logits
    return seen, logits


def _require(holds: bool, name: str, what: str) -> None:
    if not holds:
        raise SinkoriginError(f"model {name}: {what}; choose another model")


def _off(found: Tensor, expected: Tensor) -> float:
    """Largest difference relative to the largest number."""
    return ((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30)).item()


def _check_sums(architecture: Architecture, seen: Seen, name: str) -> None:
    """Check that x + attention + FFN is the next residual stream, in other tokens than the probe's."""
    for layer, made in enumerate(architecture.sums):
        if isinstance(made, Lacking):
            continue
        parts = [seen[layer, site] for site in ("attention_output", "ffn_output") if (layer, site) in seen]
        parts += [seen[layer, f"other {number}"] for number in range(len(made.others))]
        found = seen[layer - 1, "residual"]
        with torch.no_grad():
            if len(made.norms) == 2:
                for norm, part in zip(made.norms, parts, strict=True):
                    found = norm.module(found + part)
            else:
                found = sum(parts, found)
                for norm in made.norms:
                    found = norm.module(found)
        _require(
            _off(found, seen[layer, "residual"]) < _TOLERANCE,
            name,
            f"the sites of layer {layer} do not add up to the residual stream that leaves it",
        )


def _check_projection(architecture: Architecture, seen: Seen, name: str) -> None:
    """Check that the value aggregation enters W_O."""
    for layer, projections in enumerate(architecture.projections):
        if "output" in projections:
            inputs = projections["output"].weight().shape[1]
            _require(
                seen[layer, "value_aggregation"].shape[-1] == inputs,
                name,
                f"W_O of layer {layer} does not take the value aggregation",
            )


def _check_mask(architecture: Architecture, masked: Seen, seen: Seen, name: str) -> None:
    """Check that under the mask a position attends to itself only, and nothing before it moves."""
    for layer in architecture.attention:
        row = masked[layer, "attention"][:, TARGET].reshape(SEQUENCES, -1, LENGTH)  # (N, H, T)
        itself = row[..., TARGET]
        others = row.sum(-1) - itself
        sums = architecture.rows_sum_to_one[layer]
        _require(
            bool(others.abs().max() < _TOLERANCE and (not sums or (itself - 1).abs().max() < _TOLERANCE)),
            name,
            f"the mask does not let a position of layer {layer} attend to itself only",
        )
    _check_moved(architecture, masked, seen, name, "the mask")


def _check_moved(architecture: Architecture, edited: Seen, seen: Seen, name: str, edit: str) -> None:
    """Check that an edit of position ``TARGET`` moves the residual stream from there on, and nowhere before."""
    moved = False
    for layer in range(architecture.layers):
        new, old = edited[layer, "residual"], seen[layer, "residual"]
        _require(
            _off(new[:, :TARGET], old[:, :TARGET]) < _TOLERANCE,
            name,
            f"{edit} of position {TARGET} moves earlier positions in layer {layer}",
        )
        moved = moved or not torch.equal(new[:, TARGET:], old[:, TARGET:])
    _require(moved, name, f"{edit} changes nothing")


def _check_aggregation(architecture: Architecture, token_ids: Tensor, seen: Seen, name: str) -> None:
    """Check that an edit of the value aggregation goes on into the residual stream."""
    averaging: Any = kind_named("value_averaging")
    edit = averaging(layers=list(architecture.attention), positions=[TARGET], strength=SEQUENCES)
    edited, _ = _captured(architecture, token_ids, edit)
    first = min(architecture.attention)
    before = seen[first, "value_aggregation"][:, TARGET]
    _require(
        _off(edited[first, "value_aggregation"][:, TARGET], before.mean(dim=0, keepdim=True).expand_as(before))
        < _TOLERANCE,
        name,
        "an edited value aggregation is not what the attention returns",
    )
    _check_moved(architecture, edited, seen, name, "an edit of the value aggregation")


def _partial(architecture: Architecture, token_ids: Tensor) -> bool:
    """Whether a pass from a layer and position on ends where a full one does; else every edit runs in full."""
    replay = Replay(architecture)
    with replay.active(), architecture.tapped():
        return replay.check(token_ids, layer=architecture.layers // 2, position=TARGET)


def _lacking(architecture: Architecture) -> list[str]:
    """What some layers lack, in words: ``W_O in 4 of 4 layers (reason)``; layers without attention are one entry."""
    layers: dict[tuple[str, str], list[int]] = defaultdict(list)
    words = {"output": "W_O", **{site: site for site in (*MODULE_SITES, *ATTENTION_SITES)}}
    for layer, missing in enumerate(architecture.missing):
        if layer not in architecture.attention:
            layers["attention", missing["attention"]].append(layer)
            missing = {part: missing[part] for part in missing if part.startswith("ffn")}
        for part, reason in missing.items():
            if part in words:
                layers[words[part], reason].append(layer)
    groups: dict[tuple[str, tuple[int, ...]], list[str]] = defaultdict(list)
    for (part, reason), where in layers.items():
        groups[reason, tuple(where)].append(part)
    return [
        f"{', '.join(parts)} in {len(where)} of {architecture.layers} layers ({reason})"
        for (reason, where), parts in groups.items()
    ]
