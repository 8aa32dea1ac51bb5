"""The paper's claims, each a predicate over the study's tables with its uncertainty.

A claim is *seen* when the whole interval satisfies its predicate, *undecided* when only the estimate does, *not seen at
this scale* when the estimate does not, and *not applicable* when the quantity is not defined or was not measured.
"""

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import gt, itemgetter
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from sinkorigin import tables

SEEN, NOT_SEEN, UNDECIDED, NOT_APPLICABLE = "seen", "not seen at this scale", "undecided", "not applicable"

SCHEMA = tables.schema(
    claim=(pa.string(), "short name of the claim"),
    statement=(pa.string(), "what is claimed, in words"),
    quantity=(pa.string(), "what value is"),
    model=(pa.string(), "label of the model, or the models and seeds compared"),
    prompts=(pa.string(), "prompt set; null for losses"),
    paper=(pa.string(), "what the paper reports (Llama-2-7B, or a 152 M model for pretraining); null for our controls"),
    value=(pa.float64(), "our value"),
    low=(pa.float64(), "lower end of its 95 % interval"),
    high=(pa.float64(), "upper end of its 95 % interval"),
    predicate=(pa.string(), "what the interval is held against"),
    verdict=(pa.string(), "seen, not seen at this scale, undecided or not applicable"),
    reason=(pa.string(), "numbers behind the verdict, or why there is none"),
    table=(pa.string(), "table it was read from, below the study's folder"),
)

# Criteria of ours, where the paper gives none.
SINK_FACTOR = 3.0  # a sink gets at least so many times the attention that uniform attention would give
NO_SINK_FACTOR = 1.5  # and a model without one at most so many times
DOMINANCE_FACTOR = 2.0  # the first token's dominance ratio against the others'
ONSET_DISTANCE = 1  # layers between norm surge and sink onset: a layer's sink reads the residual before it
PAPER_EPSILON = 0.3  # of the sink rate
NEGLIGIBLE = 0.1  # an effect below this share of the uniform score counts as none


@dataclass(frozen=True)
class Judged:
    """A model that claims are about.

    Attributes:
        name: as in the tables; label: as in its provenance.
        role: "pretrained", "random" (the control) or "trained" (here).
        run, variant, seed, reading: of a trained model; reading says which form of head-wise RMSNorm was trained.
    """

    name: str
    label: str
    role: str
    run: str | None = None
    variant: str | None = None
    seed: int | None = None
    reading: str | None = None


def verdict(value: float | None, low: float | None, high: float | None, holds: Callable[[float], bool]) -> str:
    """Verdict of a predicate that is true on one side of a threshold, or between two.

    An interval that is missing or not finite (one seed, for instance) decides nothing.
    """
    if value is None or not np.isfinite(value):
        return NOT_APPLICABLE
    if not holds(value):
        return NOT_SEEN
    ends = [end for end in (low, high) if end is not None and np.isfinite(end)]
    return SEEN if len(ends) == 2 and all(map(holds, ends)) else UNDECIDED


def paired_interval(differences: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean of paired differences over seeds, and its 95 % Student interval (n − 1 degrees of freedom; none for n = 1)."""
    values = np.asarray(differences, dtype=np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return mean, None, None
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def _row(claim, statement, quantity, model, prompts, paper, predicate, table, **found) -> dict:
    return {
        "claim": claim, "statement": statement, "quantity": quantity, "model": model, "prompts": prompts,
        "paper": paper, "predicate": predicate, "table": table,
        **{"value": None, "low": None, "high": None, "verdict": NOT_APPLICABLE, "reason": None, **found},
    }  # fmt: skip


def _decided(value, low, high, holds, reason=None) -> dict:
    return {"value": value, "low": low, "high": high, "verdict": verdict(value, low, high, holds), "reason": reason}


class _Tables:
    """The statistics tables of one model on one prompt set."""

    def __init__(self, root: Path, model: str, prompts: str):
        self._root, self._folder = root, f"statistics/{model}/{prompts}"

    def path(self, name: str) -> str:
        return f"{self._folder}/{name}.parquet"

    def read(self, name: str) -> pl.DataFrame | None:
        path = self._root / self.path(name)
        return pl.read_parquet(path, hive_partitioning=False, glob=False) if path.is_file() else None


def _one_model(own: _Tables, model: Judged, prompts: str) -> Iterator[dict]:
    """Claims about a model as it is: variance discrepancy, sink, surge, disparity."""
    control = "control: " if model.role == "random" else ""

    trend = own.read("variance_trend")
    if trend is not None:
        first = trend.filter((pl.col("layer") == 0) & (pl.col("site") == "value_aggregation"))
        undefined = "every sequence begins with the same token, so position 0 has no variance"
        for claim, statement, quantity, column, paper, predicate, holds in (
            (
                "variance discrepancy", "the variance of layer 0's value aggregation is highest at position 0",
                "variance at position 0 / mean of the others", "ratio", "highest at position 0", "> 1", lambda x: x > 1,
            ),
            (
                "variance decay", "that variance falls with position", "Kendall's τ of variance against position",
                "kendall_tau", "falls monotonically", "< 0", lambda x: x < 0,
            ),
        ):  # fmt: skip
            row = first.to_dicts()[0] if len(first) else {}
            value = row.get(column)
            yield _row(
                claim, control + statement, quantity, model.label, prompts, paper, predicate,
                own.path("variance_trend"),
                **_decided(
                    value, row.get(f"{column}_low"), row.get(f"{column}_high"), holds,
                    undefined if value is None else None,
                ),
            )  # fmt: skip

    mass = own.read("sink_mass")
    if mass is not None:
        peak = mass.sort("mass", descending=True, nulls_last=True).to_dicts()[0]
        value, low, high = (peak[name] / peak["uniform"] for name in ("mass", "mass_low", "mass_high"))
        reason = f"layer {peak['layer']}: mass {peak['mass']:.3f}, uniform attention would give {peak['uniform']:.3f}"
        statement, predicate, holds, paper = (
            ("random weights have no sink at position 0", f"< {NO_SINK_FACTOR:g}", lambda x: x < NO_SINK_FACTOR, None)
            if model.role == "random"
            else ("position 0 is a sink", f"> {SINK_FACTOR:g}", lambda x: x > SINK_FACTOR, "a sink from layer 2 on")
        )
        yield _row(
            "no sink" if model.role == "random" else "sink", control + statement,
            "largest sink mass of a layer / uniform attention", model.label, prompts, paper, predicate,
            own.path("sink_mass"), **_decided(value, low, high, holds, reason),
        )  # fmt: skip

    rate = own.read("sink_rate")
    if rate is not None and model.role != "random":
        epsilon = min(rate["epsilon"].unique().to_list(), key=lambda e: abs(e - PAPER_EPSILON))
        rows = rate.filter(pl.col("epsilon") == epsilon)
        at_first = rows.filter(pl.col("position") == 0).to_dicts()[0]
        # the last positions have few queries, and attend much to themselves
        half = max(rows["position"].to_list()) // 2
        others = rows.filter(pl.col("position").is_between(1, half))
        other = others.sort("rate", descending=True).to_dicts()[0]
        yield _row(
            "sink rate", f"position 0 passes ε = {epsilon:g} in more heads than any other position of the first half",
            "sink rate of position 0 − largest rate of another", model.label, prompts, None, "> 0", own.path("sink_rate"),
            **_decided(
                at_first["rate"] - other["rate"], at_first["rate_low"] - other["rate_high"],
                at_first["rate_high"] - other["rate_low"], lambda x: x > 0,
                f"rate {at_first['rate']:.3f} at 0, {other['rate']:.3f} at {other['position']}",
            ),
        )  # fmt: skip

    found: dict
    onset, surge = own.read("sink_onset"), own.read("norm_surge")
    if onset is not None and surge is not None and model.role != "random":
        began, surged = onset.to_dicts()[0], surge.to_dicts()[0]
        found = {"verdict": NOT_SEEN}
        if began["layer"] is None or surged["layer"] is None:
            found["reason"] = " and ".join(
                what
                for what, row in (
                    (f"no layer's sink mass passes {began['threshold']:g}", began),
                    (f"no layer's norm ratio passes {surged['threshold']:g}", surged),
                )
                if row["layer"] is None
            )
        else:
            # conservative: the ends of the two intervals, as if they were independent of one another
            found = _decided(
                float(began["layer"] - surged["layer"]),
                float(began["layer_low"] - surged["layer_high"]),
                float(began["layer_high"] - surged["layer_low"]),
                lambda x: abs(x) <= ONSET_DISTANCE,
                f"sink onset at layer {began['layer']}, norm surge at layer {surged['layer']}",
            )
        yield _row(
            "sink with surge", "the sink begins where the first token's norm surges",
            "layer of the sink onset − layer of the norm surge", model.label, prompts, "both at layer 2",
            f"within ±{ONSET_DISTANCE}", f"{own.path('sink_onset')}, {own.path('norm_surge')}", **found,
        )  # fmt: skip

    disparity = own.read("disparity_by_layer")
    if disparity is not None:
        for site, words, paper in (
            ("residual", "in the residual stream", "200 and more in shallow layers"),
            ("attention_input", "after normalisation", "262.88 in layer 2"),
        ):
            rows = disparity.filter(pl.col("site") == site)
            if rows.is_empty():
                continue
            peak = rows.sort("first", descending=True, nulls_last=True).to_dicts()[0]
            statement = (
                f"control: random weights have no dimension disparity {words}"
                if model.role == "random"
                else f"one dimension dominates the first token's vector {words}"
            )
            factor = DOMINANCE_FACTOR
            yield _row(
                "no dimension disparity" if model.role == "random" else "dimension disparity", statement,
                "first token's dominance ratio / the others', in the layer where it is largest", model.label, prompts,
                None if model.role == "random" else paper, f"< {factor:g}" if model.role == "random" else f"> {factor:g}",
                own.path("disparity_by_layer"),
                **_decided(
                    peak["first"] / peak["rest"], peak["first_low"] / peak["rest_high"],
                    peak["first_high"] / peak["rest_low"],
                    (lambda x: x < factor) if model.role == "random" else (lambda x: x > factor),
                    f"layer {peak['layer']}: {peak['first']:.1f} against {peak['rest']:.1f}, at most {peak['width']}",
                ),
            )  # fmt: skip


def _interventions(own: _Tables, model: Judged, prompts: str, edits: Sequence[Mapping]) -> Iterator[dict]:
    """Claims about the edits of one model."""
    table = own.read("interventions")
    if table is None:
        return
    path = own.path("interventions")
    rows = {(row["intervention"], row["strength"]): row for row in table.to_dicts()}

    def of(edit: Mapping, strength: float) -> dict:
        return rows[edit["name"], strength]

    def numbers(row: Mapping) -> str:
        return f"score {row['score']:.4f}, unedited {row['baseline']:.4f}, uniform {row['uniform']:.4f}"

    def makes_a_sink(row: Mapping) -> dict:
        point = row["score"] > row["uniform"] and row["effect"] > 0
        decided = SEEN if row["sink"] else UNDECIDED if point else NOT_SEEN
        return {
            "value": row["effect"], "low": row["effect_low"], "high": row["effect_high"], "verdict": decided,
            "reason": f"{numbers(row)} [{row['score_low']:.4f}, {row['score_high']:.4f}]",
        }  # fmt: skip

    quantity = "score at the target, edited − unedited"
    criterion = "score above uniform and above unedited"
    for edit in edits:
        where = f"at position {edit['position']}, layers {_layers_of(rows, edit)}"
        strongest = max(edit["strengths"])
        raised = sorted(s for s in edit["strengths"] if s > 1)
        if model.role == "random":
            row = max((of(edit, strength) for strength in edit["strengths"]), key=itemgetter("score"))
            negligible = NEGLIGIBLE * row["uniform"]
            yield _row(
                f"no sink by {edit['name']}",
                f"control: in random weights {edit['kind'].replace('_', ' ')} makes no sink {where}", quantity,
                model.label, prompts, None, f"< {negligible:.4f} ({NEGLIGIBLE:g} of uniform)", path,
                **_decided(
                    row["effect"], row["effect_low"], row["effect_high"], partial(gt, negligible), numbers(row)
                ),
            )  # fmt: skip
        elif edit["kind"] == "mask":
            yield _row(
                "mask makes a sink", f"a position that attends to itself only becomes a sink, {where}", quantity,
                model.label, prompts, "a new sink at the masked position", criterion, path,
                **makes_a_sink(of(edit, strongest)),
            )  # fmt: skip
        elif edit["kind"] == "variance_amplification" and raised:
            yield _row(
                "amplified variance makes a sink",
                f"amplifying the variance {where}, makes a sink (λ = {strongest:g}, the largest)", quantity,
                model.label, prompts, "a sink at the target", criterion, path, **makes_a_sink(of(edit, strongest)),
            )  # fmt: skip
            row = of(edit, raised[0])
            scores = {strength: of(edit, strength)["score"] for strength in sorted(edit["strengths"])}
            best = max(scores, key=scores.__getitem__)
            course = ", ".join(f"{strength:g}: {score:.4f}" for strength, score in scores.items())
            yield _row(
                "score rises with λ", f"the score at the target rises with λ at first (λ = {raised[0]:g})", quantity,
                model.label, prompts, "rises with λ > 1", "> 0", path,
                **_decided(
                    row["effect"], row["effect_low"], row["effect_high"], lambda x: x > 0,
                    f"score by λ: {course}; highest at {best:g}",
                ),
            )  # fmt: skip
        elif edit["kind"] == "norm_control" and raised:
            row = max((of(edit, strength) for strength in raised), key=itemgetter("score"))
            yield _row(
                "norm control makes no sink",
                f"multiplying the aggregation {where}, makes no sink (λ = {row['strength']:g}, where the score is highest)",
                "score at the target − what uniform attention gives", model.label, prompts, "no sink", "< 0", path,
                **_decided(
                    row["score"] - row["uniform"], row["score_low"] - row["uniform"], row["score_high"] - row["uniform"],
                    lambda x: x < 0, numbers(row),
                ),
            )  # fmt: skip
    if model.role != "random":
        yield from _against_control(edits, of, model, prompts, path)


def _layers_of(rows: Mapping, edit: Mapping) -> str:
    """The edited layers as the table writes them."""
    return next(row["layers"] for (name, _), row in rows.items() if name == edit["name"])


def _against_control(edits, of, model: Judged, prompts: str, path: str) -> Iterator[dict]:
    """Each variance amplification against the norm control of the same place and strength."""
    for edit in (e for e in edits if e["kind"] == "variance_amplification"):
        for control in (e for e in edits if e["kind"] == "norm_control"):
            same_place = edit["position"] == control["position"] and edit["layers"] == control["layers"]
            common = [s for s in edit["strengths"] if s > 1 and s in control["strengths"]]
            if not same_place or not common:
                continue
            strength = max(common)
            amplified, scaled = of(edit, strength), of(control, strength)
            yield _row(
                "variance, not norm",
                f"at the same λ ({strength:g}) amplified variance gives a higher score than the norm control",
                "effect of amplification − effect of the norm control", model.label, prompts,
                "a sink against none", "> 0", path,
                **_decided(
                    amplified["effect"] - scaled["effect"],
                    amplified["effect_low"] - scaled["effect_high"],
                    amplified["effect_high"] - scaled["effect_low"],
                    lambda x: x > 0,
                    f"score {amplified['score']:.4f} against {scaled['score']:.4f}; the two have the same absolute "
                    "variance and differ in their dispersion relative to the mean",
                ),
            )  # fmt: skip


def _pretraining(root: Path, models: Sequence[Judged], prompts: Sequence[str]) -> Iterator[dict]:
    """Each other run against softmax, paired by seed."""
    trained = [model for model in models if model.role == "trained"]
    path = "statistics/pretraining.parquet"
    if not trained or not (root / path).is_file():
        return
    losses = {(row["run"], row["seed"]): row for row in pl.read_parquet(root / path).to_dicts()}
    for base in sorted({m.run for m in trained if m.variant == "softmax"}):
        for other in sorted({m.run for m in trained if m.variant != "softmax"}):
            ours = {m.seed: m for m in trained if m.run == other}
            theirs = {m.seed: m for m in trained if m.run == base}
            seeds = sorted(set(ours) & set(theirs))
            if not seeds:
                continue
            example = ours[seeds[0]]
            compared = f"{other} ({example.reading}) − {base}, seeds {', '.join(map(str, seeds))}"
            for name, paper in (
                ("train_loss", "2.7073 ± 0.0095 against 2.7483 ± 0.0118"),
                ("validation_loss", "2.7421 ± 0.0066 against 2.7812 ± 0.0109"),
            ):
                pairs = [(losses[other, seed][name], losses[base, seed][name]) for seed in seeds]
                if any(loss is None for pair in pairs for loss in pair):
                    continue
                value, low, high = paired_interval([a - b for a, b in pairs])
                yield _row(
                    f"lower {name.replace('_', ' ')}",
                    f"{other} reaches a lower {name.replace('_', ' ')} than {base}",
                    "difference of the last losses (nats per token), mean over seeds", compared, None, paper, "< 0", path,
                    **_decided(value, low, high, lambda x: x < 0, _pairs(pairs)),
                )  # fmt: skip
            for prompt_set in prompts:
                yield from _structure_of_pair(root, ours, theirs, seeds, compared, other, base, prompt_set)


def _pairs(pairs: Sequence[tuple[float, ...]]) -> str:
    return "; ".join(f"{a:.4f} against {b:.4f}" for a, b in pairs)


def _structure_of_pair(root, ours, theirs, seeds, compared, other, base, prompts) -> Iterator[dict]:
    """Disparity and sink of the trained models on one prompt set."""

    def rows_of(model: Judged, name: str) -> pl.DataFrame | None:
        return _Tables(root, model.name, prompts).read(name)

    for claim, statement, quantity, name, column, beside, factor, lacks, paper in (
        (
            "less dimension disparity", f"{other} has a smaller dominance ratio of the first token than {base}",
            "difference of the largest dominance ratio of a layer, mean over seeds", "disparity_by_layer", "first",
            "rest", DOMINANCE_FACTOR, "no dimension disparity", "33.74 ± 2.73 against 82.67 ± 8.09",
        ),
        (
            "less sink", f"{other} has less attention on position 0 than {base}",
            "difference of the largest sink mass of a layer, mean over seeds", "sink_mass", "mass", "uniform",
            SINK_FACTOR, "no sink", "no sink against one from layer 5 on",
        ),
    ):  # fmt: skip
        found = {
            (side, seed): rows_of(models[seed], name) for side, models in enumerate((ours, theirs)) for seed in seeds
        }
        if any(table is None for table in found.values()):
            continue
        peaks = {}
        for key, table in found.items():
            own = table.filter(pl.col("site") == "residual") if "site" in table.columns else table
            peaks[key] = own.sort(column, descending=True, nulls_last=True).to_dicts()[0]
        pairs = [(peaks[0, seed][column], peaks[1, seed][column]) for seed in seeds]
        value, low, high = paired_interval([a - b for a, b in pairs])
        decided = _decided(value, low, high, lambda x: x < 0, _pairs(pairs))
        # what the baseline does not have, nothing can have less of
        if all(peaks[1, seed][column] < factor * peaks[1, seed][beside] for seed in seeds):
            levels = "; ".join(
                f"{peaks[1, seed][column]:.3g} ({beside} {peaks[1, seed][beside]:.3g})" for seed in seeds
            )
            decided |= {
                "verdict": NOT_APPLICABLE,
                "reason": f"{base} has {lacks} to begin with at this scale: {levels}; {_pairs(pairs)}",
            }
        yield _row(
            claim, statement, quantity, compared, prompts, paper, "< 0",
            ", ".join(f"statistics/{side[seed].name}/{prompts}/{name}.parquet" for side in (ours, theirs) for seed in seeds),
            **decided,
        )  # fmt: skip


def judge(
    root: str | Path, *, models: Sequence[Judged], prompts: Sequence[str], interventions: Sequence[Mapping]
) -> pa.Table:
    """Judge every claim that the study's tables speak of.

    Args:
        root: the study's folder.
        models: the models, in the order of the table.
        prompts: names of the prompt sets.
        interventions: name, kind, models, prompts, layers, position and strengths of each.

    Returns:
        A table of ``SCHEMA``.
    """
    root = Path(root)
    rows: list[dict] = []
    for model in models:
        for name in prompts:
            own = _Tables(root, model.name, name)
            rows += _one_model(own, model, name)
            edits = [e for e in interventions if model.name in e["models"] and name in e["prompts"]]
            if edits:
                rows += _interventions(own, model, name, edits)
    rows += _pretraining(root, models, prompts)
    return pa.Table.from_pylist(rows, schema=SCHEMA)


_MARKS = {SEEN: "✓", NOT_SEEN: "✗", UNDECIDED: "?", NOT_APPLICABLE: "–"}
_CLASSES = {SEEN: "seen", NOT_SEEN: "not-seen", UNDECIDED: "undecided", NOT_APPLICABLE: "not-applicable"}

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Claims: {study}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 82rem; padding: 0 1rem; color: #1a1a1a; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; vertical-align: top; padding: .45rem .6rem; border-bottom: 1px solid #ddd; }}
th {{ background: #f4f4f4; position: sticky; top: 0; }}
h2 {{ margin-top: 2.2rem; font-size: 1.15rem; }}
td small {{ color: #555; display: block; }}
td.number {{ font-variant-numeric: tabular-nums; white-space: nowrap; }}
.verdict {{ white-space: nowrap; font-weight: 600; }}
.seen {{ color: #005b96; }}
.not-seen {{ color: #a34700; }}
.undecided, .not-applicable {{ color: #555; }}
code {{ font-size: .85em; overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>Claims of the paper: {study}</h1>
<p>Each claim is judged from the tables of this study. <b>✓ seen</b>: the whole 95 % interval satisfies the predicate.
<b>? undecided</b>: the estimate does, the interval does not. <b>✗ not seen at this scale</b>: the estimate does not.
<b>– not applicable</b>: not defined or not measured here. Intervals are bootstrapped over sequences, or Student's over
seeds for trained models. The paper's values are for Llama-2-7B, and for a 152 M model where models are trained.</p>
{sections}
</body>
</html>
"""

_HEAD = (
    "<thead><tr><th>Claim</th><th>Paper</th><th>Here, 95 % interval</th><th>Predicate</th><th>Verdict</th>"
    "<th>Table</th></tr></thead>"
)


def number(value: float | None) -> str:
    """Four significant digits, or a dash."""
    return "–" if value is None or not np.isfinite(value) else f"{value:.4g}".replace("-", "−")


def value_text(row: Mapping) -> str:
    """Value with its interval."""
    if row["value"] is None:
        return "–"
    return f"{number(row['value'])} [{number(row['low'])}, {number(row['high'])}]"


def render_html(table: pa.Table, study: str) -> str:
    """The claims as one self-contained page, a section for each model and prompt set."""
    sections: dict[tuple[str, str], list[str]] = {}
    for row in table.to_pylist():
        text = {key: html.escape(str(value)) if value is not None else "" for key, value in row.items()}
        reason = f"<small>{text['reason']}</small>" if text["reason"] else ""
        line = (
            f"<tr><td>{text['statement']}<small>{text['quantity']}</small></td><td>{text['paper'] or '–'}</td>"
            f"<td class='number'>{html.escape(value_text(row))}</td><td>{text['predicate']}</td>"
            f"<td><span class='verdict {_CLASSES[row['verdict']]}'>{_MARKS[row['verdict']]} {text['verdict']}</span>"
            f"{reason}</td><td><code>{text['table']}</code></td></tr>"
        )
        sections.setdefault((row["model"], row["prompts"] or ""), []).append(line)
    parts = [
        f"<h2>{html.escape(model)}{', ' + html.escape(prompts) if prompts else ''}</h2>\n"
        f"<table>{_HEAD}<tbody>\n{chr(10).join(lines)}\n</tbody></table>"
        for (model, prompts), lines in sections.items()
    ]
    return _PAGE.format(study=html.escape(study), sections="\n".join(parts))
