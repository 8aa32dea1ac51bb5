"""What one edit does at one target, paired by sequence with the unedited model, and the words that its tables share.

Beside its interval each comparison has one that holds together with all others of the same model and prompts, so that many
comparisons make no claim more likely.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions.kind import BASELINE, Edit, kind_named
from sinkorigin.interventions.schemas import EDIT
from sinkorigin.statistics.bootstrap import CONFIDENCE, Resampling
from sinkorigin.statistics.shared_columns import KEYS

LAYERS_RULE = (
    pa.string(),
    "how the layers were chosen, as in resolved_interventions: by which rule, as numbers, or found; null for the baseline",
)
IDENTITY = {
    **KEYS,
    **EDIT,
    "layers_rule": LAYERS_RULE,
    "target": (pa.int32(), "edited position k that the row is about"),
}
COMPARISONS = (pa.int32(), "number of quantities that these intervals hold for together")

_NAMES = (*EDIT, "target")
_RESIDUALS = ("norm", "dominance_ratio", "key_cosine")
_LOSSES = ("loss", "baseline_loss", "divergence")


@dataclass(frozen=True)
class Measured:
    """One edit at one target, or the unedited model there.

    Attributes:
        identity: its columns of ``IDENTITY``, without model and prompts.
        sequences: (N,) numbers.
        units: (N,) number of the group of sequences that the edit mixes with one another; a number each where it mixes none.
        layers: (L,) numbers, rising, of the layers that have attention.
        score, first: (L, N) means over heads.
        residuals: (L,) means over sequences of norm, dominance ratio and key cosine.
        key_cosine: (L, N) cosine of the target's key with that of another sequence of the batch.
        losses: loss, baseline_loss and divergence (N,), or nothing.
        columns: (T,) mean score over layers by position.
    """

    identity: dict[str, Any]
    sequences: np.ndarray
    units: np.ndarray
    layers: np.ndarray
    score: np.ndarray
    first: np.ndarray
    residuals: dict[str, np.ndarray]
    key_cosine: np.ndarray
    losses: dict[str, np.ndarray]
    columns: np.ndarray

    def by_sequence(self, edit: "Measured") -> dict[str, np.ndarray]:
        """(N,) quantities; ``reached_score`` is over the layers above the first that ``edit`` edits, where there are any."""
        found = {"score": self.score.mean(axis=0), "first_score": self.first.mean(axis=0)}
        edited = edit.identity["layers"]
        above = int(np.searchsorted(self.layers, edited[0] + 1)) if edited else 0
        if above < len(self.score):
            found["reached_score"] = self.score[above:].mean(axis=0)
        return found


@dataclass
class Effect:
    """An edit at a target, by sequence, beside the unedited model; the unedited model is beside itself.

    Attributes:
        identity: as in :class:`Measured`.
        seen, unedited: (N,) quantities of the edited and of the unedited model, over the same layers.
        resampling: how its intervals resample the sequences.
        row: the edit's row of the table of interventions, as far as it is known.
    """

    identity: dict[str, Any]
    seen: dict[str, np.ndarray]
    unedited: dict[str, np.ndarray]
    resampling: Resampling
    row: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.identity[name]

    @property
    def is_baseline(self) -> bool:
        """Whether it is the unedited model."""
        return self["kind"] == BASELINE

    @property
    def kind(self) -> type[Edit]:
        """The kind of an edit."""
        return kind_named(self["kind"])


def measured(folder: Path, layers_rule: str | None = None) -> Iterator[Measured]:
    """Every edit and target of a folder of tables.

    Args:
        layers_rule: the rule by which the layers were found, for the identity.

    Raises:
        SinkoriginError: a table is missing or damaged, or lacks a layer of a sequence.
    """
    tables.checked_directory(folder)
    scores = _mean_over_heads(folder / "scores.parquet")
    residuals = _read(folder / "residuals.parquet")
    positions = _read(folder / "positions.parquet")
    losses = _read(folder / "losses.parquet") if (folder / "losses.parquet").is_file() else None
    for identity in sorted(scores.select(_NAMES).unique().to_dicts(), key=_order):
        here = _at(scores, identity, _NAMES).sort("layer", "sequence")
        numbers, sequences = (here[name].unique().sort() for name in ("layer", "sequence"))
        depth = len(numbers)
        attending = _at(residuals, identity, _NAMES).filter(pl.col("layer").is_in(numbers.implode()))
        attending = attending.sort("layer", "sequence")
        if not len(here) == len(attending) == depth * len(sequences):
            raise SinkoriginError(
                f"{folder} does not have every layer of every sequence; {tables.remedy(folder / 'scores.parquet')}"
            )
        means = pl.col(*_RESIDUALS).cast(pl.Float64).mean()
        layers = attending.group_by("layer", maintain_order=True).agg(means).sort("layer")
        baseline = identity["kind"] == BASELINE
        columns = (positions if baseline else _at(positions, identity, EDIT)).group_by("position", maintain_order=True)
        lost = {}
        if losses is not None:
            # an edit's losses are read from the first of the edited positions on, once for all of them
            rows = _at(losses, identity, _NAMES if baseline else EDIT).sort("sequence")
            lost = {name: rows[name].cast(pl.Float64).to_numpy() for name in _LOSSES}
        yield Measured(
            identity | {"layers_rule": layers_rule},
            sequences.to_numpy(),
            here["unit"].head(len(sequences)).to_numpy(),
            numbers.to_numpy(),
            here["score"].to_numpy().reshape(depth, -1),
            here["first_score"].to_numpy().reshape(depth, -1),
            {name: layers[name].to_numpy() for name in _RESIDUALS},
            attending["key_cosine"].cast(pl.Float64).to_numpy().reshape(depth, -1),
            lost,
            columns.agg(pl.col("score").mean()).sort("position")["score"].to_numpy(),
        )


def _read(path: Path) -> pl.DataFrame:
    return pl.DataFrame(tables.read_table(path))


def _mean_over_heads(path: Path) -> pl.DataFrame:
    """Scores of every edit, layer and sequence, read a row group at a time: each holds all heads of its sequences."""
    keys = [*_NAMES, "layer", "sequence", "unit"]
    parts = []
    try:
        with pq.ParquetFile(path) as file:
            for i in range(file.num_row_groups):
                groups_of_heads = pl.DataFrame(file.read_row_group(i)).group_by(keys, maintain_order=True)
                parts.append(groups_of_heads.agg(pl.col("score", "first_score").cast(pl.Float64).mean()))
    except (OSError, pa.ArrowInvalid, pl.exceptions.PolarsError) as error:
        raise SinkoriginError(f"{path} cannot be read as Parquet; {tables.remedy(path)}") from error
    return pl.concat(parts)


def _at(frame: pl.DataFrame, identity: dict[str, Any], names) -> pl.DataFrame:
    """Rows of one edit."""
    same = (pl.col(name).eq_missing(pl.lit(identity[name], dtype=frame.schema[name])) for name in names)
    return frame.filter(pl.all_horizontal(same))


def _order(identity: dict[str, Any]) -> list[tuple]:
    """Sorts edits by their columns, nulls first, and lists as text."""
    values = (",".join(map(str, value)) if isinstance(value, list) else value for value in identity.values())
    return [(value is not None, value) for value in values]


def groups(edits: Sequence[Effect], without: Sequence[str]) -> list[tuple[dict[str, Any], list[Effect]]]:
    """Edits that differ in the columns ``without`` alone, and the columns in which they agree."""
    found: dict[str, tuple[dict[str, Any], list[Effect]]] = {}
    for edit in edits:
        identity = {name: edit[name] for name in IDENTITY if name not in without and name not in KEYS}
        found.setdefault(str(tuple(identity.values())), (identity, []))[1].append(edit)
    return [found[key] for key in sorted(found)]


def estimated(name: str, value: float | np.ndarray, samples: np.ndarray, resampling: Resampling) -> dict[str, float]:
    """Columns of a quantity and of its interval, from (R,) replicates."""
    low, high = resampling.interval(samples)
    return {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}


def ends_among(count: int, name: str, samples: np.ndarray, resampling: Resampling) -> dict[str, float]:
    """Columns of the interval of one among ``count`` quantities that are to hold together (Bonferroni)."""
    low, high = resampling.interval(samples, confidence=1 - (1 - CONFIDENCE) / count)
    return {f"{name}_low_all": float(low), f"{name}_high_all": float(high)}


def effect_size(difference: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Cohen's d_z of (N,) paired differences: mean / unbiased standard deviation; NaN where they do not vary.

    Args:
        weights: (R, N) of a resampling; then (R,) replicates.
    """
    sequences = len(difference)
    weights = np.full((1, sequences), 1 / sequences) if weights is None else weights
    mean = weights @ difference
    spread = np.maximum(weights @ np.square(difference) - np.square(mean), 0.0)
    deviation = np.sqrt(spread * sequences / (sequences - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(deviation > 1e-12 * np.abs(difference).max(initial=0.0), mean / deviation, np.nan)
