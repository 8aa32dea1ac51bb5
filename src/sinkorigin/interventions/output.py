"""Writing what the passes of a sweep show, as the tables of one folder."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from sinkorigin import tables
from sinkorigin.interventions.kind import BASELINE, Edit
from sinkorigin.interventions.logits import LogitBlock, add_following, divergences
from sinkorigin.interventions.passes import Pass
from sinkorigin.interventions.readout import Shown
from sinkorigin.interventions.schemas import SCHEMAS


@dataclass(frozen=True)
class Losses:
    """What the logits of one pass of one batch say, from a position on: (N,) each."""

    loss: Tensor
    baseline_loss: Tensor
    divergence: Tensor


def baseline_losses(following: Tensor, first: int) -> Losses:
    """Losses of the unedited model over q >= first from the (N, T − 1) log-probabilities of the next tokens."""
    loss = -_mean(following[:, first:])
    return Losses(loss, loss, torch.zeros_like(loss))


def edited_losses(kept: Pass, blocks: Iterable[LogitBlock], offset: int, first: int) -> Losses:
    """Losses of an edited pass over q >= first.

    Args:
        kept: the unedited pass.
        blocks: logits of the edited one, which begins at position ``offset`` <= first.
    """
    assert kept.logits is not None and kept.following is not None
    token_ids = kept.unedited.token_ids
    following = torch.empty_like(kept.following[:, offset:])
    divergence = torch.empty(token_ids[:, offset:].shape, device=token_ids.device)
    for block in blocks:
        add_following(following, token_ids[:, offset:], block)
        divergence[block.sequences, block.positions] = divergences(block, offset, kept.logits)
        del block  # before the next one is computed
    baseline = baseline_losses(kept.following, first)
    return Losses(-_mean(following[:, first - offset :]), baseline.loss, _mean(divergence[:, first - offset : -1]))


def _mean(values: Tensor) -> Tensor:
    """Mean over positions of (N, P) numbers, in memory as they are read, so that the bits do not depend on where they are from."""
    return values.contiguous().mean(dim=1)


@dataclass
class _Columns:
    """Float64 weight on each position by layer, summed over later queries, heads and sequences, and how many of these."""

    layers: list[int]  # the A layers that have attention
    total: Tensor  # (A, T)
    rows: int


class Output:
    """The tables of one folder, written as batches come; None stands for the unedited model."""

    def __init__(self, writers: Mapping[str, pq.ParquetWriter], intervention: str):
        self._writers, self._intervention = writers, intervention
        self._columns: dict[Edit | None, _Columns] = {}

    def _identity(self, edit: Edit | None, positions: Sequence[int]) -> dict[str, object]:
        return {
            "intervention": self._intervention,
            "kind": BASELINE if edit is None else edit.kind,
            "strength": None if edit is None else getattr(edit, "strength", 1.0),
            "mean_factor": None if edit is None else getattr(edit, "mean_factor", None),
            "site": None if edit is None else edit.site,
            "layers": [] if edit is None else edit.layers,
            "positions": positions,
        }

    def _write(self, name: str, identity: Mapping[str, object], columns: Mapping[str, np.ndarray]) -> None:
        """Rows of one table, a point of the columns' common shape each, in C order; NaN becomes null."""
        schema = SCHEMAS[name]
        arrays = {key: np.asarray(value) for key, value in columns.items()}
        shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
        rows = math.prod(shape)
        first = pa.array(np.zeros(rows, dtype=np.int32))
        out = [
            pa.array([identity[column.name]], type=column.type).take(first)
            if column.name in identity
            else pa.array(np.broadcast_to(arrays[column.name], shape).reshape(-1), type=column.type, from_pandas=True)
            for column in schema
        ]
        # one row group, so that all heads of a sequence stand in it
        self._writers[name].write_batch(pa.record_batch(out, schema=schema), row_group_size=max(rows, 1))

    def add(self, edit: Edit | None, first: int, shown: Shown, losses: Mapping[int, Losses]) -> None:
        """Write the rows of one batch that begins with sequence ``first``.

        Args:
            losses: position from which they are read → losses.
        """
        scores, firsts = shown.scores.cpu().numpy(), shown.firsts.cpu().numpy()
        at_targets = {
            name: values.cpu().numpy()
            for name, values in (
                ("norm", shown.norms), ("dominance_ratio", shown.ratios), ("key_cosine", shown.cosines),
            )
        }  # fmt: skip
        sequences, _, heads = firsts.shape
        numbers = np.arange(first, first + sequences, dtype=np.int32)
        units = numbers if edit is None else (first + edit.units(sequences)).astype(np.int32)
        layers, attending = np.arange(shown.norms.shape[1], dtype=np.int32), np.array(shown.attending, dtype=np.int32)
        for i, target in enumerate(shown.targets):
            identity = self._identity(edit, [target] if edit is None else edit.positions)
            targeted = np.array(target, dtype=np.int32)
            self._write(
                "scores", identity,
                {
                    "target": targeted, "sequence": numbers[:, None, None], "unit": units[:, None, None], "layer": attending[:, None],
                    "head": np.arange(heads, dtype=np.int32), "score": scores[..., i], "first_score": firsts,
                },
            )  # fmt: skip
            values = {name: value[..., i] for name, value in at_targets.items()}
            self._write(
                "residuals", identity, {"target": targeted, "sequence": numbers[:, None], "layer": layers, **values}
            )
        for target, read in losses.items():
            identity = self._identity(edit, [target] if edit is None else edit.positions)
            values = {name: value.cpu().numpy() for name, value in vars(read).items()}
            self._write("losses", identity, {"target": np.array(target, dtype=np.int32), "sequence": numbers, **values})
        nothing = torch.zeros(shown.columns.shape, dtype=torch.float64)
        columns = self._columns.setdefault(edit, _Columns(shown.attending, nothing, 0))
        columns.total += shown.columns.cpu()
        columns.rows += heads * sequences

    def write_positions(self) -> None:
        """Write what was summed over all batches."""
        for edit, columns in self._columns.items():
            length = columns.total.shape[1]
            later = np.arange(length - 1, -1, -1)  # queries after the key
            with np.errstate(divide="ignore", invalid="ignore"):
                score = np.where(later > 0, columns.total.numpy() / (columns.rows * later), np.nan)
            self._write(
                "positions", self._identity(edit, () if edit is None else edit.positions),
                {
                    "layer": np.array(columns.layers, dtype=np.int32)[:, None], "position": np.arange(length, dtype=np.int32),
                    "score": score,
                },
            )  # fmt: skip


@contextmanager
def writing(folder: Path, intervention: str, *, losses: bool) -> Iterator[Output]:
    """The tables of ``folder``, which appear when the block ends without an exception."""
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(tables.table_writer(folder / f"{name}.parquet", schema))
            for name, schema in SCHEMAS.items()
            if losses or name != "losses"
        }
        output = Output(writers, intervention)
        yield output
        output.write_positions()
