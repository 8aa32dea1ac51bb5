"""Running what goes beyond single edits: mediation of an edit's effect, interchange of positions, removals from position 0."""

import queue
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from sinkorigin.errors import SinkoriginError, listed
from sinkorigin.interventions.chain import Removal, Structure, exchanged, mediators, removals
from sinkorigin.interventions.context import EditTap
from sinkorigin.interventions.kind import Edit, MeanAndSpread
from sinkorigin.interventions.mediation import Mediator, Patch, Scores, run
from sinkorigin.interventions.moments import estimate_moments
from sinkorigin.interventions.passes import even_batches
from sinkorigin.interventions.replay import Replay
from sinkorigin.sites.architecture import Architecture


@dataclass(frozen=True)
class Cause:
    """An edit whose effect is followed through the chain.

    Attributes:
        name: of the intervention.
        edit: at one position.
    """

    name: str
    edit: Edit


Recorded = Mapping[tuple[str, int], Mapping[int, Tensor]]


@dataclass
class _Batch:
    """One batch, and what its unedited pass had.

    Attributes:
        first: number of its first sequence.
        clean: what the unedited pass shows.
        found: what it had of each mediator at the target and at position 0.
    """

    architecture: Architecture
    ids: Tensor
    first: int
    target: int
    clean: Scores
    found: Recorded

    def patched(self, *patches: Patch, cause: EditTap | None = None) -> Scores:
        """What a pass with patches shows."""
        return run(self.architecture, self.ids, target=self.target, cause=cause, patches=patches)[0]


def mechanism(
    architecture: Architecture,
    token_ids: np.ndarray,
    found: Structure,
    causes: Sequence[Cause],
    *,
    target: int,
    batch: int,
    workers: int = 1,
) -> Iterator[list[dict]]:
    """Every patched pass of every batch.

    Args:
        token_ids: (N, T) ids.
        found: the links of the chain in this model.
        causes: edits at the target.
        target: the position that edits make a sink, and that exchanges with position 0.
        batch: sequences in one forward pass, at most.
        workers: batches that run at the same time, each on one CPU thread; no row depends on it.

    Yields:
        Rows of ``statistics.mediation.PASSES_SCHEMA``, a list a batch.

    Raises:
        SinkoriginError: a cause edits other layers than those whose links are given, or only one sequence fits into a batch.
    """
    for cause in causes:
        if tuple(cause.edit.layers) != tuple(found.edited):
            raise SinkoriginError(
                f"intervention {cause.name} edits layers {listed(cause.edit.layers)}, but {causes[0].name} layers {listed(found.edited)}, and "
                "both are to be followed through the same links; let the causes of mechanism edit the same layers"
            )
    batch = architecture.fitting_batch(batch, token_ids.shape[1])
    parts = even_batches(len(token_ids), batch)
    varied = bool((token_ids[:, 0] != token_ids[0, 0]).any())
    links, swaps, taken = mediators(found), exchanged(found), removals(found, varied=varied)
    if varied and min(part.stop - part.start for part in parts) < 2:
        raise SinkoriginError(
            f"{len(token_ids)} sequences make batches of one, in which position 0 cannot get what another sequence has there; run two or more "
            "sequences at once, or shorter prompts"
        )
    if architecture.eager:  # keys cannot be replaced inside a class's own attention
        links, swaps = ([one for one in some if one.site != "key"] for some in (links, swaps))
    replay = Replay(architecture)
    with replay.active():
        moments = estimate_moments(replay, token_ids, [one.edit for one in causes if one.edit.needs_mean], batch)
    means = _means(architecture, token_ids, parts, target, [one.mediator for one in taken if one.by == "mean"])
    places = [*((one, target) for one in links), *((one, position) for one in swaps for position in (0, target))]
    places += [(one.mediator, position) for one in taken for position in (0, target) if one.by in ("next", "target")]
    workers = architecture.fitting_workers(workers, token_ids.shape[1])
    free: queue.SimpleQueue[Architecture] = queue.SimpleQueue()
    for copy in (architecture, *(architecture.replica() for _ in range(workers - 1))):
        free.put(copy)

    def rows(part: slice) -> list[dict]:
        model = free.get()
        try:
            ids = torch.from_numpy(token_ids[part]).to(model.device)
            clean, recorded = run(model, ids, target=target, record=_once(places))
            here = _Batch(model, ids, part.start, target, clean, recorded)
            return [
                *(row for cause in causes for row in _mediation(here, cause, moments.get(cause.edit), links)),
                *_interchange(here, swaps),
                *_removal(here, taken, means),
            ]
        finally:
            free.put(model)

    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        yield from pool.map(rows, parts)


def _once(places: Sequence[tuple[Mediator, int]]) -> list[tuple[Mediator, int]]:
    """Places by name: a mediator that is recorded for two purposes is recorded once."""
    return list({(one.name, position): (one, position) for one, position in places}.values())


def _means(
    architecture: Architecture, token_ids: np.ndarray, parts: Sequence[slice], target: int, of: Sequence[Mediator]
) -> dict[str, dict[int, Tensor]]:
    """Name of a mediator → layer → (1, w) mean over all sequences of what it has at the target, unedited."""
    sums: dict[str, dict[int, Tensor]] = {}
    for part in parts if of else ():
        ids = torch.from_numpy(token_ids[part]).to(architecture.device)
        _, recorded = run(architecture, ids, target=target, record=_once([(one, target) for one in of]))
        for (name, _), by_layer in recorded.items():
            for layer, values in by_layer.items():
                total = values.double().sum(dim=0, keepdim=True)
                place = sums.setdefault(name, {})
                place[layer] = place[layer] + total if layer in place else total
    return {
        name: {layer: total / len(token_ids) for layer, total in by_layer.items()} for name, by_layer in sums.items()
    }


def _rows(here: _Batch, scores: Scores, **identity) -> list[dict]:
    blank = dict.fromkeys(("cause", "kind", "strength", "mediator", "control_of"), None)
    return [
        {
            **blank, "layers": [], "mediator_layers": [], "target": here.target, **identity, "sequence": here.first + number,
            **{name: float(values[number]) for name, values in vars(scores).items()},
        }
        for number in range(len(scores.score))
    ]  # fmt: skip


def _mediation(here: _Batch, cause: Cause, moments: MeanAndSpread | None, links: Sequence[Mediator]) -> Iterator[dict]:
    edit = cause.edit
    tap = EditTap(edit, moments, here.first)
    named = {
        "cause": cause.name, "kind": edit.kind, "strength": getattr(edit, "strength", 1.0), "layers": list(edit.layers),
    }  # fmt: skip
    yield from _rows(here, here.clean, direction="none", **named)
    places = [(one, here.target) for one in links]
    edited, under = run(here.architecture, here.ids, target=here.target, cause=tap, record=places)
    yield from _rows(here, edited, direction="all", **named)
    for link in links:
        place = (link.name, here.target)
        for direction, values, given in (("restored", here.found, tap), ("inserted", under, None)):
            shown = here.patched(Patch(link, here.target, values[place]), cause=given)
            facts = {"mediator": link.name, "mediator_layers": list(link.layers)}
            yield from _rows(here, shown, direction=direction, **facts, **named)


def _interchange(here: _Batch, swaps: Sequence[Mediator]) -> Iterator[dict]:
    yield from _rows(here, here.clean, direction="none")
    for one in swaps:
        facts = {"mediator": one.name, "mediator_layers": list(one.layers)}
        for direction, source, place in (
            ("first into target", 0, here.target), ("target into first", here.target, 0),
        ):  # fmt: skip
            shown = here.patched(Patch(one, place, here.found[one.name, source]))
            yield from _rows(here, shown, direction=direction, **facts)


def _removal(here: _Batch, taken: Sequence[Removal], means: Mapping[str, Mapping[int, Tensor]]) -> Iterator[dict]:
    for one in taken:
        shown = here.patched(Patch(one.mediator, 0, _in_its_place(here, one, means)))
        facts = {"mediator": one.name, "mediator_layers": list(one.mediator.layers), "control_of": one.control_of}
        yield from _rows(here, shown, direction="removed", **facts)


def _in_its_place(here: _Batch, removal: Removal, means: Mapping[str, Mapping[int, Tensor]]) -> dict[int, Tensor]:
    """Layer → (N, w) vectors that take the place of what position 0 has."""
    one = removal.mediator
    if removal.by == "mean":
        return {layer: mean.expand(len(here.ids), -1) for layer, mean in means[one.name].items()}
    if removal.by == "zero":
        return dict.fromkeys(one.layers, torch.zeros(()))
    source = here.found[one.name, 0 if removal.by == "next" else here.target]
    return {layer: values.roll(-1, dims=0) if removal.by == "next" else values for layer, values in source.items()}
