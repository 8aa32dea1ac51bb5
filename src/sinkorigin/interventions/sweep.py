"""Running many edits over one prompt set, each no further than it can change anything, and reading out what they do."""

import math
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions.context import applied
from sinkorigin.interventions.edits import Edit, VectorEdit, check_layers, layer_text
from sinkorigin.interventions.moments import estimate_moments
from sinkorigin.interventions.passes import Passes, even_batches
from sinkorigin.interventions.points import Point
from sinkorigin.interventions.readout import Before, EditedReadout, Shown, reading
from sinkorigin.interventions.replay import Replay, Unedited
from sinkorigin.sites.architecture import Architecture

POINT = {
    "intervention": (pa.string(), "name of the intervention in the config; baseline for the unedited model"),
    "kind": (pa.string(), "kind of the edit, see docs/science.md; baseline for the unedited model"),
    "strength": (pa.float64(), "lambda; 1 for kinds that have none; null for the baseline"),
    "mean_factor": (pa.float64(), "alpha, what the mean is multiplied with; null unless mean_and_deviation"),
    "site": (pa.string(), "edited site; null for the baseline"),
    "layers": (pa.string(), "edited layers, counted from 0"),
    "positions": (pa.string(), "positions that are edited at once; for the baseline the target alone"),
}
_TARGET = (pa.int32(), "position of the readout, one of positions")
_SEQUENCE = (pa.int32(), "number of the sequence in the prompt table")
_LAYER = (pa.int32(), "layer of the readout, counted from 0")

SCORES_SCHEMA = tables.schema(
    **POINT,
    target=_TARGET,
    sequence=_SEQUENCE,
    layer=_LAYER,
    head=(pa.int32(), "query head"),
    score=(pa.float32(), "mean attention weight on the target over queries q > target"),
    first_score=(pa.float32(), "mean attention weight on position 0 over queries q > 0"),
)

RESIDUALS_SCHEMA = tables.schema(
    **POINT,
    target=_TARGET,
    sequence=_SEQUENCE,
    layer=_LAYER,
    norm=(pa.float32(), "norm of the residual leaving the layer at the target"),
    dominance_ratio=(pa.float32(), "max / mean of its absolute values over dims"),
    key_cosine=(
        pa.float32(),
        "cosine of the target's key and that of the batch's next sequence, mean over key heads; null in a batch of one",
    ),
)

POSITIONS_SCHEMA = tables.schema(
    **POINT,
    layer=_LAYER,
    position=(pa.int32(), "key position j"),
    score=(
        pa.float64(),
        "mean attention weight on j over queries q > j, heads and sequences; null at the last position",
    ),
)

LOSSES_SCHEMA = tables.schema(
    **POINT,
    target=(pa.int32(), "first of the edited positions: losses are read from here on"),
    sequence=_SEQUENCE,
    loss=(pa.float32(), "mean over q >= target of -log p(token q + 1), in nats"),
    baseline_loss=(pa.float32(), "the same of the unedited model"),
    divergence=(pa.float32(), "mean over q >= target of KL(unedited || edited) of the next token, in nats"),
)

SCHEMAS = {
    "scores": SCORES_SCHEMA,
    "residuals": RESIDUALS_SCHEMA,
    "positions": POSITIONS_SCHEMA,
    "losses": LOSSES_SCHEMA,
}

BASELINE = "baseline"


@dataclass
class _Losses:
    """What the logits of one pass of one batch say, from a position on."""

    loss: Tensor  # (N,)
    baseline_loss: Tensor  # (N,)
    divergence: Tensor  # (N,)


def _losses(token_ids: Tensor, unedited: Tensor | None, edited: Tensor | None, first: int) -> _Losses:
    """Mean loss and divergence over q >= first of (N, T, V) unedited and (N, Q, V) edited logits, Q >= T − first."""
    assert unedited is not None
    after = token_ids[:, first + 1 :].unsqueeze(-1)  # (N, P, 1) the tokens that are predicted

    def log_probabilities(logits: Tensor) -> Tensor:
        return torch.log_softmax(logits[:, logits.shape[1] - (token_ids.shape[1] - first) : -1].float(), dim=-1)

    before = log_probabilities(unedited)
    baseline = -before.gather(-1, after).mean(dim=(1, 2))
    if edited is None:
        return _Losses(baseline, baseline, torch.zeros_like(baseline))
    now = log_probabilities(edited)
    divergence = torch.nn.functional.kl_div(now, before, reduction="none", log_target=True).sum(dim=-1)
    return _Losses(-now.gather(-1, after).mean(dim=(1, 2)), baseline, divergence.mean(dim=1))


class _Output:
    """The tables of one folder, written as batches come."""

    def __init__(self, folder: Path, stack: ExitStack, intervention: str, losses: bool):
        names = ["scores", "residuals", "positions", *(["losses"] if losses else [])]
        self._writers: dict[str, pq.ParquetWriter] = {
            name: stack.enter_context(tables.table_writer(folder / f"{name}.parquet", SCHEMAS[name])) for name in names
        }
        self._intervention = intervention
        self._columns: dict[int, tuple[Tensor, int, Point | None]] = {}

    def _point(self, point: Point | None, positions: Sequence[int]) -> dict[str, object]:
        return {
            "intervention": self._intervention,
            "kind": BASELINE if point is None else point.kind,
            "strength": None if point is None else point.strength,
            "mean_factor": None if point is None else point.mean_factor,
            "site": None if point is None else edited_site(point),
            "layers": "" if point is None else layer_text(point.layers),
            "positions": ",".join(map(str, positions)),
        }

    def _write(self, name: str, point: Mapping[str, object], columns: Mapping[str, np.ndarray]) -> None:
        """Rows of one table, a point of the columns' common shape each, in C order; NaN becomes null."""
        schema = SCHEMAS[name]
        arrays = {key: np.asarray(value) for key, value in columns.items()}
        shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
        rows = math.prod(shape)
        first = pa.array(np.zeros(rows, dtype=np.int32))
        out = [
            pa.array([point[column.name]], type=column.type).take(first)
            if column.name in point
            else pa.array(np.broadcast_to(arrays[column.name], shape).reshape(-1), type=column.type, from_pandas=True)
            for column in schema
        ]
        # one row group, so that all heads of a sequence stand in it
        self._writers[name].write_batch(pa.record_batch(out, schema=schema), row_group_size=max(rows, 1))

    def add(self, point: Point | None, first: int, shown: Shown, losses: Mapping[int, _Losses]) -> None:
        """Rows of one batch that begins with sequence ``first``."""
        scores, firsts = shown.scores.cpu().numpy(), shown.firsts.cpu().numpy()
        of_target = {
            name: values.cpu().numpy()
            for name, values in (
                ("norm", shown.norms), ("dominance_ratio", shown.ratios), ("key_cosine", shown.cosines),
            )
        }  # fmt: skip
        sequences, depth, count = firsts.shape
        numbers = np.arange(first, first + sequences, dtype=np.int32)
        layers, heads = np.arange(depth, dtype=np.int32), np.arange(count, dtype=np.int32)
        for i, target in enumerate(shown.targets):
            own = self._point(point, [target] if point is None else point.positions)
            targeted = np.array(target, dtype=np.int32)
            self._write(
                "scores", own,
                {
                    "target": targeted, "sequence": numbers[:, None, None], "layer": layers[:, None], "head": heads,
                    "score": scores[..., i], "first_score": firsts,
                },
            )  # fmt: skip
            values = {name: value[..., i] for name, value in of_target.items()}
            self._write("residuals", own, {"target": targeted, "sequence": numbers[:, None], "layer": layers, **values})
        for target, lost in losses.items():
            own = self._point(point, [target] if point is None else point.positions)
            values = {name: value.cpu().numpy() for name, value in vars(lost).items()}
            self._write("losses", own, {"target": np.array(target, dtype=np.int32), "sequence": numbers, **values})
        columns = shown.columns.cpu()  # (L, T)
        key = 0 if point is None else id(point)
        total, rows, _ = self._columns.get(key, (torch.zeros_like(columns), 0, None))
        self._columns[key] = total + columns, rows + count * sequences, point

    def close(self) -> None:
        """Write what was summed over all batches."""
        for total, count, point in self._columns.values():
            depth, length = total.shape
            later = np.arange(length - 1, -1, -1)  # queries after the key
            with np.errstate(divide="ignore", invalid="ignore"):
                score = np.where(later > 0, total.numpy() / (count * later), np.nan)
            self._write(
                "positions", self._point(point, () if point is None else point.positions),
                {
                    "layer": np.arange(depth, dtype=np.int32)[:, None], "position": np.arange(length, dtype=np.int32),
                    "score": score,
                },
            )  # fmt: skip


def edited_site(point: Point) -> str:
    """The site that a point edits, as the tables call it."""
    return {"mask": "attention", "super_neuron_ablation": "ffn_activation", "dominating_dims": "residual"}.get(
        point.kind, point.site
    )


@dataclass(frozen=True)
class Sweep:
    """The edits of one folder of tables.

    Attributes:
        intervention: its name, for the tables and messages.
        points: the edits.
        calibration: number of the last sequences of the prompt set over which means are taken; 0 takes those that run.
    """

    intervention: str
    points: Sequence[Point]
    calibration: int = 0


def sweep(
    architecture: Architecture,
    token_ids: np.ndarray,
    folders: Mapping[Path, Sequence[Point]],
    *,
    model: str,
    intervention: str,
    batch: int,
    losses: bool = False,
    calibration: np.ndarray | None = None,
    seed: int = 0,
    targets: Sequence[int] = (),
) -> None:
    """Run the prompts under every point and write what happens at its targets, one folder of tables a group of points.

    Args:
        token_ids: (N, T) ids.
        folders: folder → the points whose tables it gets: ``scores``, ``residuals``, ``positions`` and, with
            ``losses``, ``losses``; see ``SCHEMAS``. A folder without points gets the unedited model at ``targets``.
        model, intervention: names, for the tables and messages.
        batch: sequences in one forward pass; it bounds memory.
        losses: whether the language-model head runs, and loss and divergence are read.
        calibration: (M, T) other ids, over which means are taken; by default ``token_ids`` themselves.
        seed: of random directions.

    Raises:
        SinkoriginError: a layer or target is not there, too few sequences for what the edits mix, a residual or attention
            that is not finite, or taps that do not see what the model computes by itself (see
            :meth:`Architecture.check_against_eager`, which runs the first sequence twice).
    """
    points = [point for own in folders.values() for point in own]
    _check_points(points, token_ids, calibration, targets, architecture.layers, batch, model, intervention)
    replay = Replay(architecture)
    architecture.check_against_eager(torch.from_numpy(token_ids[:1]).to(replay.device), model)
    with replay.active(), architecture.tapped():  # set and reset once, not for every pass
        _check_replay(replay, token_ids, points, model)
        passes = Passes(
            token_ids,
            points,
            batch=batch,
            depth=architecture.layers,
            exact=replay.exact,
            logits=losses,
            targets=targets,
        )
        _sweep(replay, passes, folders, model, intervention, losses, calibration, seed)


def sweep_all(
    architecture: Architecture,
    token_ids: np.ndarray,
    sweeps: Mapping[Path, Sweep],
    *,
    sequences: int,
    model: str,
    batch: int,
    losses: bool = False,
    seed: int = 0,
    workers: int = 1,
    scratch: Path,
    folder_of: Callable[[Path], AbstractContextManager[Path]] = nullcontext,
) -> None:
    """Make many folders of tables, see :func:`sweep`, from one unedited pass of every batch.

    Args:
        token_ids: (M, T) ids; the first ``sequences`` of them are run.
        sweeps: folder → the edits whose tables it gets.
        workers: sweeps that run at the same time, each on one CPU thread; no byte of a table depends on it.
        scratch: an existing folder for what the unedited passes leave: keys and values of all layers, and the residual where
            edits begin.
        folder_of: for a key of ``sweeps``, a context in which its folder is made.

    Raises:
        SinkoriginError: as :func:`sweep`.
    """
    run = token_ids[:sequences]
    points = [point for sweep in sweeps.values() for point in sweep.points]
    means = {folder: token_ids[-own.calibration :] if own.calibration else None for folder, own in sweeps.items()}
    for folder, own in sweeps.items():
        _check_points(own.points, run, means[folder], (), architecture.layers, batch, model, own.intervention)
    # each worker has modules of its own, on which it sets its edits; the weights are shared
    replays = [Replay(own) for own in (architecture, *(architecture.replica() for _ in range(workers - 1)))]
    architecture.check_against_eager(torch.from_numpy(run[:1]).to(replays[0].device), model)
    free: queue.SimpleQueue[Replay] = queue.SimpleQueue()
    with ExitStack() as stack:
        for replay in replays:
            stack.enter_context(replay.active())
            stack.enter_context(replay.architecture.tapped())
            free.put(replay)
        _check_replay(replays[0], run, points, model)
        for replay in replays:
            replay.exact = replays[0].exact
        passes = Passes(
            run, points, batch=batch, depth=architecture.layers, exact=replays[0].exact, logits=losses, folder=scratch
        )
        stack.enter_context(threadpool_limits(1, user_api="blas"))
        pool = stack.enter_context(ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)))

        def make(number: int) -> None:
            with _taken(free) as replay:
                passes.make(replay, number)

        def go(folder: Path) -> None:
            own = sweeps[folder]
            with _taken(free) as replay, folder_of(folder) as made:
                _sweep(replay, passes, {made: own.points}, model, own.intervention, losses, means[folder], seed)

        _finish(pool.submit(make, number) for number in range(len(passes.batches)))
        # the largest first, so that all workers end at about the same time
        _finish(pool.submit(go, folder) for folder in sorted(sweeps, key=lambda folder: -len(sweeps[folder].points)))


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


def _check_points(
    points: Sequence[Point],
    token_ids: np.ndarray,
    calibration: np.ndarray | None,
    targets: Sequence[int],
    depth: int,
    batch: int,
    model: str,
    intervention: str,
) -> None:
    """Raise a SinkoriginError for a point that cannot be run on (N, T) ids in a model of ``depth`` layers."""
    sequences, length = token_ids.shape
    named = f"intervention {intervention}"
    for point in points:
        check_layers(point.layers, depth, model, f"{named}: layers")
    everywhere = sorted({k for point in points for k in point.positions} | set(targets))
    if everywhere and everywhere[-1] >= length - 1:
        raise SinkoriginError(
            f"{named}: target position {everywhere[-1]} has no later query in prompts of {length} tokens; choose a "
            "smaller position or longer prompts"
        )
    smallest = min(part.stop - part.start for part in even_batches(sequences, batch))
    over = token_ids if calibration is None else calibration
    for point in points:
        edit = point.edit()
        if edit.across > smallest:
            raise SinkoriginError(
                f"{named}: {point.kind} mixes {edit.across} sequences of a batch, but batches have {smallest}; "
                "raise activations.batch or the number of sequences, or lower the strength"
            )
        if isinstance(edit, VectorEdit) and edit.needs_moments and len(over) < 2:
            raise SinkoriginError(
                f"{named}: a mean over sequences needs at least 2, it has {len(over)}; raise sequences or calibration"
            )


def _check_replay(replay: Replay, token_ids: np.ndarray, points: Sequence[Point], model: str) -> None:
    """Find out, on two sequences, whether partial passes are exact in this model, and say so where they are not."""
    if not points:
        return
    layer = min(min(point.layers) for point in points)
    # the lowest that leaves something to be read from what was kept
    position = min({point.positions[0] for point in points} - {0}, default=0)
    probe = torch.from_numpy(token_ids[:2]).to(replay.device)
    if not replay.check(probe, layer=layer, position=position):
        print(f"{model}: partial passes do not reproduce full ones, so every edit runs in full")


def _sweep(
    replay: Replay,
    passes: Passes,
    folders: Mapping[Path, Sequence[Point]],
    model: str,
    intervention: str,
    losses: bool,
    calibration: np.ndarray | None,
    seed: int,
) -> None:
    edits: dict[int, Edit] = {id(point): point.edit(seed) for own in folders.values() for point in own}
    moving = [edit for edit in edits.values() if isinstance(edit, VectorEdit) and edit.needs_moments]
    with ExitStack() as stack:
        if moving and calibration is None:
            estimate_moments(replay, passes.token_ids, moving, passes.batch, passes if passes.kept else None)
        elif moving:
            estimate_moments(replay, calibration, moving, passes.batch)
        outputs = {folder: _Output(folder, stack, intervention, losses) for folder in folders}
        for number, part in enumerate(passes.batches):
            unedited, before = passes.take(replay, number)
            _check_finite(before.norms, before.laters, model, intervention, None)
            for folder, own in folders.items():
                if not own:
                    ids, logits = unedited.token_ids, unedited.logits
                    lost = {k: _losses(ids, logits, None, k) for k in before.targets} if losses else {}
                    outputs[folder].add(None, part.start, before.shown(), lost)
                for point in own:
                    edit = edits[id(point)]
                    if hasattr(edit, "first_sequence"):
                        edit.first_sequence = part.start
                    shown, lost = _edited(replay, unedited, before, point, edit, passes.begin(point), losses)
                    _check_finite(shown.norms, shown.columns, model, intervention, point.strength)
                    outputs[folder].add(point, part.start, shown, lost)
        for output in outputs.values():
            output.close()


def _edited(
    replay: Replay, unedited: Unedited, before: Before, point: Point, edit: Edit, begin: tuple[int, int], losses: bool
) -> tuple[Shown, dict[int, _Losses]]:
    """Run one batch under one edit."""
    layer, position = begin
    first, last, final = point.positions[0], point.positions[-1], replay.architecture.layers - 1
    if edit.changes_nothing:
        lost = {first: _losses(unedited.token_ids, unedited.logits, None, first)} if losses else {}
        return before.shown(point.positions), lost
    readout = EditedReadout(before, point.positions)
    logits = None
    with applied(replay.architecture, edit, computes=replay.computes), reading(replay, readout, position):
        if not replay.exact or (losses and layer == final):
            logits = replay.edited(unedited, layer=layer, position=position, logits=losses)
        else:
            rows = replay.edited_rows(unedited, layer=layer, first=position, last=last)
            if rows is not None and losses:
                logits = replay.edited_logits(unedited, layer=layer + 1, first=position, rows=rows)
            elif rows is not None:
                entering = replay.edited_attention(unedited, layer=layer + 1, first=position, rows=rows)
                readout.deaf = True  # it has seen the last layer's attention
                replay.edited_rows(unedited, layer=final, first=position, last=last, enter=entering)
    lost = {first: _losses(unedited.token_ids, unedited.logits, logits, first)} if losses else {}
    return readout.shown(), lost


def _check_finite(norms: Tensor, attention: Tensor, model: str, intervention: str, strength: float | None) -> None:
    """Raise a SinkoriginError where the residual at a target, or the attention on any position, is not finite."""
    for site, values in (("residual", norms), ("attention", attention)):
        if not torch.isfinite(values).all():
            remedy = "use dtype: float32" if strength is None else "lower the strength, or use dtype: float32"
            raise SinkoriginError(
                f"model {model}, intervention {intervention}, strength {strength}: the {site} is not finite; {remedy}"
            )
