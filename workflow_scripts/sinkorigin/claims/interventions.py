"""Claims about the causal interventions."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from operator import gt, itemgetter

from sinkorigin.claims.verdicts import (
    NEGLIGIBLE,
    NOT_SEEN,
    SEEN,
    UNDECIDED,
    Judged,
    StudyTables,
    decided,
    row_of,
)


def of_interventions(own: StudyTables, model: Judged, prompts: str, edits: Sequence[Mapping]) -> Iterator[dict]:
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
        judged = SEEN if row["sink"] else UNDECIDED if point else NOT_SEEN
        return {
            "value": row["effect"], "low": row["effect_low"], "high": row["effect_high"], "verdict": judged,
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
            yield row_of(
                f"no sink by {edit['name']}",
                f"control: in random weights {edit['kind'].replace('_', ' ')} makes no sink {where}", quantity,
                model.label, prompts, None, f"< {negligible:.4f} ({NEGLIGIBLE:g} of uniform)", path,
                **decided(
                    row["effect"], row["effect_low"], row["effect_high"], partial(gt, negligible), numbers(row)
                ),
            )  # fmt: skip
        elif edit["kind"] == "mask":
            yield row_of(
                "mask makes a sink", f"a position that attends to itself only becomes a sink, {where}", quantity,
                model.label, prompts, "a new sink at the masked position", criterion, path,
                **makes_a_sink(of(edit, strongest)),
            )  # fmt: skip
        elif edit["kind"] == "variance_amplification" and raised:
            yield row_of(
                "amplified variance makes a sink",
                f"amplifying the variance {where}, makes a sink (λ = {strongest:g}, the largest)", quantity,
                model.label, prompts, "a sink at the target", criterion, path, **makes_a_sink(of(edit, strongest)),
            )  # fmt: skip
            row = of(edit, raised[0])
            scores = {strength: of(edit, strength)["score"] for strength in sorted(edit["strengths"])}
            best = max(scores, key=scores.__getitem__)
            course = ", ".join(f"{strength:g}: {score:.4f}" for strength, score in scores.items())
            yield row_of(
                "score rises with λ", f"the score at the target rises with λ at first (λ = {raised[0]:g})", quantity,
                model.label, prompts, "rises with λ > 1", "> 0", path,
                **decided(
                    row["effect"], row["effect_low"], row["effect_high"], lambda x: x > 0,
                    f"score by λ: {course}; highest at {best:g}",
                ),
            )  # fmt: skip
        elif edit["kind"] == "norm_control" and raised:
            row = max((of(edit, strength) for strength in raised), key=itemgetter("score"))
            yield row_of(
                "norm control makes no sink",
                f"multiplying the aggregation {where}, makes no sink (λ = {row['strength']:g}, where the score is highest)",
                "score at the target − what uniform attention gives", model.label, prompts, "no sink", "< 0", path,
                **decided(
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
            yield row_of(
                "variance, not norm",
                f"at the same λ ({strength:g}) amplified variance gives a higher score than the norm control",
                "effect of amplification − effect of the norm control", model.label, prompts,
                "a sink against none", "> 0", path,
                **decided(
                    amplified["effect"] - scaled["effect"],
                    amplified["effect_low"] - scaled["effect_high"],
                    amplified["effect_high"] - scaled["effect_low"],
                    lambda x: x > 0,
                    f"score {amplified['score']:.4f} against {scaled['score']:.4f}; the two have the same absolute "
                    "variance and differ in their dispersion relative to the mean",
                ),
            )  # fmt: skip
