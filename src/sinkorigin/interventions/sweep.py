"""Running many edits over one prompt set, each no further than it can change anything, and reading out what they do."""

import queue
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions.context import EditTap, applied, edited_layers
from sinkorigin.interventions.kind import BASELINE, Edit
from sinkorigin.interventions.logits import add_following, logit_blocks
from sinkorigin.interventions.moments import estimate_moments
from sinkorigin.interventions.output import Losses, baseline_losses, edited_losses, writing
from sinkorigin.interventions.passes import Pass, Passes, even_batches
from sinkorigin.interventions.readout import EditedReadout, Shown, UneditedReadout, reading, reading_residuals
from sinkorigin.interventions.replay import Replay
from sinkorigin.sites.architecture import Architecture


@dataclass(frozen=True)
class Sweep:
    """The edits of one folder of tables.

    Attributes:
        intervention: its name, for the tables and messages.
        edits: what is done, one after the other.
        calibration: number of the last sequences of the prompt set over which means are taken; 0 takes those that run.
    """

    intervention: str
    edits: Sequence[Edit]
    calibration: int = 0


def measure_baseline(
    architecture: Architecture,
    token_ids: np.ndarray,
    folder: Path,
    *,
    targets: Sequence[int],
    model: str,
    batch: int,
    losses: bool = False,
) -> None:
    """Run the prompts unedited, and write what happens at ``targets``: the tables that :func:`run_sweeps` writes of edits.

    Args:
        token_ids: (N, T) ids.
        model: its name, for messages.
        batch: sequences in one forward pass, at most; long ones run fewer at a time, so that memory is bounded.
        losses: whether the language-model head runs, and losses are read.

    Raises:
        SinkoriginError: a target is not there, a residual or attention that is not finite, or taps that do not see what the
            model computes by itself.
    """
    targets = sorted(set(targets))
    _check_targets(targets, token_ids.shape[1], BASELINE)
    batch = _fitting_batch(architecture, token_ids, batch)
    replay = Replay(architecture)
    architecture.check_against_eager(torch.from_numpy(token_ids[:1]).to(replay.device), model)
    with replay.active(), architecture.tapped(), writing(folder, BASELINE, losses=losses) as output:
        for part in even_batches(len(token_ids), batch):
            ids = torch.from_numpy(token_ids[part]).to(replay.device)
            readout = UneditedReadout(targets, ids.shape[1])
            with reading(replay, readout):
                replay.unedited(ids)
            before = readout.before()
            _check_finite(before.norms, before.laters, model, BASELINE, None)
            read = {}
            if losses:
                following = torch.empty(ids[:, 1:].shape, device=ids.device)
                for block in logit_blocks(replay, ids, replay.last):
                    add_following(following, ids, block)
                    del block  # before the next one is computed
                read = {k: baseline_losses(following, k) for k in targets}
            output.add(None, part.start, before.shown(), read)


def run_sweeps(
    architecture: Architecture,
    token_ids: np.ndarray,
    sweeps: Mapping[Path, Sweep],
    *,
    sequences: int,
    model: str,
    batch: int,
    losses: bool = False,
    workers: int = 1,
    scratch: Path,
    folder_of: Callable[[Path], AbstractContextManager[Path]] = nullcontext,
) -> None:
    """Run the prompts under every edit and write what happens at its positions, from one unedited pass of every batch.

    Args:
        token_ids: (M, T) ids; the first ``sequences`` of them are run.
        sweeps: folder → the edits whose tables it gets: ``scores``, ``residuals``, ``positions`` and, with ``losses``,
            ``losses``; see ``SCHEMAS``.
        model: its name, for messages.
        batch: sequences in one forward pass, at most; long ones run fewer at a time, so that memory is bounded.
        losses: whether the language-model head runs, and loss and divergence are read.
        workers: sweeps that run at the same time, each on one CPU thread; no byte of a table depends on it.
        scratch: an existing folder for what the unedited passes leave: keys and values of all layers, and the residual where
            edits begin.
        folder_of: for a key of ``sweeps``, a context in which its folder is made.

    Raises:
        SinkoriginError: a layer or target is not there, too few sequences for what the edits mix, a residual or attention
            that is not finite, or taps that do not see what the model computes by itself (see
            :meth:`Architecture.check_against_eager`, which runs the first sequence twice).
    """
    run = token_ids[:sequences]
    workers = architecture.fitting_workers(workers, run.shape[1])
    edits = [edit for sweep in sweeps.values() for edit in sweep.edits]
    mixed = max((edit.mixes(getattr(edit, "strength", 1)) for edit in edits), default=1)
    batch = _fitting_batch(architecture, run, batch, mixed)
    for sweep in sweeps.values():
        _check(sweep, run, architecture, batch, model)
    # each worker has a copy of the modules, on which it sets its edits; the weights are shared
    replays = [Replay(copy) for copy in (architecture, *(architecture.replica() for _ in range(workers - 1)))]
    architecture.check_against_eager(torch.from_numpy(run[:1]).to(replays[0].device), model)
    free: queue.SimpleQueue[Replay] = queue.SimpleQueue()
    with ExitStack() as stack:
        for replay in replays:
            stack.enter_context(replay.active())
            stack.enter_context(replay.architecture.tapped())  # set and reset once, not for every pass
            free.put(replay)
        exact = _is_exact(replays[0], run, edits, model)
        for replay in replays:
            replay.exact = exact
        passes = Passes(run, edits, replays[0], batch=batch, losses=losses, folder=scratch)
        stack.enter_context(threadpool_limits(1, user_api="blas"))
        pool = stack.enter_context(ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)))

        def make(number: int) -> None:
            with _taken(free) as replay:
                passes.make(replay, number)

        def go(path: Path) -> None:
            with _taken(free) as replay, folder_of(path) as folder:
                _sweep(replay, passes, sweeps[path], folder, token_ids, model)

        _finish(pool.submit(make, number) for number in range(len(passes.batches)))
        # the largest first, so that all workers end at about the same time
        _finish(pool.submit(go, path) for path in sorted(sweeps, key=lambda path: -len(sweeps[path].edits)))


def _fitting_batch(architecture: Architecture, token_ids: np.ndarray, batch: int, mixed: int = 1) -> int:
    """Number of sequences that run together: fewer than ``batch`` where they are long, but as many as edits mix.

    Two at least, because keys are compared with the next sequence's of the batch.
    """
    count, length = token_ids.shape
    fitting = architecture.fitting_batch(batch, length)
    while fitting < batch and _smallest(count, fitting) < max(mixed, 2):
        fitting += 1
    return fitting


def _smallest(sequences: int, batch: int) -> int:
    """Sequences in the smallest batch."""
    return min(part.stop - part.start for part in even_batches(sequences, batch))


@contextmanager
def _taken(free: "queue.SimpleQueue[Replay]") -> Iterator[Replay]:
    replay = free.get()
    try:
        yield replay
    finally:
        free.put(replay)


def _finish(started: Iterable[Future]) -> None:
    """Wait for all; after an error or an interruption, those that have not begun are left out and it is raised."""
    futures = list(started)
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
    finally:
        for future in futures:
            future.cancel()
    for future in futures:
        if not future.cancelled():
            future.result()


def _check_targets(targets: Sequence[int], length: int, intervention: str) -> None:
    if targets and max(targets) >= length - 1:
        raise SinkoriginError(
            f"intervention {intervention}: target position {max(targets)} has no later query in prompts of {length} tokens; "
            "choose a smaller position or longer prompts"
        )


def _check(sweep: Sweep, token_ids: np.ndarray, architecture: Architecture, batch: int, model: str) -> None:
    """Raise a SinkoriginError for an edit that cannot be run on (N, T) ids in a model."""
    sequences, length = token_ids.shape
    named = f"intervention {sweep.intervention}"
    smallest = _smallest(sequences, batch)
    for edit in sweep.edits:
        edited_layers(architecture, edit, model, f"{named}: layers")
    _check_targets([k for edit in sweep.edits for k in edit.positions], length, sweep.intervention)
    for edit in sweep.edits:
        mixed = edit.mixes(getattr(edit, "strength", 1))
        if mixed > smallest:
            raise SinkoriginError(
                f"{named}: {edit.kind} mixes {mixed} sequences of a batch, but batches have {smallest}; "
                "raise activations.batch or the number of sequences, or lower the strength"
            )
        over = sweep.calibration or sequences
        if edit.needs_mean and over < 2:
            raise SinkoriginError(
                f"{named}: a mean over sequences needs at least 2, it has {over}; raise sequences or calibration"
            )


def _is_exact(replay: Replay, token_ids: np.ndarray, edits: Sequence[Edit], model: str) -> bool:
    """Whether partial passes are exact in this model, tried on two sequences; it is printed where they are not."""
    if not edits:
        return replay.exact
    layer = min(min(edit.layers) for edit in edits)
    # the lowest that leaves something to be read from what was kept
    position = min({edit.positions[0] for edit in edits} - {0}, default=0)
    if not replay.check(torch.from_numpy(token_ids[:2]).to(replay.device), layer=layer, position=position):
        print(f"{model}: partial passes do not reproduce full ones, so every edit runs in full")
    return replay.exact


def _sweep(replay: Replay, passes: Passes, sweep: Sweep, folder: Path, prompts: np.ndarray, model: str) -> None:
    """Run all batches under every edit of a sweep, and write its tables; calibrations take the last of the prompts."""
    moving = [edit for edit in sweep.edits if edit.needs_mean]
    if sweep.calibration:
        moments = estimate_moments(replay, prompts[-sweep.calibration :], moving, passes.batch)
    else:
        moments = estimate_moments(replay, passes.token_ids, moving, passes.batch, passes)
    with writing(folder, sweep.intervention, losses=passes.losses) as output:
        for number, part in enumerate(passes.batches):
            unedited = passes.take(replay, number)
            before = unedited.before
            _check_finite(before.norms, before.laters, model, sweep.intervention, None)
            for edit in sweep.edits:
                tap = EditTap(edit, moments.get(edit), part.start)
                shown, read = _edited(replay, unedited, tap, losses=passes.losses)
                strength = getattr(edit, "strength", 1.0)
                _check_finite(shown.norms, shown.columns, model, sweep.intervention, strength)
                output.add(edit, part.start, shown, read)


def _edited(replay: Replay, kept: Pass, tap: EditTap, *, losses: bool) -> tuple[Shown, dict[int, Losses]]:
    """Run one batch under one edit."""
    unedited, edit, (layer, position) = kept.unedited, tap.edit, replay.begin(tap.edit)
    first, last, final = edit.positions[0], edit.positions[-1], replay.architecture.layers - 1
    last_residual = None  # the (N, T − position, d) residual that leaves the last layer, where losses are read from it
    if edit.changes_nothing:
        shown = kept.before.shown(edit.positions)
    else:
        readout = EditedReadout(kept.before, edit.positions)
        with applied(replay.architecture, tap, computes=replay.computes), reading_residuals(replay, readout, position):
            rest = None  # the residual that enters the last layer, where that layer's attention alone has been run
            with replay.architecture.tapped(readout):
                if not replay.exact or (losses and layer == final):
                    replay.edited(unedited, layer=layer, position=position)
                    last_residual = replay.last
                else:
                    rows = replay.edited_rows(unedited, layer=layer, first=position, last=last)
                    if rows is not None and losses:
                        replay.edited_to_end(unedited, layer=layer + 1, first=position, rows=rows)
                        last_residual = replay.last
                    elif rows is not None:
                        rest = replay.edited_attention(unedited, layer=layer + 1, first=position, rows=rows)
            if rest is not None:
                replay.edited_rows(unedited, layer=final, first=position, last=last, enter=rest)
        shown = readout.shown()
    if not losses:
        return shown, {}
    if last_residual is None:
        assert kept.following is not None
        return shown, {first: baseline_losses(kept.following, first)}
    blocks = logit_blocks(replay, unedited.token_ids[:, position:], last_residual)
    return shown, {first: edited_losses(kept, blocks, position, first)}


def _check_finite(norms: Tensor, attention: Tensor, model: str, intervention: str, strength: float | None) -> None:
    """Raise a SinkoriginError where the residual at a target, or the attention on any position, is not finite."""
    for site, values in (("residual", norms), ("attention", attention)):
        if not torch.isfinite(values).all():
            remedy = "use dtype: float32" if strength is None else "lower the strength, or use dtype: float32"
            raise SinkoriginError(
                f"model {model}, intervention {intervention}, strength {strength}: the {site} is not finite; {remedy}"
            )
