"""What each intervention does, compared sequence by sequence with the unedited model and with its controls.

Every comparison is paired by sequence, and beside the interval of its own each has one that holds together with all others
of the same model and prompts, so that many comparisons make no claim more likely.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics import shared_columns
from sinkorigin.statistics.bootstrap import CONFIDENCE, interval, resamples, simultaneous_interval
from sinkorigin.statistics.grids import from_rows
from sinkorigin.statistics.kendall import kendall_tau
from sinkorigin.statistics.uniform import SINK_FACTOR, uniform_score

BASELINE = "baseline"

_LOW_ALL = (pa.float64(), "lower end of its interval among all comparisons of the model and prompts")
_HIGH_ALL = (pa.float64(), "upper end of it")
_COMPARISONS = (pa.int32(), "number of quantities that these intervals hold for together")

_POINT = {
    **shared_columns.KEYS,
    "intervention": (pa.string(), "name of the intervention; baseline for the unedited model"),
    "kind": (pa.string(), "kind of the edit, see docs/science.md; baseline for the unedited model"),
    "strength": (pa.float64(), "lambda; 1 for kinds that have none; null for the baseline"),
    "mean_factor": (pa.float64(), "alpha, what the mean is multiplied with; null unless mean_and_deviation"),
    "site": (pa.string(), "edited site; null for the baseline"),
    "layers": (pa.string(), "edited layers, counted from 0"),
    "positions": (pa.string(), "positions that are edited at once"),
    "target": (pa.int32(), "edited position k that the row is about"),
}

SCHEMA = tables.schema(
    **_POINT,
    sequences=(pa.int32(), "number of sequences"),
    score=(pa.float64(), "attention weight on the target over q > k, mean over layers, heads and sequences"),
    score_low=shared_columns.LOW,
    score_high=shared_columns.HIGH,
    score_low_all=_LOW_ALL,
    score_high_all=_HIGH_ALL,
    baseline=(pa.float64(), "the same in the unedited model"),
    baseline_low=shared_columns.LOW,
    baseline_high=shared_columns.HIGH,
    effect=(pa.float64(), "mean over sequences of score - baseline, paired by sequence"),
    effect_low=shared_columns.LOW,
    effect_high=shared_columns.HIGH,
    effect_low_all=_LOW_ALL,
    effect_high_all=_HIGH_ALL,
    effect_size=(pa.float64(), "effect / standard deviation over sequences of the paired difference (Cohen's d_z)"),
    uniform=(pa.float64(), "score that uniform attention would give at the target"),
    reached_score=(
        pa.float64(),
        "score over the layers that the edit can reach, those above the first edited one; null where there are none",
    ),
    reached_score_low_all=_LOW_ALL,
    reached_score_high_all=_HIGH_ALL,
    reached_effect=(pa.float64(), "mean over sequences of reached_score - that of the unedited model"),
    reached_effect_low_all=_LOW_ALL,
    reached_effect_high_all=_HIGH_ALL,
    first_score=(pa.float64(), "attention weight on position 0 over q > 0, mean over layers, heads and sequences"),
    first_score_low=shared_columns.LOW,
    first_score_high=shared_columns.HIGH,
    first_baseline=(pa.float64(), "the same in the unedited model"),
    first_effect=(pa.float64(), "mean over sequences of first_score - first_baseline"),
    first_effect_low=shared_columns.LOW,
    first_effect_high=shared_columns.HIGH,
    first_effect_low_all=_LOW_ALL,
    first_effect_high_all=_HIGH_ALL,
    norm=(pa.float64(), "norm of the residual at the target: mean over sequences, in the layer where that is largest"),
    dominance_ratio=(pa.float64(), "its dominance ratio: mean over sequences, in the layer where that is largest"),
    key_cosine=(pa.float64(), "cosine of the target's key between two sequences: mean, in peak_layer"),
    baseline_key_cosine=(pa.float64(), "the same in the unedited model, in the same layer"),
    peak_layer=(pa.int32(), "layer where the mean score at the target is highest"),
    peak_layer_score=(pa.float64(), "mean over heads and sequences of the score in that layer"),
    onset_layer=(
        pa.int32(),
        "first layer whose mean score at the target is 3 times the uniform one; null where none is",
    ),
    top_position=(pa.int32(), "position of the first half with the highest mean score over layers"),
    top_position_score=(pa.float64(), "that score"),
    other_position=(pa.int32(), "the same among positions other than 0 and the edited ones"),
    other_position_score=(pa.float64(), "that score"),
    loss=(pa.float64(), "mean next-token loss from the target on, in nats; null on random tokens"),
    loss_change=(pa.float64(), "mean over sequences of the loss - the unedited one, in nats"),
    loss_change_low=shared_columns.LOW,
    loss_change_high=shared_columns.HIGH,
    divergence=(pa.float64(), "KL(unedited || edited) of the next token from the target on, in nats"),
    divergence_low=shared_columns.LOW,
    divergence_high=shared_columns.HIGH,
    sink=(pa.bool_(), "score_low_all > uniform and effect_low_all > 0"),
    comparisons=_COMPARISONS,
)

LAYERS_SCHEMA = tables.schema(
    **_POINT,
    layer=shared_columns.LAYER,
    score=(pa.float64(), "attention weight on the target over q > k, mean over heads and sequences"),
    score_low=shared_columns.LOW,
    score_high=shared_columns.HIGH,
    first_score=(pa.float64(), "the same for position 0"),
    norm=(pa.float64(), "norm of the residual leaving the layer at the target, mean over sequences"),
    dominance_ratio=(pa.float64(), "its dominance ratio, mean over sequences"),
    key_cosine=(pa.float64(), "cosine of the target's key between two sequences, mean"),
)

CONTRASTS_SCHEMA = tables.schema(
    **shared_columns.KEYS,
    treatment=(pa.string(), "name of an intervention"),
    control=(pa.string(), "name of the one that it is held against"),
    treatment_kind=(pa.string(), "its kind"),
    control_kind=(pa.string(), "kind of the control"),
    strength=(pa.float64(), "strength of both"),
    layers=(pa.string(), "edited layers"),
    control_layers=(pa.string(), "those of the control"),
    site=(pa.string(), "edited site"),
    control_site=(pa.string(), "that of the control"),
    positions=(pa.string(), "positions that both edit at once"),
    target=(pa.int32(), "edited position k"),
    sequences=(pa.int32(), "number of sequences that both ran"),
    score=(
        pa.float64(),
        "mean score at the target of the treatment; of masks, over the layers that the edit can reach",
    ),
    control_score=(pa.float64(), "and of the control"),
    difference=(pa.float64(), "mean over sequences of their difference"),
    difference_low=shared_columns.LOW,
    difference_high=shared_columns.HIGH,
    difference_low_all=_LOW_ALL,
    difference_high_all=_HIGH_ALL,
    effect_size=(pa.float64(), "difference / its standard deviation over sequences (Cohen's d_z)"),
    effect_size_low=shared_columns.LOW,
    effect_size_high=shared_columns.HIGH,
    overlap=(pa.bool_(), "whether the two scores' intervals among all comparisons overlap"),
    comparisons=_COMPARISONS,
)

DOSE_SCHEMA = tables.schema(
    **{name: column for name, column in _POINT.items() if name != "strength"},
    strengths=(pa.string(), "the strengths, 1 being the unedited model"),
    scores=(pa.string(), "mean score at the target at each"),
    kendall_tau=(pa.float64(), "Kendall's tau-a of the mean score against the strength; 1 is a strictly rising curve"),
    kendall_tau_low=shared_columns.LOW,
    kendall_tau_high=shared_columns.HIGH,
    kendall_tau_low_all=_LOW_ALL,
    kendall_tau_high_all=_HIGH_ALL,
    curves=(pa.int32(), "number of curves that these intervals hold for together (Bonferroni)"),
    best_strength=(pa.float64(), "strength of the highest mean score"),
    best_strength_low=shared_columns.LOW,
    best_strength_high=shared_columns.HIGH,
    best_score=(pa.float64(), "the score there"),
    last_step=(pa.float64(), "score at the largest strength - score at the one before"),
    last_step_low=shared_columns.LOW,
    last_step_high=shared_columns.HIGH,
    below_best=(pa.float64(), "best_score - score at the largest strength"),
    below_best_low=shared_columns.LOW,
    below_best_high=shared_columns.HIGH,
)

GRID_SCHEMA = tables.schema(
    **{name: column for name, column in _POINT.items() if name not in ("strength", "mean_factor")},
    points=(pa.int32(), "number of points (alpha, lambda) of the grid"),
    dispersion_tau=(pa.float64(), "Kendall's tau-b of the mean score against lambda / alpha, over the points"),
    dispersion_tau_low=shared_columns.LOW,
    dispersion_tau_high=shared_columns.HIGH,
    variance_tau=(pa.float64(), "the same against lambda, whose square the variance is proportional to"),
    variance_tau_low=shared_columns.LOW,
    variance_tau_high=shared_columns.HIGH,
    difference=(pa.float64(), "dispersion_tau - variance_tau"),
    difference_low=shared_columns.LOW,
    difference_high=shared_columns.HIGH,
    difference_low_all=_LOW_ALL,
    difference_high_all=_HIGH_ALL,
    grids=(pa.int32(), "number of grids that these intervals hold for together (Bonferroni)"),
)

_IDENTITY = ("intervention", "kind", "strength", "mean_factor", "site", "layers", "positions", "target")
_RESIDUALS = ("norm", "dominance_ratio", "key_cosine")


@dataclass
class _Measured:
    """One point at one target.

    Attributes:
        identity: its columns of ``_IDENTITY``.
        sequences: (N,) numbers.
        score, first: (L, N) means over heads.
        residuals: (L,) means over sequences of norm, dominance ratio and key cosine.
        losses: loss, baseline_loss and divergence (N,), or nothing.
        columns: (T,) mean score over layers by position, or None.
    """

    identity: dict
    sequences: np.ndarray
    score: np.ndarray
    first: np.ndarray
    residuals: dict[str, np.ndarray]
    losses: dict[str, np.ndarray]
    columns: np.ndarray | None


def _read(path: Path) -> pl.DataFrame:
    frame = pl.from_arrow(tables.read_table(path))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _mean_over_heads(path: Path) -> pl.DataFrame:
    """Scores of every point, layer and sequence, read a row group at a time: each holds all heads of its sequences."""
    keys = [*_IDENTITY, "layer", "sequence"]
    parts = []
    try:
        with pq.ParquetFile(path) as file:
            for i in range(file.num_row_groups):
                frame = pl.from_arrow(file.read_row_group(i))
                assert isinstance(frame, pl.DataFrame)
                means = pl.col("score", "first_score").cast(pl.Float64).mean()
                parts.append(frame.group_by(keys, maintain_order=True).agg(means))
    except (OSError, pa.ArrowInvalid, pl.exceptions.PolarsError) as error:
        raise SinkoriginError(f"{path} cannot be read as Parquet; {tables.remedy(path)}") from error
    return pl.concat(parts)


def _measured(folder: Path) -> Iterator[_Measured]:
    """Every point and target of a folder of tables, in order."""
    scores = _mean_over_heads(folder / "scores.parquet")
    residuals = _read(folder / "residuals.parquet")
    positions = _read(folder / "positions.parquet")
    losses = _read(folder / "losses.parquet") if (folder / "losses.parquet").is_file() else None
    for identity in scores.select(_IDENTITY).unique().sort(_IDENTITY).to_dicts():

        def of(frame: pl.DataFrame, *, target: bool = True, identity=identity) -> pl.DataFrame:
            here = pl.lit(value=True)
            for name in _IDENTITY if target else _IDENTITY[:-1]:
                here &= pl.col(name).eq_missing(pl.lit(identity[name]))
            return frame.filter(here)

        own = of(scores).sort("layer", "sequence")
        depth, sequences = own["layer"].n_unique(), own["sequence"].unique().sort().to_numpy()
        if len(own) != depth * len(sequences):
            raise SinkoriginError(
                f"{folder} does not have every layer of every sequence; {tables.remedy(folder / 'scores.parquet')}"
            )
        layers = of(residuals).group_by("layer").agg(pl.col(*_RESIDUALS).cast(pl.Float64).mean()).sort("layer")
        if identity["kind"] == BASELINE:
            columns = positions
            lost = None if losses is None else of(losses)
        else:
            columns = of(positions, target=False)
            # losses are read from the first of the edited positions on, once for all of them
            lost = None if losses is None else of(losses.with_columns(target=pl.lit(identity["target"], pl.Int32)))
        lost = None if lost is None else lost.sort("sequence")
        yield _Measured(
            identity,
            sequences,
            own["score"].to_numpy().reshape(depth, -1),
            own["first_score"].to_numpy().reshape(depth, -1),
            {name: layers[name].to_numpy() for name in _RESIDUALS},
            {}
            if lost is None
            else {name: lost[name].cast(pl.Float64).to_numpy() for name in ("loss", "baseline_loss", "divergence")},
            columns.group_by("position").agg(pl.col("score").mean()).sort("position")["score"].to_numpy(),
        )


def intervention_tables(
    directories: Sequence[str | Path],
    length: int,
    *,
    model: str,
    prompts: str,
    replicates: int,
    comparison_replicates: int,
    seed: int,
) -> dict[str, pa.Table]:
    """Size and uncertainty of every intervention at every target, by layer, against its controls, and by strength.

    A sink is made where the score over q > k is above what uniform attention would give and above the unedited score
    of the same sequences, both with the lower end of the interval that holds for all comparisons together. Scores are
    attention weights in 0 … 1.

    Args:
        directories: the folders of the interventions, with a subfolder a strength, and that of the baseline, recognised
            by its tables, which has every target.
        length: T, the number of tokens of a prompt.
        model, prompts: names, for the first columns.
        replicates, seed: of the bootstrap over sequences, which are drawn together with their baselines.
        comparison_replicates: of the intervals among all comparisons.

    Returns:
        Tables by name: ``interventions`` (``SCHEMA``; the baseline at each target first, then the interventions in the
        order of their names, strengths and targets), ``intervention_layers`` (``LAYERS_SCHEMA``),
        ``intervention_contrasts`` (``CONTRASTS_SCHEMA``), ``dose_response`` (``DOSE_SCHEMA``) and ``dispersion_grid``
        (``GRID_SCHEMA``).

    Raises:
        SinkoriginError: no baseline, or one that lacks a target or a sequence.
    """
    baselines: dict[int, _Measured] = {}
    folders = []
    for directory in map(Path, directories):
        if (directory / "scores.parquet").is_file():
            baselines |= {own.identity["target"]: own for own in _measured(tables.checked_directory(directory))}
        else:
            folders += sorted(path for path in directory.iterdir() if path.is_dir())
    if not baselines:
        raise SinkoriginError(
            f"model {model}, prompts {prompts}: the interventions have no baseline table to compare with; "
            "delete the folder baseline beside them and run the same command again"
        )
    keys = {"model": model, "prompts": prompts}
    rows, by_layer, seen, unedited = [], [], [], []
    measured: Iterator[_Measured] = (own for folder in folders for own in _measured(tables.checked_directory(folder)))
    for own in (*baselines.values(), *measured):
        target = own.identity["target"]
        before = baselines.get(target)
        if before is None or not np.array_equal(own.sequences, before.sequences):
            raise SinkoriginError(
                f"intervention {own.identity['intervention']}: the baseline lacks target {target} for its sequences; "
                f"{tables.remedy(Path(directories[0], 'scores.parquet'))}"
            )
        weights = resamples(len(own.sequences), replicates, seed)
        rows.append({**keys, **_row(own, before, weights, length)})
        by_layer += [{**keys, **row} for row in _layer_rows(own, weights)]
        seen.append(_by_sequence(own, own))
        unedited.append(_by_sequence(before, own))
    pairs = list(_pairs(rows))
    comparisons = _compare(rows, seen, unedited, pairs, comparison_replicates, seed)
    contrasts = [
        {**keys, **_contrast(rows[a], rows[b], *_compared(rows, seen, a, b), replicates, seed), **found}
        for (a, b), found in zip(pairs, comparisons, strict=True)
    ]
    scores = [quantities["score"] for quantities in seen]
    doses = _doses(rows, scores, [quantities["score"] for quantities in unedited], comparison_replicates, seed)
    grids = _grids(rows, scores, comparison_replicates, seed)

    def order(row: Mapping) -> tuple:
        return (
            row["kind"] != BASELINE, row["intervention"], row["strength"] or 0.0, row["mean_factor"] or 0.0,
            row["target"], row["positions"], row.get("layer", 0),
        )  # fmt: skip

    return {
        "interventions": from_rows(SCHEMA, sorted(rows, key=order)),
        "intervention_layers": from_rows(LAYERS_SCHEMA, sorted(by_layer, key=order)),
        "intervention_contrasts": from_rows(CONTRASTS_SCHEMA, contrasts),
        "dose_response": from_rows(DOSE_SCHEMA, [{**keys, **row} for row in doses]),
        "dispersion_grid": from_rows(GRID_SCHEMA, [{**keys, **row} for row in grids]),
    }


def _ends(name: str, samples: np.ndarray) -> dict[str, float]:
    low, high = interval(samples)
    return {f"{name}_low": float(low), f"{name}_high": float(high)}


def _ends_among(count: int, name: str, samples: np.ndarray) -> dict[str, float]:
    """The interval of one among ``count`` quantities that are to hold together (Bonferroni)."""
    low, high = interval(samples, confidence=1 - (1 - CONFIDENCE) / count)
    return {f"{name}_low_all": float(low), f"{name}_high_all": float(high)}


def _by_sequence(own: _Measured, edit: _Measured) -> dict[str, np.ndarray]:
    """(N,) quantities of one point; ``reached`` over the layers above the first one that ``edit`` edits, if there are."""
    found = {"score": own.score.mean(axis=0), "first_score": own.first.mean(axis=0)}
    above = _first_layer(edit.identity) + 1 if edit.identity["layers"] else 0
    if above < len(own.score):
        found["reached_score"] = own.score[above:].mean(axis=0)
    return found


def effect_size(difference: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Cohen's d_z of (N,) paired differences: mean / unbiased standard deviation; NaN where they do not vary.

    Args:
        weights: (R, N) of :func:`resamples`; then (R,) replicates.
    """
    sequences = len(difference)
    weights = np.full((1, sequences), 1 / sequences) if weights is None else weights
    mean = weights @ difference
    spread = np.maximum(weights @ np.square(difference) - np.square(mean), 0.0)
    deviation = np.sqrt(spread * sequences / (sequences - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(deviation > 1e-12 * np.abs(difference).max(initial=0.0), mean / deviation, np.nan)


def _row(own: _Measured, before: _Measured, weights: np.ndarray, length: int) -> dict:
    """A row of ``SCHEMA`` without the intervals among all comparisons."""
    target = own.identity["target"]
    edited = {int(k) for k in own.identity["positions"].split(",")}
    score, unedited = own.score.mean(axis=0), before.score.mean(axis=0)
    first, first_unedited = own.first.mean(axis=0), before.first.mean(axis=0)
    by_sequence = {
        "score": score,
        "baseline": unedited,
        "effect": score - unedited,
        "first_score": first,
        "first_effect": first - first_unedited,
    }
    row = {**own.identity, "sequences": len(own.sequences), "first_baseline": float(first_unedited.mean())}
    for name, values in by_sequence.items():
        row |= {name: float(values.mean()), **_ends(name, weights @ values)}
    layers = own.score.mean(axis=1)  # (L,)
    uniform = uniform_score(target, length)
    above = np.flatnonzero(layers > SINK_FACTOR * uniform)
    peak = int(layers.argmax())
    row |= {
        "effect_size": float(effect_size(score - unedited)[0]),
        "uniform": uniform,
        "norm": float(own.residuals["norm"].max()),
        "dominance_ratio": float(own.residuals["dominance_ratio"].max()),
        "key_cosine": float(own.residuals["key_cosine"][peak]),
        "baseline_key_cosine": float(before.residuals["key_cosine"][peak]),
        "peak_layer": peak,
        "peak_layer_score": float(layers.max()),
        "onset_layer": int(above[0]) if len(above) else None,
        **_where(own, edited, length),
        **dict.fromkeys(SCHEMA.names[SCHEMA.names.index("loss") : SCHEMA.names.index("sink")]),
    }
    if own.losses:
        change = own.losses["loss"] - own.losses["baseline_loss"]
        row |= {"loss": float(own.losses["loss"].mean()), "loss_change": float(change.mean())}
        row |= {"divergence": float(own.losses["divergence"].mean())}
        row |= _ends("loss_change", weights @ change) | _ends("divergence", weights @ own.losses["divergence"])
    return row


def _where(own: _Measured, edited: set[int], length: int) -> dict:
    """Where in the first half the attention goes; later positions have few queries."""
    assert own.columns is not None
    half = own.columns[: length // 2 + 1]
    top = int(half.argmax())
    others = np.where(np.isin(np.arange(len(half)), [0, *edited]), -np.inf, half)
    other = int(others.argmax())
    return {
        "top_position": top, "top_position_score": float(half[top]),
        "other_position": other, "other_position_score": float(half[other]),
    }  # fmt: skip


def _layer_rows(own: _Measured, weights: np.ndarray) -> list[dict]:
    low, high = interval(weights @ own.score.T)  # (L,)
    return [
        {
            **own.identity, "layer": layer, "score": float(own.score[layer].mean()),
            "score_low": float(low[layer]), "score_high": float(high[layer]),
            "first_score": float(own.first[layer].mean()),
            **{name: float(values[layer]) for name, values in own.residuals.items()},
        }
        for layer in range(len(own.score))
    ]  # fmt: skip


_CONTROLS = ("norm_control", "random_directions", "mean_shift", "shuffled_deviations")


def _pairs(rows: Sequence[Mapping]) -> Iterator[tuple[int, int]]:
    """Rows that are held against one another: (treatment, control).

    Amplified variance against each control of the same place and strength, and against itself after W_O; the mask at the
    earliest layers against masks at others.
    """
    masks = [row for row in rows if row["kind"] == "mask"]
    earliest = min((_first_layer(row) for row in masks), default=0)
    for a, treatment in enumerate(rows):
        for b, control in enumerate(rows):
            if a == b or any(treatment[name] != control[name] for name in ("positions", "target")):
                continue
            same_layers = treatment["layers"] == control["layers"]
            if treatment["kind"] == "variance_amplification" and treatment["site"] == "value_aggregation":
                if not same_layers or treatment["strength"] != control["strength"] or treatment["strength"] <= 1:
                    continue
                if control["kind"] in _CONTROLS or (
                    control["kind"] == treatment["kind"] and control["site"] != treatment["site"]
                ):
                    yield a, b
            elif (
                treatment["kind"] == control["kind"] == "mask"
                and not same_layers
                and (_first_layer(treatment) == earliest and _first_layer(control) > _last_layer(treatment))
            ):
                yield a, b


def _first_layer(row: Mapping) -> int:
    return int(row["layers"].replace("-", ",").split(",")[0])


def _last_layer(row: Mapping) -> int:
    return int(row["layers"].replace("-", ",").split(",")[-1])


_EFFECTS = {"score": "effect", "first_score": "first_effect", "reached_score": "reached_effect"}


def _compared(rows, seen, a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
    """(N,) scores of a pair: masks at different layers are held against one another where each can act."""
    name = "reached_score" if rows[a]["kind"] == "mask" and "reached_score" in seen[b] else "score"
    return seen[a][name], seen[b][name]


def _compare(rows, seen, unedited, pairs, replicates: int, seed: int) -> list[dict]:
    """Add the intervals among all comparisons to ``rows``, and return those of the pairs."""
    quantities, places = [], []
    for i, row in enumerate(rows):
        row |= {f"{effect}{end}_all": 0.0 for effect in _EFFECTS.values() for end in ("_low", "_high")}
        for name in ("reached_score", "reached_effect"):
            row |= {name: None, f"{name}_low_all": None, f"{name}_high_all": None}
        for name, own in seen[i].items():
            if name != "first_score":
                quantities.append(own)
                places.append((i, name))
            if row["kind"] != BASELINE:
                quantities.append(own - unedited[i][name])
                places.append((i, _EFFECTS[name]))
            if name == "reached_score":
                row |= {name: float(own.mean()), _EFFECTS[name]: float((own - unedited[i][name]).mean())}
    for a, b in pairs:
        treatment, control = _compared(rows, seen, a, b)
        quantities.append(treatment - control)
    sequences = len(seen[0]["score"])
    low, high = simultaneous_interval(np.stack(quantities, axis=1), resamples(sequences, replicates, seed))
    for (i, name), below, above in zip(places, low, high, strict=False):
        rows[i] |= {f"{name}_low_all": float(below), f"{name}_high_all": float(above)}
    for row in rows:
        row["comparisons"] = len(quantities)
        row["sink"] = row["score_low_all"] > row["uniform"] and row["effect_low_all"] > 0
    found = []
    for (a, b), below, above in zip(pairs, low[len(places) :], high[len(places) :], strict=True):
        name = "reached_score" if rows[a]["kind"] == "mask" and rows[b]["reached_score"] is not None else "score"
        overlap = (
            rows[a][f"{name}_low_all"] <= rows[b][f"{name}_high_all"]
            and rows[b][f"{name}_low_all"] <= rows[a][f"{name}_high_all"]
        )
        found.append(
            {
                "difference_low_all": float(below), "difference_high_all": float(above), "overlap": overlap,
                "comparisons": len(quantities),
            }
        )  # fmt: skip
    return found


def _contrast(treatment, control, score, control_score, replicates: int, seed: int) -> dict:
    """A row of ``CONTRASTS_SCHEMA`` without the intervals among all comparisons."""
    weights = resamples(len(score), replicates, seed)
    difference = score - control_score
    return {
        "treatment": treatment["intervention"],
        "control": control["intervention"],
        "treatment_kind": treatment["kind"],
        "control_kind": control["kind"],
        "control_layers": control["layers"],
        "control_site": control["site"],
        **{name: treatment[name] for name in ("strength", "layers", "site", "positions", "target")},
        "sequences": len(score),
        "score": float(score.mean()),
        "control_score": float(control_score.mean()),
        "difference": float(difference.mean()),
        **_ends("difference", weights @ difference),
        "effect_size": float(effect_size(difference)[0]),
        **_ends("effect_size", effect_size(difference, weights)),
    }


def _doses(rows, scores, unedited, replicates: int, seed: int) -> Iterator[dict]:
    """Rows of ``DOSE_SCHEMA``: score against strength where there are at least two besides the unedited model."""
    groups: dict[tuple, list[int]] = {}
    names = [name for name in _IDENTITY if name != "strength"]
    for i, row in enumerate(rows):
        if row["kind"] != BASELINE:
            groups.setdefault(tuple(row[name] for name in names), []).append(i)
    curves = []
    for identity, members in sorted(groups.items(), key=lambda item: str(item[0])):
        kind = rows[members[0]]["kind"]
        # strength 1 is the unedited model, unless the edit swaps content or scales the mean by another factor
        starts = kind not in ("shuffled_deviations", "mean_and_deviation")
        curve = [(rows[i]["strength"], scores[i]) for i in members if not starts or rows[i]["strength"] != 1]
        if len(curve) > 1 and kind != "value_averaging":
            curve += [(1.0, unedited[members[0]])] if starts else []
            curves.append((identity, sorted(curve, key=lambda point: point[0])))
    for identity, curve in curves:
        strengths = np.array([strength for strength, _ in curve])
        values = np.stack([score for _, score in curve], axis=-1)  # (N, strengths)
        mean = values.mean(axis=0)
        samples = resamples(len(values), replicates, seed) @ values  # (R, strengths)
        best = int(mean.argmax())
        row = dict(zip(names, identity, strict=True))
        row |= {
            "strengths": " ".join(f"{strength:g}" for strength in strengths),
            "scores": " ".join(f"{score:.6f}" for score in mean),
            "kendall_tau": float(kendall_tau(mean)),
            **_ends("kendall_tau", kendall_tau(samples)),
            **_ends_among(len(curves), "kendall_tau", kendall_tau(samples)),
            "curves": len(curves),
            "best_strength": float(strengths[best]),
            "best_score": float(mean[best]),
            "last_step": float(mean[-1] - mean[-2]),
            **_ends("last_step", samples[:, -1] - samples[:, -2]),
            "below_best": float(mean[best] - mean[-1]),
            **_ends("below_best", samples.max(axis=1) - samples[:, -1]),
        }
        low, high = interval(strengths[samples.argmax(axis=1)], method="inverted_cdf")
        yield row | {"best_strength_low": float(low), "best_strength_high": float(high)}


def kendall_tau_b(values: np.ndarray, against: np.ndarray) -> np.ndarray:
    """Kendall's tau-b, which allows for ties (Kendall 1945), of (..., n) values against (n,) others.

    Returns:
        (...) in −1 … 1; NaN where either is the same everywhere.
    """
    # infinities are in order too, but inf − inf is not a number
    other = np.unique(against, return_inverse=True)[1]
    upper = np.triu_indices(len(other), 1)
    sign = np.sign(np.subtract.outer(other, other)[upper])
    own = np.sign(values[..., upper[0]] - values[..., upper[1]])
    with np.errstate(divide="ignore", invalid="ignore"):
        return (own * sign).sum(axis=-1) / np.sqrt((own != 0).sum(axis=-1) * (sign != 0).sum())


def _grids(rows, scores, replicates: int, seed: int) -> Iterator[dict]:
    """Rows of ``GRID_SCHEMA``: what the score follows over a grid of factors of the mean and of the deviation."""
    groups: dict[tuple, list[int]] = {}
    names = [name for name in _IDENTITY if name not in ("strength", "mean_factor")]
    for i, row in enumerate(rows):
        if row["kind"] == "mean_and_deviation":
            groups.setdefault(tuple(row[name] for name in names), []).append(i)
    for identity, members in sorted(groups.items()):
        values = np.stack([scores[i] for i in members], axis=-1)  # (N, points)
        samples = resamples(len(values), replicates, seed) @ values
        deviation = np.array([rows[i]["strength"] for i in members])
        with np.errstate(divide="ignore"):
            ratio = deviation / np.array([rows[i]["mean_factor"] for i in members])
        row = {**dict(zip(names, identity, strict=True)), "points": len(members)}
        found = {}
        for name, against in (("dispersion_tau", ratio), ("variance_tau", deviation)):
            found[name] = kendall_tau_b(values.mean(axis=0), against), kendall_tau_b(samples, against)
        pairs = [found["dispersion_tau"], found["variance_tau"]]
        found["difference"] = pairs[0][0] - pairs[1][0], pairs[0][1] - pairs[1][1]
        for name, (value, drawn) in found.items():
            row |= {name: float(value), **_ends(name, drawn)}
        yield row | _ends_among(len(groups), "difference", found["difference"][1]) | {"grids": len(groups)}
