"""What each intervention does to the attention on its target, compared sequence by sequence with the unedited model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics import shared_columns
from sinkorigin.statistics.bootstrap import interval, resamples
from sinkorigin.statistics.grids import from_rows, read_layers
from sinkorigin.statistics.uniform import uniform_score

SCHEMA = tables.schema(
    **shared_columns.KEYS,
    intervention=(pa.string(), "name of the intervention; baseline for the unedited model"),
    kind=(pa.string(), "mask, variance_amplification, norm_control or baseline"),
    strength=(pa.float64(), "lambda; 1 for the mask, which has none; null for the baseline"),
    layers=(pa.string(), "edited layers, counted from 0"),
    target=(pa.int32(), "edited position k"),
    sequences=(pa.int32(), "number of sequences"),
    score=(pa.float64(), "attention weight on the target over q > k, mean over layers, heads and sequences"),
    score_low=shared_columns.LOW,
    score_high=shared_columns.HIGH,
    baseline=(pa.float64(), "the same in the unedited model"),
    baseline_low=shared_columns.LOW,
    baseline_high=shared_columns.HIGH,
    effect=(pa.float64(), "mean over sequences of score - baseline, paired by sequence"),
    effect_low=shared_columns.LOW,
    effect_high=shared_columns.HIGH,
    uniform=(pa.float64(), "score that uniform attention would give at the target"),
    first_score=(pa.float64(), "attention weight on position 0 over q > 0, mean over layers, heads and sequences"),
    first_score_low=shared_columns.LOW,
    first_score_high=shared_columns.HIGH,
    norm=(pa.float64(), "norm of the residual at the target: mean over sequences, in the layer where that is largest"),
    dominance_ratio=(pa.float64(), "its dominance ratio: mean over sequences, in the layer where that is largest"),
    peak_layer=(pa.int32(), "layer where the mean score at the target is highest"),
    peak_layer_score=(pa.float64(), "mean over heads and sequences of the score in that layer"),
    sink=(pa.bool_(), "score_low > uniform and effect_low > 0"),
)

_KEYS = ("intervention", "kind", "strength", "layers")
_VALUES = ("score", "first_score", "norm", "dominance_ratio")


def _readout(path: Path, target: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Sequences (N,), and each value column as (L, N): the mean over heads by layer and sequence."""
    layers = list(read_layers(path, axes=("sequence", "head"), columns=_VALUES, target=target))
    sequences = layers[0][1]["sequence"]
    return sequences, {name: np.stack([columns[name].mean(axis=1) for _, _, columns in layers]) for name in _VALUES}


def _edits(path: Path) -> list[dict]:
    """The distinct (intervention, kind, strength, layers, target) of a table, in order of target."""
    try:
        rows = pl.scan_parquet(path, hive_partitioning=False, glob=False)
        return rows.select(*_KEYS, "target").unique().sort(*_KEYS, "target").collect().to_dicts()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SinkoriginError(f"{path} cannot be read as Parquet; delete it and run the same command again") from error


def effects(
    paths: Sequence[str | Path], length: int, *, model: str, prompts: str, replicates: int, seed: int
) -> pa.Table:
    """Size and uncertainty of every intervention at every target (PAPER.md I1–I3).

    A sink is made where the score over q > k is above what uniform attention would give and above the unedited score
    of the same sequences, both with the lower end of the bootstrap interval. Scores are attention weights in 0 … 1.

    Args:
        paths: the tables of the interventions, one a strength, and the baseline's (recognised by its kind), which has
            rows for every target.
        length: T, the number of tokens of a prompt.
        model, prompts: names, for the first columns.
        replicates, seed: of the bootstrap over sequences, which are drawn together with their baselines.

    Returns:
        A table of ``SCHEMA``: the baseline at each target first (its effect is 0), then the interventions in the order
        of their names, strengths and targets.

    Raises:
        SinkoriginError: no baseline, or one that lacks a target or has other sequences.
    """
    edits = {Path(path): _edits(Path(path)) for path in paths}
    baseline_path = next((path for path, rows in edits.items() if any(row["kind"] == "baseline" for row in rows)), None)
    if baseline_path is None:
        raise SinkoriginError(
            f"model {model}, prompts {prompts}: the interventions have no baseline table to compare with; "
            "run the same command again so that it is made"
        )
    baselines = {row["target"]: _readout(baseline_path, row["target"]) for row in edits[baseline_path]}
    rows = []
    for path, edit in ((path, edit) for path, own in edits.items() for edit in own):
        target = edit["target"]
        sequences, values = baselines[target] if path == baseline_path else _readout(path, target)
        if target not in baselines or not np.array_equal(baselines[target][0], sequences):
            raise SinkoriginError(
                f"{path}: the baseline {baseline_path} lacks target {target} for these sequences; "
                "delete both and run the same command again"
            )
        unedited = baselines[target][1]["score"].mean(axis=0)  # (N,)
        score = values["score"].mean(axis=0)
        by_sequence = {
            "score": score,
            "baseline": unedited,
            "effect": score - unedited,
            "first_score": values["first_score"].mean(axis=0),
        }
        weights = resamples(len(sequences), replicates, seed)
        row = {"model": model, "prompts": prompts, **edit, "sequences": len(sequences)}
        for name, own in by_sequence.items():
            low, high = interval(weights @ own)
            row |= {name: float(own.mean()), f"{name}_low": float(low), f"{name}_high": float(high)}
        by_layer = values["score"].mean(axis=1)  # (L,)
        uniform = uniform_score(target, length)
        row |= {
            "uniform": uniform,
            "norm": float(values["norm"].mean(axis=1).max()),
            "dominance_ratio": float(values["dominance_ratio"].mean(axis=1).max()),
            "peak_layer": int(by_layer.argmax()),
            "peak_layer_score": float(by_layer.max()),
            "sink": row["score_low"] > uniform and row["effect_low"] > 0,
        }
        rows.append(row)
    rows.sort(key=lambda row: (row["kind"] != "baseline", row["intervention"], row["strength"] or 0.0, row["target"]))
    return from_rows(SCHEMA, rows)
