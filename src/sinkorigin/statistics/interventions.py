"""What each intervention does, compared sequence by sequence with the unedited model and with its controls."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions.kind import BASELINE
from sinkorigin.statistics import conversions, curve_contrasts, dispersion_grid, dose_response, intervention_contrasts
from sinkorigin.statistics.bootstrap import Resampling, joined, simultaneous_interval
from sinkorigin.statistics.effects import COMPARISONS, IDENTITY, Effect, Measured, effect_size, estimated, measured
from sinkorigin.statistics.grids import from_rows
from sinkorigin.statistics.shared_columns import LAYER, among_all, estimate
from sinkorigin.statistics.uniform import SINK_FACTOR, uniform_score

SCHEMA = tables.schema(
    **IDENTITY,
    sequences=(pa.int32(), "number of sequences"),
    **estimate("score", "attention weight on the target over q > k, mean over layers, heads and sequences"),
    **among_all("score"),
    **estimate("baseline", "score in the unedited model"),
    **estimate("effect", "mean over sequences of score - baseline, paired by sequence"),
    **among_all("effect"),
    effect_size=(pa.float64(), "effect / standard deviation over sequences of the paired difference (Cohen's d_z)"),
    uniform=(pa.float64(), "score that uniform attention would give at the target"),
    reached_score=(
        pa.float64(),
        "score over the layers that the edit can reach, those above the first edited one; null where there are none",
    ),
    **among_all("reached_score"),
    reached_effect=(pa.float64(), "mean over sequences of reached_score - that of the unedited model"),
    **among_all("reached_effect"),
    **estimate("first_score", "attention weight on position 0 over q > 0, mean over layers, heads and sequences"),
    first_baseline=(pa.float64(), "score in the unedited model"),
    **estimate("first_effect", "mean over sequences of first_score - first_baseline"),
    **among_all("first_effect"),
    norm=(pa.float64(), "norm of the residual at the target: mean over sequences, in the layer where that is largest"),
    dominance_ratio=(pa.float64(), "its dominance ratio: mean over sequences, in the layer where that is largest"),
    key_cosine=(pa.float64(), "cosine of the target's key between two sequences: mean, in peak_layer"),
    baseline_key_cosine=(pa.float64(), "key_cosine in the unedited model, in the same layer"),
    **estimate("key_cosine_change", "mean over sequences of key_cosine - baseline_key_cosine, paired by sequence"),
    peak_layer=(pa.int32(), "layer where the mean score at the target is highest"),
    peak_layer_score=(pa.float64(), "mean over heads and sequences of the score in that layer"),
    onset_layer=(
        pa.int32(),
        "first layer whose mean score at the target is 3 times the uniform one; null where none is",
    ),
    top_position=(pa.int32(), "position of the first half with the highest mean score over layers"),
    top_position_score=(pa.float64(), "that score"),
    other_position=(pa.int32(), "that position among those other than 0 and the edited ones"),
    other_position_score=(pa.float64(), "that score"),
    loss=(pa.float64(), "mean next-token loss from the target on, in nats; null on random tokens"),
    **estimate("loss_change", "mean over sequences of the loss - the unedited one, in nats"),
    **estimate("divergence", "KL(unedited || edited) of the next token from the target on, in nats"),
    sink=(pa.bool_(), f"score_low_all > {SINK_FACTOR:g} uniform and effect_low_all > 0"),
    comparisons=COMPARISONS,
)

LAYERS_SCHEMA = tables.schema(
    **IDENTITY,
    layer=LAYER,
    **estimate("score", "attention weight on the target over q > k, mean over heads and sequences"),
    first_score=(pa.float64(), "attention weight on position 0 over q > 0, mean over heads and sequences"),
    norm=(pa.float64(), "norm of the residual leaving the layer at the target, mean over sequences"),
    dominance_ratio=(pa.float64(), "its dominance ratio, mean over sequences"),
    key_cosine=(pa.float64(), "cosine of the target's key between two sequences, mean"),
)

TABLES = {
    "interventions": SCHEMA,
    "intervention_layers": LAYERS_SCHEMA,
    "intervention_contrasts": intervention_contrasts.SCHEMA,
    "dose_response": dose_response.SCHEMA,
    "dispersion_grid": dispersion_grid.SCHEMA,
    "conversions": conversions.SCHEMA,
    "curve_contrasts": curve_contrasts.SCHEMA,
}

_EFFECTS = {"score": "effect", "first_score": "first_effect", "reached_score": "reached_effect"}


def compute(
    inputs: Mapping[str, str | list[str]],
    *,
    model: str,
    prompts: str,
    length: int,
    resampling: Resampling,
    comparison_replicates: int,
    only: Sequence[str] | None,
) -> dict[str, pa.Table]:
    """Size and uncertainty of every intervention at every target, by layer, against its controls, and by strength.

    A sink is made where the score over q > k is above ``SINK_FACTOR`` times what uniform attention would give and above the
    unedited score of the same sequences, both with the lower end of the interval that holds for all comparisons together.
    Scores are attention weights in 0 … 1.

    Args:
        inputs: ``baseline``, the manifest of the tables of the unedited model, which have every target; ``edited``, that of
            the folders of the interventions, with a subfolder a strength; ``resolved``, a table of ``resolution.SCHEMA``,
            of which those that are not applicable have no folder, and no rows here.
        model, prompts: names, for the first columns.
        length: T, the number of tokens of a prompt.
        resampling: how intervals resample the sequences, which are drawn together with their baselines.
        comparison_replicates: of the intervals among all comparisons.
        only: names of the interventions that there are, where not all of the resolved ones were made; else None.

    Returns:
        Tables by name: ``interventions`` (``SCHEMA``; the baseline at each target first, then the interventions in the
        order of their names, strengths and targets), ``intervention_layers`` (``LAYERS_SCHEMA``), and
        ``intervention_contrasts``, ``dose_response``, ``dispersion_grid``, ``conversions`` and ``curve_contrasts`` (the ``SCHEMA`` of
        the module of that name).

    Raises:
        SinkoriginError: no baseline, or one that lacks a target or a sequence.
    """
    keys = {"model": model, "prompts": prompts}
    effects, by_layer = [], []
    resolved = tables.read_table(str(inputs["resolved"]), ["intervention", "layers_rule", "applicable"]).to_pylist()
    rules = {
        row["intervention"]: row["layers_rule"]
        for row in resolved
        if row["applicable"] and (only is None or row["intervention"] in only)
    }
    for edited, before in _beside_unedited(
        Path(str(inputs["baseline"])).parent, Path(str(inputs["edited"])).parent, rules
    ):
        drawn = resampling.first(len(edited.sequences)).mixed(edited.units.tolist())
        row = {**keys, **_row(edited, before, drawn, length)}
        effects.append(Effect(edited.identity, edited.by_sequence(edited), before.by_sequence(edited), drawn, row))
        by_layer += [{**keys, **row} for row in _layer_rows(edited, drawn)]
    pairs = list(intervention_contrasts.pairs(effects))
    comparisons = _compare(effects, pairs, comparison_replicates)
    contrasts = [
        {**keys, **intervention_contrasts.contrast(treatment, control), **found}
        for (treatment, control), found in zip(pairs, comparisons, strict=True)
    ]
    edits = [effect for effect in effects if not effect.is_baseline]
    doses = dose_response.rows(edits, comparison_replicates)
    grids = dispersion_grid.rows(edits, comparison_replicates)
    converted = conversions.rows(edits)
    curves = curve_contrasts.rows(edits)

    def order(row: Mapping) -> tuple:
        return (
            row["kind"] != BASELINE, row["intervention"], row["strength"] or 0.0, row["mean_factor"] or 0.0, row["target"],
            row["positions"], row.get("layer", 0),
        )  # fmt: skip

    return {
        "interventions": from_rows(SCHEMA, sorted((effect.row for effect in effects), key=order)),
        "intervention_layers": from_rows(LAYERS_SCHEMA, sorted(by_layer, key=order)),
        "intervention_contrasts": from_rows(intervention_contrasts.SCHEMA, contrasts),
        "dose_response": from_rows(dose_response.SCHEMA, [{**keys, **row} for row in doses]),
        "dispersion_grid": from_rows(dispersion_grid.SCHEMA, [{**keys, **row} for row in grids]),
        "conversions": from_rows(conversions.SCHEMA, sorted(({**keys, **row} for row in converted), key=order)),
        "curve_contrasts": from_rows(curve_contrasts.SCHEMA, [{**keys, **row} for row in curves]),
    }


def _beside_unedited(
    baseline: Path, folder: Path, rules: Mapping[str, str | None]
) -> Iterator[tuple[Measured, Measured]]:
    """The unedited model at every target, and then every edit, each with the unedited model.

    Args:
        rules: name of an intervention → the rule of its layers.
    """
    unedited = {edited.identity["target"]: edited for edited in measured(baseline)}
    folders = (
        (path, rule) for name, rule in rules.items() for path in sorted((folder / name).iterdir()) if path.is_dir()
    )
    edits = (edited for place, rule in folders for edited in measured(place, rule))
    for edited in chain(unedited.values(), edits):
        target = edited.identity["target"]
        before = unedited.get(target)
        if before is None or not np.array_equal(edited.sequences, before.sequences):
            raise SinkoriginError(
                f"intervention {edited.identity['intervention']}: the baseline lacks target {target} for its sequences; "
                f"{tables.remedy(baseline / 'scores.parquet')}"
            )
        yield edited, before


def _row(edited: Measured, before: Measured, resampling: Resampling, length: int) -> dict:
    """A row of ``SCHEMA`` without model, prompts and the intervals among all comparisons."""
    score, unedited = edited.score.mean(axis=0), before.score.mean(axis=0)
    first, first_unedited = edited.first.mean(axis=0), before.first.mean(axis=0)
    by_sequence = {"score": score, "baseline": unedited, "effect": score - unedited}
    by_sequence |= {"first_score": first, "first_effect": first - first_unedited}
    row = {**edited.identity, "sequences": len(edited.sequences), "first_baseline": float(first_unedited.mean())}
    weights = resampling.weights(len(score))  # (R, N)
    for name, values in by_sequence.items():
        row |= estimated(name, values.mean(), weights @ values, resampling)
    layers = edited.score.mean(axis=1)  # (L,)
    uniform = uniform_score(edited.identity["target"], length)
    above = np.flatnonzero(layers > SINK_FACTOR * uniform)
    peak = int(layers.argmax())
    alike = edited.key_cosine[peak] - before.key_cosine[peak]  # (N,)
    row |= {
        "effect_size": float(effect_size(score - unedited)[0]),
        "uniform": uniform,
        "norm": float(edited.residuals["norm"].max()),
        "dominance_ratio": float(edited.residuals["dominance_ratio"].max()),
        "key_cosine": float(edited.residuals["key_cosine"][peak]),
        "baseline_key_cosine": float(before.residuals["key_cosine"][peak]),
        **estimated("key_cosine_change", alike.mean(), weights @ alike, resampling),
        "peak_layer": int(edited.layers[peak]),
        "peak_layer_score": float(layers.max()),
        "onset_layer": int(edited.layers[above[0]]) if len(above) else None,
        **_highest(edited.columns[: length // 2 + 1], edited.identity["positions"]),
        **dict.fromkeys(SCHEMA.names[SCHEMA.names.index("loss") : SCHEMA.names.index("sink")]),
    }
    if edited.losses:
        change = edited.losses["loss"] - edited.losses["baseline_loss"]
        divergence = edited.losses["divergence"]
        row["loss"] = float(edited.losses["loss"].mean())
        row |= estimated("loss_change", change.mean(), weights @ change, resampling)
        row |= estimated("divergence", divergence.mean(), weights @ divergence, resampling)
    return row


def _highest(columns: np.ndarray, edited: Sequence[int]) -> dict:
    """Where the attention goes, from scores by position of the first half; later positions have few queries."""
    top = int(columns.argmax())
    others = np.where(np.isin(np.arange(len(columns)), [0, *edited]), -np.inf, columns)
    other = int(others.argmax())
    return {
        "top_position": top, "top_position_score": float(columns[top]),
        "other_position": other, "other_position_score": float(columns[other]),
    }  # fmt: skip


def _layer_rows(edited: Measured, resampling: Resampling) -> list[dict]:
    low, high = resampling.interval(resampling.weights(len(edited.sequences)) @ edited.score.T)  # (L,)
    return [
        {
            **edited.identity, "layer": int(layer), "score": float(edited.score[row].mean()),
            "score_low": float(low[row]), "score_high": float(high[row]),
            "first_score": float(edited.first[row].mean()),
            **{name: float(values[row]) for name, values in edited.residuals.items()},
        }
        for row, layer in enumerate(edited.layers)
    ]  # fmt: skip


def _compare(effects: Sequence[Effect], pairs, replicates: int) -> list[dict]:
    """Add the intervals among all comparisons to the effects' rows, and return those of the pairs.

    Comparisons whose sequences are resampled in other clusters, because an edit mixes sequences, are a family of their own.
    """
    quantities, places, resamplings = [], [], []
    for effect in effects:
        row = effect.row
        row |= {f"{name}{end}_all": 0.0 for name in _EFFECTS.values() for end in ("_low", "_high")}
        for name in ("reached_score", "reached_effect"):
            row |= {name: None, f"{name}_low_all": None, f"{name}_high_all": None}
        for name, values in effect.seen.items():
            change = values - effect.unedited[name]
            if name != "first_score":
                quantities.append(values)
                places.append((row, name))
                resamplings.append(effect.resampling)
            if not effect.is_baseline:
                quantities.append(change)
                places.append((row, _EFFECTS[name]))
                resamplings.append(effect.resampling)
            if name == "reached_score":
                row |= {name: float(values.mean()), _EFFECTS[name]: float(change.mean())}
    for treatment, control in pairs:
        name = intervention_contrasts.compared(treatment, control)
        quantities.append(treatment.seen[name] - control.seen[name])
        resamplings.append(joined([treatment.resampling, control.resampling]))
    low, high, family = _ends(quantities, resamplings, replicates)
    for (row, name), below, above in zip(places, low, high, strict=False):
        row |= {f"{name}_low_all": float(below), f"{name}_high_all": float(above)}
    for (row, _), comparisons in zip(places, family, strict=False):
        row["comparisons"] = int(comparisons)
        known = np.isfinite(row["score_low_all"])
        above = row["score_low_all"] > SINK_FACTOR * row["uniform"] and row["effect_low_all"] > 0
        row["sink"] = above if known else None
    found = []
    of_pairs = zip(pairs, *(ends[len(places) :] for ends in (low, high, family)), strict=True)
    for (treatment, control), below, above, comparisons in of_pairs:
        name = intervention_contrasts.compared(treatment, control)
        overlap = (
            treatment.row[f"{name}_low_all"] <= control.row[f"{name}_high_all"]
            and control.row[f"{name}_low_all"] <= treatment.row[f"{name}_high_all"]
        )
        found.append(
            {
                "difference_low_all": float(below), "difference_high_all": float(above), "overlap": overlap if np.isfinite(below) else None,
                "comparisons": int(comparisons),
            }
        )  # fmt: skip
    return found


def _ends(
    quantities: Sequence[np.ndarray], resamplings: Sequence[Resampling], replicates: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ends of the intervals of (N,) quantities that hold together with those resampled alike, and how many these are."""
    low, high, family = np.empty((3, len(quantities)))
    for resampling in dict.fromkeys(resamplings):
        here = [number for number, other in enumerate(resamplings) if other == resampling]
        values = np.stack([quantities[number] for number in here], axis=1)
        low[here], high[here] = simultaneous_interval(values, resampling.times(replicates))
        family[here] = len(here)
    return low, high, family
