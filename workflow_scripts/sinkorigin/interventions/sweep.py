"""Running many edits over one prompt set, each no further than it can change anything, and reading out what they do."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from sinkorigin import tables
from sinkorigin.architecture import Architecture, output_tensor
from sinkorigin.attention import Tap
from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions.context import applied
from sinkorigin.interventions.edits import Edit, VectorEdit, check_layers, layer_text
from sinkorigin.interventions.moments import estimate_moments, even_batches
from sinkorigin.interventions.points import Point
from sinkorigin.interventions.replay import Replay, Unedited

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
class _Readout(Tap):
    """What one pass of one batch shows, layer by layer; layers that an edited pass leaves out keep the unedited values.

    Attributes:
        targets: positions at which scores, norms and keys are read.
        length: T.
        scores: layer → (N, H, targets) mean weight on each target over later queries.
        firsts: layer → (N, H) the same for position 0.
        columns: layer → (T,) weight on each position, summed over later queries, heads and sequences.
        norms, ratios: layer → (N, targets); cosines: layer → (N, targets).
        prefixes: of an unedited pass, what queries before a start add: (layer, start) → first (N, H), columns (T,).
        spans: of an unedited pass, what the queries of edited positions add at the first edited layer, of which an edited
            pass runs these queries only: (layer, first, last) → (N, H, T).
        laters: layer → (N, H, T) weight on each position over later queries, at these layers.
        deaf: while set, attention is not read.
    """

    targets: list[int]
    length: int
    starts: Sequence[int] = ()
    whole_spans: Sequence[tuple[int, int, int]] = ()
    scores: dict[int, Tensor] = field(default_factory=dict)
    firsts: dict[int, Tensor] = field(default_factory=dict)
    columns: dict[int, Tensor] = field(default_factory=dict)
    norms: dict[int, Tensor] = field(default_factory=dict)
    ratios: dict[int, Tensor] = field(default_factory=dict)
    cosines: dict[int, Tensor] = field(default_factory=dict)
    prefixes: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)
    spans: dict[tuple[int, int, int], Tensor] = field(default_factory=dict)
    laters: dict[int, Tensor] = field(default_factory=dict)
    deaf: bool = False
    before: "_Readout | None" = None  # the unedited pass, for an edited one

    def of_targets(self, targets: Sequence[int]) -> "_Readout":
        """A readout of an edited pass that starts from this unedited one."""
        chosen = [self.targets.index(target) for target in targets]

        def part(values: dict[int, Tensor]) -> dict[int, Tensor]:
            return {layer: value[..., chosen] for layer, value in values.items()}

        return _Readout(
            list(targets), self.length, (), (), part(self.scores), dict(self.firsts), dict(self.columns), part(self.norms),
            part(self.ratios), part(self.cosines), before=self,
        )  # fmt: skip

    def observe(self, layer, query, key, weights, aggregation):
        if self.deaf:
            return
        weights = weights.float()  # (N, H, Q, S): the last Q of S positions
        start = weights.shape[3] - weights.shape[2]
        if weights.shape[3] < self.length:
            self._see_rows(layer, start, weights)
            return
        later = _later_queries(weights, start)  # (N, H, T)
        more = None
        if start and self.before is not None:
            more = self.before.prefixes[layer, start]
        for position in self.starts:
            if position:
                ahead = _later_queries(weights[:, :, :position], 0)
                self.prefixes[layer, position] = ahead[..., 0], ahead.sum(dim=(0, 1), dtype=torch.float64)
        for span in self.whole_spans:
            if span[0] == layer:
                self.spans[span] = _later_queries(weights[:, :, span[1] : span[2] + 1], span[1])
                self.laters[layer] = later
        self._keep(layer, later, more)
        keys = torch.nn.functional.normalize(key[:, :, self.targets].float(), dim=-1)  # (N, H, targets, d_k)
        other = keys.roll(-1, dims=0)
        missing = torch.nan if len(keys) == 1 else 1.0
        self.cosines[layer] = (keys * other).sum(dim=-1).mean(dim=1) * missing

    def _see_rows(self, layer: int, start: int, weights: Tensor) -> None:
        """Take the queries of the edited positions, (N, H, Q, last + 1); all other queries, and the keys, are as before."""
        assert self.before is not None
        rows = _later_queries(weights, start)  # (N, H, last + 1)
        later = self.before.laters[layer] - self.before.spans[layer, start, weights.shape[3] - 1]
        later[..., : rows.shape[-1]] += rows
        self._keep(layer, later)

    def _keep(self, layer: int, later: Tensor, more: tuple[Tensor, Tensor] | None = None) -> None:
        """Scores from (N, H, T) weights summed over later queries, and what the queries before these add."""
        first, columns = later[..., 0], later.sum(dim=(0, 1), dtype=torch.float64)
        if more is not None:
            first, columns = first + more[0], columns + more[1]
        self.firsts[layer] = first / (self.length - 1)
        self.columns[layer] = columns
        scores = later[..., self.targets] / (self.length - 1 - torch.tensor(self.targets, device=later.device))
        if 0 in self.targets:
            scores[..., self.targets.index(0)] = self.firsts[layer]
        self.scores[layer] = scores

    def see_residual(self, layer: int, values: Tensor, start: int) -> None:
        """Take the (N, Q, d) residual stream that leaves a layer, of positions from ``start`` on."""
        own = values[:, [k - start for k in self.targets]].float()  # (N, targets, d)
        absolute = own.abs()
        self.norms[layer] = torch.linalg.vector_norm(own, dim=-1)
        self.ratios[layer] = absolute.amax(dim=-1) / absolute.mean(dim=-1)


def _later_queries(weights: Tensor, start: int) -> Tensor:
    """Weight on each key position summed over later queries, of (N, H, Q, S) causal weights of queries from ``start`` on.

    What a causal column holds beside these is the position's attention to itself.
    """
    total = weights.sum(dim=2)  # (N, H, S)
    itself = weights.diagonal(offset=start, dim1=2, dim2=3)  # (N, H, Q)
    total[..., start : start + itself.shape[-1]] -= itself
    return total


@dataclass
class _Losses:
    """What the logits of one pass of one batch say, from a position on."""

    loss: Tensor  # (N,)
    baseline_loss: Tensor  # (N,)
    divergence: Tensor  # (N,)


def _losses(token_ids: Tensor, unedited: Tensor, edited: Tensor | None, first: int) -> _Losses:
    """Mean loss and divergence over q >= first of (N, T, V) unedited and (N, Q, V) edited logits, Q >= T − first."""
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

    def add(
        self, point: Point | None, first: int, readout: _Readout, losses: Mapping[int, _Losses], sequences: int
    ) -> None:
        """Rows of one batch that begins with sequence ``first``."""
        depth = len(readout.scores)
        score = torch.stack([readout.scores[i] for i in range(depth)], dim=1).cpu().numpy()  # (N, L, H, targets)
        firsts = torch.stack([readout.firsts[i] for i in range(depth)], dim=1).cpu().numpy()  # (N, L, H)
        of_target = {
            name: torch.stack([values[i] for i in range(depth)], dim=1).cpu().numpy()  # (N, L, targets)
            for name, values in (
                ("norm", readout.norms), ("dominance_ratio", readout.ratios), ("key_cosine", readout.cosines),
            )
        }  # fmt: skip
        numbers = np.arange(first, first + len(score), dtype=np.int32)
        layers = np.arange(depth, dtype=np.int32)
        heads = np.arange(score.shape[2], dtype=np.int32)
        for i, target in enumerate(readout.targets):
            own = self._point(point, [target] if point is None else point.positions)
            targeted = np.array(target, dtype=np.int32)
            self._write(
                "scores", own,
                {
                    "target": targeted, "sequence": numbers[:, None, None], "layer": layers[:, None], "head": heads,
                    "score": score[..., i], "first_score": firsts,
                },
            )  # fmt: skip
            values = {name: value[..., i] for name, value in of_target.items()}
            self._write("residuals", own, {"target": targeted, "sequence": numbers[:, None], "layer": layers, **values})
        for target, lost in losses.items():
            own = self._point(point, [target] if point is None else point.positions)
            values = {name: value.cpu().numpy() for name, value in vars(lost).items()}
            self._write("losses", own, {"target": np.array(target, dtype=np.int32), "sequence": numbers, **values})
        columns = torch.stack([readout.columns[i] for i in range(depth)]).cpu()  # (L, T)
        key = 0 if point is None else id(point)
        total, count, _ = self._columns.get(key, (torch.zeros_like(columns), 0, None))
        self._columns[key] = total + columns, count + score.shape[2] * sequences, point

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


@contextmanager
def _reading(replay: Replay, readout: _Readout, position: int = 0) -> Iterator[None]:
    """Hand all that passes from ``position`` on show to ``readout``; edits set earlier are seen."""

    def hook(layer: int):
        def after(module, args, output):
            values = output_tensor(output)
            if replay.computes(layer):  # a block that is left out shows nothing
                assert values is not None
                readout.see_residual(layer, values, position)

        return after

    blocks = replay.architecture.blocks
    handles = [block.register_forward_hook(hook(layer)) for layer, block in enumerate(blocks)]
    try:
        with replay.architecture.tapped(readout):
            yield
    finally:
        for handle in handles:
            handle.remove()


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
        SinkoriginError: a layer or target is not there, too few sequences for what the edits mix, or a residual that is
            not finite.
    """
    sequences, length = token_ids.shape
    points = [point for own in folders.values() for point in own]
    named = f"intervention {intervention}"
    for point in points:
        check_layers(point.layers, architecture.layers, model, f"{named}: layers")
    everywhere = sorted({k for point in points for k in point.positions} | set(targets))
    if everywhere and everywhere[-1] >= length - 1:
        raise SinkoriginError(
            f"{named}: target position {everywhere[-1]} has no later query in prompts of {length} tokens; choose a "
            "smaller position or longer prompts"
        )
    edits: dict[int, Edit] = {id(point): point.edit(seed) for point in points}
    batches = even_batches(sequences, batch)
    smallest = min(part.stop - part.start for part in batches)
    for point in points:
        if edits[id(point)].across > smallest:
            raise SinkoriginError(
                f"{named}: {point.kind} mixes {edits[id(point)].across} sequences of a batch, but batches have {smallest}; "
                "raise activations.batch or the number of sequences, or lower the strength"
            )
    over = token_ids if calibration is None else calibration
    moving = [e for e in edits.values() if isinstance(e, VectorEdit) and e.needs_moments]
    if moving and len(over) < 2:
        raise SinkoriginError(
            f"{named}: a mean over sequences needs at least 2, it has {len(over)}; raise sequences or calibration"
        )
    device = next(architecture.model.parameters()).device
    replay = Replay(architecture)
    with ExitStack() as stack:
        stack.enter_context(replay.active())
        stack.enter_context(architecture.tapped())  # set and reset once, not for every pass
        if points:
            layer = min(min(point.layers) for point in points)
            # the lowest that leaves something to be read from what was kept
            position = min({point.positions[0] for point in points} - {0}, default=0)
            probe = torch.from_numpy(token_ids[:2]).to(device)
            if not replay.check(probe, layer=layer, position=position):
                print(f"{model}: partial passes do not reproduce full ones, so every edit runs in full")
        if moving:
            estimate_moments(replay, over, moving, batch)
        outputs = {folder: _Output(folder, stack, intervention, losses) for folder in folders}
        begin = {id(point): replay.starts(min(point.layers), min(point.positions)) for point in points}
        depth = architecture.layers
        entries = ({layer for layer, _ in begin.values()} | {layer + 1 for layer, _ in begin.values()}) - {0, depth}
        spans = {(begin[id(point)][0], point.positions[0], point.positions[-1]) for point in points}
        for part in batches:
            ids = torch.from_numpy(token_ids[part]).to(device)
            before = _Readout(
                everywhere, length, starts=sorted({first for _, first in begin.values()}), whole_spans=sorted(spans)
            )
            with _reading(replay, before):
                unedited = replay.unedited(ids, entries=entries, logits=losses)
            _check_finite(before, model, intervention, None)
            for folder, own in folders.items():
                if not own:
                    lost = {k: _losses(ids, unedited.logits, None, k) for k in everywhere} if losses else {}
                    outputs[folder].add(None, part.start, before, lost, len(ids))
                for point in own:
                    edit = edits[id(point)]
                    if hasattr(edit, "first_sequence"):
                        edit.first_sequence = part.start
                    readout, lost = _edited(replay, unedited, before, point, edit, begin[id(point)], losses)
                    _check_finite(readout, model, intervention, point.strength)
                    outputs[folder].add(point, part.start, readout, lost, len(ids))
        for output in outputs.values():
            output.close()


def _edited(
    replay: Replay, unedited: Unedited, before: _Readout, point: Point, edit: Edit, begin: tuple[int, int], losses: bool
) -> tuple[_Readout, dict[int, _Losses]]:
    """Run one batch under one edit."""
    readout = before.of_targets(point.positions)
    layer, position = begin
    last, final = point.positions[-1], replay.architecture.layers - 1
    logits = None
    with applied(replay.architecture, edit, computes=replay.computes), _reading(replay, readout, position):
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
    if not losses:
        return readout, {}
    first = min(point.positions)
    assert unedited.logits is not None
    return readout, {first: _losses(unedited.token_ids, unedited.logits, logits, first)}


def _check_finite(readout: _Readout, model: str, intervention: str, strength: float | None) -> None:
    if not all(torch.isfinite(norm).all() for norm in readout.norms.values()):
        remedy = "use dtype: float32" if strength is None else "lower the strength, or use dtype: float32"
        raise SinkoriginError(
            f"model {model}, intervention {intervention}, strength {strength}: the residual is not finite; {remedy}"
        )
