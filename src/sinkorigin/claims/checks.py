"""Checks: controls and identities, which must hold if the measurements are what they are said to be. They are no claims of the paper.

A control says that something makes no sink, so it is an equivalence test against a stated margin: an interval that merely holds 0 shows
nothing. An identity says that two ways to one number agree.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sinkorigin import tables as files
from sinkorigin.claims.claim import Setting, not_applicable
from sinkorigin.claims.tests import CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED, Test
from sinkorigin.claims.verdicts import Judged, StudyTables
from sinkorigin.interventions.kind import kind_named
from sinkorigin.statistics.uniform import SINK_FACTOR

PASSED, FAILED = "passed", "failed"
_WORDS = {REPRODUCED: PASSED, CONTRADICTED: FAILED, UNDECIDED: UNDECIDED, NOT_APPLICABLE: NOT_APPLICABLE}

SCHEMA = files.schema(
    check=(pa.string(), "name of the check"),
    statement=(pa.string(), "what must hold"),
    model=(pa.string(), "name of the model"),
    label=(pa.string(), "its label"),
    prompts=(pa.string(), "prompt set"),
    what=(pa.string(), "which of several: position, intervention"),
    quantity=(pa.string(), "what value is"),
    value=(pa.float64(), "its value"),
    low=(pa.float64(), "lower end of its 95 % interval"),
    high=(pa.float64(), "upper end of it"),
    predicate=(pa.string(), "what the interval is held against"),
    verdict=(pa.string(), "passed, failed, undecided or not applicable"),
    reason=(pa.string(), "numbers behind the verdict, or why there is none"),
    tables=(pa.list_(pa.string()), "tables that it was read from, below the study's folder"),
)

NO_MORE_THAN = 0.1  # share of sequences that a control may convert
NO_SINK = 1.5  # so many times the uniform attention at most, where there is no sink
SAME_SHARE = 0.01  # difference of a share from the one that an identity gives
_NOT_LINEAR = ("headwise_rmsnorm", "gated")  # variants with something between the value aggregation and W_O
# difference of scores that an identity makes equal, in attention weight; rounding in float32 makes 1e-5 of it
SAME_SCORE = 1e-3


@dataclass(frozen=True)
class Check:
    """A control or an identity.

    Attributes:
        name: short name.
        statement: what must hold, in a sentence.
        test: what decides.
        settings: the tests of one model on one prompt set; nothing where the study does not measure it.
        random_weights: whether it is about random weights; else about all other models.
    """

    name: str
    statement: str
    test: Test
    settings: Callable[[StudyTables], Iterator[Setting]]
    random_weights: bool = False


def _no_sink(tables: StudyTables) -> Iterator[Setting]:
    mass = tables.read("sink_mass")
    if mass is None:
        return
    peak = mass.sort("mass", descending=True, nulls_last=True).to_dicts()[0]
    value, low, high = (peak[name] / peak["uniform"] for name in ("mass", "mass_low", "mass_high"))
    yield Setting("", value, low, high, f"layer {peak['layer']}", ("sink_mass",))


def _converted_by(role: Callable[[dict[str, Any]], bool]) -> Callable[[StudyTables], Iterator[Setting]]:
    def settings(tables: StudyTables) -> Iterator[Setting]:
        table = tables.read("conversions")
        for row in () if table is None else table.filter(factor=SINK_FACTOR).to_dicts():
            if row["target"] > 0 and role(row):
                strength = kind_named(row["kind"]).strength_text(row["strength"], row["mean_factor"])
                what = ", ".join(filter(None, [row["intervention"], f"position {row['target']}", strength]))
                yield Setting(
                    what, row["share"], row["share_low"], row["share_high"],
                    f"{row['converted']} of {row['sequences']} sequences", ("conversions",),
                )  # fmt: skip

    return settings


def _whole_share(tables: StudyTables) -> Iterator[Setting]:
    table = tables.read("mediation")
    for row in () if table is None else table.to_dicts():
        if row["mediator"] != "value aggregation" or row["direction"] not in ("restored", "inserted"):
            continue
        what = f"{row['direction']}, {row['cause']}"
        if row["share"] is None:
            yield not_applicable(what, row["not_applicable"], "mediation")
        else:
            yield Setting(what, row["share"] - 1, row["share_low"] - 1, row["share_high"] - 1, None, ("mediation",))


def _after_output(tables: StudyTables) -> Iterator[Setting]:
    """Amplification before W_O against the same one after it, paired by sequence."""
    table = tables.read("intervention_contrasts")
    if table is not None and tables.model.variant in _NOT_LINEAR:
        yield not_applicable("", f"{tables.model.variant} has a norm or a gate between the value aggregation and W_O")
        return
    for row in () if table is None else table.to_dicts():
        same = row["treatment_kind"] == row["control_kind"] == "variance_amplification"
        if same and row["control_site"] == "output_projection_output":
            yield Setting(
                f"{row['control']}, position {row['target']}, λ = {row['strength']:g}",
                row["difference"], row["difference_low"], row["difference_high"],
                f"score {row['score']:.4f} before W_O, {row['control_score']:.4f} after it", ("intervention_contrasts",),
            )  # fmt: skip


def _on_the_lines_of_the_grid(tables: StudyTables) -> Iterator[Setting]:
    """The grid α μ + λ (o − μ) where it is another kind of edit: amplification at α = 1, norm control at α = λ; each was run by itself.

    Both run the same sequences, so an identity leaves no sampling error, and the difference is its own interval.
    """
    table = tables.read("interventions")
    rows = [] if table is None else table.to_dicts()
    others = {(*_place(row), row["kind"]): row for row in rows if row["mean_factor"] is None}
    for row in rows:
        if row["kind"] != "mean_and_deviation":
            continue
        kind = kind_named(row["kind"])
        for factor, line in ((1.0, kind.at_mean_factor_one), (row["strength"], kind.at_equal_factors)):
            other = None if line is None or row["mean_factor"] != factor else others.get((*_place(row), line.kind))
            if other is not None and other["strength"] != 1:  # factors of 1 change nothing, so that no pass is made
                difference = row["score"] - other["score"]
                what = f"{kind.strength_text(row['strength'], row['mean_factor'])}, position {row['target']}, against {line.label}"
                reason = f"score {row['score']:.4f} and {other['score']:.4f}"
                yield Setting(what, difference, difference, difference, reason, ("interventions",))


def _place(row: dict[str, Any]) -> tuple:
    return row["strength"], row["site"], *row["layers"], *row["positions"], row["target"], row["sequences"]


CHECKS = (
    Check(
        "random weights have no sink",
        "with random weights position 0 is no sink in any layer",
        Test(
            "largest sink mass of a layer / uniform attention", "below", NO_SINK,
            "half of what makes a sink", "random weights attend to position 0 far more than evenly",
        ),
        _no_sink,
        random_weights=True,
    ),
    Check(
        "random weights are not converted",
        "with random weights no edit makes a position a sink",
        Test(
            "share of the sequences whose target becomes a sink", "below", NO_MORE_THAN,
            "a tenth, the margin of an equivalence test", "random weights are converted too",
        ),
        _converted_by(lambda row: True),
        random_weights=True,
    ),
    Check(
        "norm control converts nothing",
        "a larger aggregation without more variance relative to its mean makes no sink",
        Test(
            "share of the sequences whose target becomes a sink", "below", NO_MORE_THAN,
            "a tenth, the margin of an equivalence test", "norm control makes sinks",
        ),
        _converted_by(lambda row: row["kind"] == "norm_control"),
    ),
    Check(
        "the cause is the aggregation",
        "an edit of the value aggregation acts through the value aggregation wholly: restoring it takes all of the effect",
        Test("share through the value aggregation − 1", "within", SAME_SHARE, "one part in a hundred", "other than all of it"),
        _whole_share,
    ),
    Check(
        "W_O is linear",
        "amplification after W_O, before any post-norm, has the effect of amplification before it",
        Test("score before − score after", "within", SAME_SCORE, "a thousandth of the attention", "the two sides of W_O differ"),
        _after_output,
    ),
    Check(
        "the grid is amplification and norm control",
        "the grid of factors is amplification where the mean keeps its size, and norm control where both factors are equal",
        Test("score of the grid − score of the other edit", "within", SAME_SCORE, "a thousandth of the attention", "they differ"),
        _on_the_lines_of_the_grid,
    ),
)  # fmt: skip


def check(model: Judged, prompts: str, tables: StudyTables) -> Iterator[dict]:
    """Rows of ``SCHEMA`` of one model on one prompt set."""
    for one in CHECKS:
        if one.random_weights != model.is_control:
            continue
        found, lacking = list(one.settings(tables)), tables.lacking()
        if lacking and not found:
            found = [not_applicable("", "; ".join(dict.fromkeys(lacking.values())), *lacking)]
        for setting in found:
            test = setting.test or one.test
            verdict = test.verdict(setting.low, setting.high) if setting.applicable else NOT_APPLICABLE
            yield {
                "check": one.name, "statement": one.statement, "model": model.name, "label": model.label, "prompts": prompts,
                "what": setting.what, "quantity": test.quantity, "value": setting.value, "low": setting.low, "high": setting.high,
                "predicate": test.words, "verdict": _WORDS[verdict], "reason": setting.reason,
                "tables": [tables.path(name) for name in setting.tables],
            }  # fmt: skip
