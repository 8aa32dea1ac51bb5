"""What checks, the first look, the comparison of trainings and the findings say of known numbers, word by word."""

import math

import polars as pl
import pyarrow as pa
import pytest

from ledger_simulations import InMemory
from sinkorigin.claims import comparison, first_look, first_tokens, row_texts
from sinkorigin.claims.accounts import ACCOUNTS
from sinkorigin.claims.checks import CHECKS, check
from sinkorigin.claims.claim import Claim, Setting
from sinkorigin.claims.document import page as document
from sinkorigin.claims.findings import findings, short_labels
from sinkorigin.claims.judging import checked, rows_of_family
from sinkorigin.claims.ledger import PRIMARY
from sinkorigin.claims.over_models import over_models
from sinkorigin.claims.run_pairs import RunPair, sink_text
from sinkorigin.claims.sinks import followed, rises, sink_layers
from sinkorigin.claims.tests import CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED, Test, decide
from sinkorigin.claims.trainings import judge_trainings
from sinkorigin.claims.verdicts import Judged, StudyTables
from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions.kind import kind_named


def frame(rows):
    return pl.DataFrame(rows, infer_schema_length=None)


def ends(name, value, low, high):
    return {name: value, f"{name}_low": low, f"{name}_high": high}


# ---- checks


def checks(role="pretrained", variant=None, **frames):
    """Rows of the checks by their name."""
    tables = InMemory({name: frame(rows) for name, rows in frames.items()}, role)
    tables.model = Judged("m", "M", role, variant=variant)
    found = {}
    for row in check(tables.model, "p", tables):
        found.setdefault(row["check"], []).append(row)
    return found


def told(row):
    return row["what"], row["value"], row["low"], row["high"], row["verdict"], row["reason"]


def test_random_weights_have_no_sink_and_are_not_converted():
    masses = [
        {"layer": layer, "uniform": 0.1, **ends("mass", mass, 0.11, 0.13)}
        for layer, mass in ((0, 0.05), (1, None), (2, 0.12), (3, 0.11))
    ]
    conversion = {"kind": "variance_amplification", "intervention": "amplify", "strength": 4.0, "mean_factor": None, "factor": 3.0, "target": 10,
                  "converted": 0, "sequences": 64, **ends("share", 0.0, 0.0, 0.05)}  # fmt: skip
    rows = [
        conversion,
        conversion | {"factor": 2.0},
        conversion | {"target": 0},
        conversion | {"kind": "mask", "intervention": "mask", "target": 1},
    ]
    found = checks("random", sink_mass=masses, conversions=rows)
    [sink] = found.pop("random weights have no sink")
    assert told(sink) == ("", pytest.approx(1.2), pytest.approx(1.1), pytest.approx(1.3), "passed", "layer 2")
    assert {name: sink[name] for name in ("statement", "model", "label", "prompts", "quantity", "predicate", "tables")} == {
        "statement": "with random weights position 0 is no sink in any layer", "model": "m", "label": "M", "prompts": "p",
        "quantity": "largest sink mass of a layer / uniform attention", "predicate": "< 1.5", "tables": ["statistics/m/p/sink_mass.parquet"],
    }  # fmt: skip
    assert [told(row) for row in found.pop("random weights are not converted")] == [
        ("amplify, position 10, λ = 4", 0.0, 0.0, 0.05, "passed", "0 of 64 sequences"), ("mask, position 1", 0.0, 0.0, 0.05, "passed", "0 of 64 sequences"),
    ]  # fmt: skip
    assert found == {} and checks("random") == {}


def test_norm_control_converts_nothing():
    row = {"kind": "norm_control", "intervention": "norm", "strength": 8.0, "mean_factor": None, "factor": 3.0, "target": 10, "converted": 9,
           "sequences": 64, **ends("share", 0.2, 0.15, 0.3)}  # fmt: skip
    [found] = checks(conversions=[row, row | {"kind": "mask"}])["norm control converts nothing"]
    assert told(found) == ("norm, position 10, λ = 8", 0.2, 0.15, 0.3, "failed", "9 of 64 sequences")
    assert found["tables"] == ["statistics/m/p/conversions.parquet"]


def test_the_whole_effect_goes_through_the_aggregation():
    row = {
        "mediator": "value aggregation",
        "direction": "restored",
        "cause": "mask",
        "not_applicable": None,
        **ends("share", 1.002, 0.999, 1.005),
    }
    rows = [
        row, row | {"direction": "inserted", "share": None, "not_applicable": "no effect"}, row | {"direction": "none"}, row | {"mediator": "key"},
        row | {"share_high": 1.02},
    ]  # fmt: skip
    found = checks(mediation=rows)["the cause is the aggregation"]
    assert [told(one) for one in found] == [
        ("restored, mask", pytest.approx(0.002), pytest.approx(-0.001), pytest.approx(0.005), "passed", None),
        ("inserted, mask", None, None, None, "not applicable", "no effect"),
        ("restored, mask", pytest.approx(0.002), pytest.approx(-0.001), pytest.approx(0.02), "undecided", None),
    ]  # fmt: skip
    assert [one["tables"] for one in found] == [["statistics/m/p/mediation.parquet"]] * 3


def test_amplification_after_the_output_projection_is_that_before_it():
    row = {
        "treatment_kind": "variance_amplification", "control_kind": "variance_amplification", "control_site": "output_projection_output", "control": "after",
        "target": 10, "strength": 4.0, "score": 0.12345, "control_score": 0.12344, **ends("difference", 1e-5, -1e-5, 3e-5),
    }  # fmt: skip
    rows = [
        row,
        row | {"control_kind": "norm_control"},
        row | {"treatment_kind": "norm_control"},
        row | {"control_site": "value_aggregation"},
    ]
    [found] = checks(intervention_contrasts=rows)["W_O is linear"]
    assert told(found) == (
        "after, position 10, λ = 4",
        1e-5,
        -1e-5,
        3e-5,
        "passed",
        "score 0.1235 before W_O, 0.1234 after it",
    )
    assert found["tables"] == ["statistics/m/p/intervention_contrasts.parquet"]
    [gated] = checks(variant="gated", intervention_contrasts=rows)["W_O is linear"]
    assert told(gated) == (
        "",
        None,
        None,
        None,
        "not applicable",
        "gated has a norm or a gate between the value aggregation and W_O",
    )
    assert gated["tables"] == [] and checks(variant="gated") == {}


def test_the_grid_is_amplification_and_norm_control_on_its_lines():
    row = {
        "site": "value_aggregation", "layers": [0, 1], "positions": [10], "target": 10, "sequences": 64, "kind": "mean_and_deviation", "strength": 4.0,
        "mean_factor": 1.0, "score": 0.5004,
    }  # fmt: skip
    alone = {"mean_factor": None, "score": 0.5}
    rows = [
        row, row | alone | {"kind": "variance_amplification"}, row | {"mean_factor": 4.0, "score": 0.2}, row | alone | {"kind": "norm_control"},
        row | {"mean_factor": 2.0}, row | alone | {"kind": "variance_amplification", "target": 11, "score": 0.1},
        row | {"strength": 1.0}, row | alone | {"kind": "variance_amplification", "strength": 1.0}, row | {"strength": 2.0},
    ]  # fmt: skip
    found = checks(interventions=rows)["the grid is amplification and norm control"]
    names = [kind_named(kind).label for kind in ("variance_amplification", "norm_control")]
    assert [told(one) for one in found] == [
        (f"λ = 4, α = 1, position 10, against {names[0]}", *[pytest.approx(4e-4)] * 3, "passed", "score 0.5004 and 0.5000"),
        (f"λ = 4, α = 4, position 10, against {names[1]}", *[pytest.approx(-0.3)] * 3, "failed", "score 0.2000 and 0.5000"),
    ]  # fmt: skip
    assert [one["tables"] for one in found] == [["statistics/m/p/interventions.parquet"]] * 2


def test_a_check_whose_table_a_failed_job_left_unmade_says_so(tmp_path):
    missing = [
        {"model": "m", "prompts": "p", "what": name, "sentence": sentence}
        for name, sentence in (("conversions", "no space"), ("mediation", "killed"))
    ]
    model = Judged("m", "M", "pretrained")
    places = {key: {} for key in ("conversions", "mediation", "intervention_contrasts", "interventions")}
    rows = list(check(model, "p", StudyTables(places, model, "p", missing)))
    assert [(row["check"], row["verdict"], row["reason"], row["tables"]) for row in rows] == [
        ("norm control converts nothing", "not applicable", "not measured, because a job failed: no space", ["statistics/m/p/conversions.parquet"]),
        ("the cause is the aggregation", "not applicable", "not measured, because a job failed: killed", ["statistics/m/p/mediation.parquet"]),
    ]  # fmt: skip
    assert checked({name: [] for name in places}, models=[model], places={}) == [] and len(CHECKS) == 6


# ---- the first look


def look(**changed):
    """Lines of the first look of a model in which every link of the chain is there."""
    trend = {"layer": 0, "site": "value_aggregation", "not_applicable": None, **ends("ratio", 6.0, 5.0, 7.0)}
    neuron = {
        "layer": 2,
        "neuron": 90,
        "super_neuron": True,
        "norm_change": 5.0,
        "not_applicable": None,
        **ends("share", 0.75, 0.7, 0.8),
    }
    dims = {"site": "residual", "layer": 3, **ends("first", 90.0, 80.0, 99.0), **ends("rest", 4.0, 3.0, 5.0)}
    key = {"layer": 4, "head": None, "not_applicable": None, **ends("between_sequences", 0.99, 0.98, 0.995)}
    edit = {
        "kind": "variance_amplification", "positions": [10], "target": 10, "strength": 8.0, "mean_factor": None, "layers": [0, 1, 2, 5], "baseline": 0.0123,
        "uniform": 0.034, **ends("score", 0.345, 0.3, 0.4),
    }  # fmt: skip
    rows = {
        "variance_trend": [trend | {"layer": 1, "ratio": 1.0}, trend | {"site": "residual", "ratio": 2.0}, trend],
        "norm_changes": [{"kind": "rise", "layer": 7}, {"kind": "fall", "layer": 9}, {"kind": "rise", "layer": 2}],
        "norm_ratio": [
            {"site": site, "layer": layer, **ends("ratio", ratio, ratio - 1, ratio + 1)}
            for site, layer, ratio in (("residual", 1, 2.0), ("residual", 2, 30.0), ("ffn_output", 2, 99.0))
        ],
        "super_neurons": [
            neuron | {"norm_change": 1.0, "neuron": 3}, neuron, neuron | {"norm_change": -9.0, "neuron": 4}, neuron | {"neuron": None},
            neuron | {"super_neuron": False, "norm_change": 99.0, "neuron": 5}, neuron | {"norm_change": 3.0, "neuron": 6, "layer": 3},
            neuron | {"norm_change": 0.5, "neuron": 8}, neuron | {"norm_change": 0.0, "neuron": 7},
        ],
        "disparity_by_layer": [dims | {"first": 10.0, "layer": 2}, dims, dims | {"site": "attention_input", "first": 200.0}, dims | {"first": None}],
        "key_collapse": [key | {"layer": 3}, key | {"head": 0, "between_sequences": 0.1}, key],
        "sink_mass": [
            {"prompts": "random_tokens", "layer": layer, "uniform": 0.05678, **ends("mass", mass, 0.5, 0.7)}
            for layer, mass in ((3, 0.4), (4, 0.6), (5, None))
        ],
        "sink_onset": [{"layer": 3, "threshold": 0.3}],
        "first_look": [edit, edit | {"kind": "baseline"}, edit | {"kind": "mask", "score_low": None, "layers": [3], "strength": None}],
    } | changed  # fmt: skip
    return list(first_look.lines("M", **{name: frame(table) for name, table in rows.items()}))


def test_the_first_look_has_a_line_for_each_link_and_edit():
    amplify, mask = (kind_named(kind).label for kind in ("variance_amplification", "mask"))
    assert look() == [
        "M: first look at random tokens",
        "variance: layer 0's value aggregation varies 6 [5, 7] times as much at position 0 as later",
        "norm: surges at layers 2, 7; the first token's norm is at most 30 [29, 31] times the others', after layer 2",
        "super neurons: 4 raise its norm, first 2.90, 3.6, 2.3 (layer.neuron); the first carries 0.75 [0.7, 0.8] of its layer's FFN output",
        "disparity: the first token's largest dim is 90 [80, 99] times its mean dim after layer 3, the others' 4 [3, 5]",
        "key: in layer 4, where the sink is strongest, the first token's keys have a cosine of 0.99 [0.98, 0.995] between sequences",
        "sink: begins at layer 3; at most 0.6 [0.5, 0.7] of the attention, in layer 4 (uniform attention: 0.057)",
        f"{amplify}, λ = 8, at position 10 in layers 0-2, 5: it gets 0.345 [0.3, 0.4] of the attention (unedited 0.0123, uniform 0.034)",
        f"{mask}, at position 10 in layers 3: it gets 0.345 of the attention (unedited 0.0123, uniform 0.034)",
    ]


@pytest.mark.parametrize(
    ("table", "rows", "line", "text"),
    [
        ("variance_trend", [{"layer": 0, "site": "residual", "ratio": 1.0, "not_applicable": None}], 1, "variance: not applicable: this site was not kept"),
        ("variance_trend", [{"layer": 0, "site": "value_aggregation", "ratio": None, "not_applicable": "one token"}], 1, "variance: not applicable: one token"),
        ("norm_changes", [{"kind": "rise", "layer": 2}], 2, "norm: surges at layer 2; the first token's norm is at most 30 [29, 31] times the others', after layer 2"),
        ("norm_changes", [{"kind": "fall", "layer": 2}], 2, "norm: no surge; the first token's norm is at most 30 [29, 31] times the others', after layer 2"),
        ("super_neurons", [{"neuron": None, "not_applicable": "experts"}], 3, "super neurons: not applicable: experts"),
        ("super_neurons", [{"neuron": 1, "super_neuron": True, "norm_change": 0.0}], 3, "super neurons: none that raises the first token's norm"),
        ("key_collapse", [{"layer": 4, "head": 0, "between_sequences": 1.0}], 5, "key: not applicable: it was not measured"),
        ("key_collapse", [{"layer": 4, "head": None, "between_sequences": None, "not_applicable": None}], 5, "key: not applicable: it was not measured"),
        ("key_collapse", [{"layer": 4, "head": None, "between_sequences": None, "not_applicable": "alike"}], 5, "key: not applicable: alike"),
        ("sink_onset", [{"layer": None, "threshold": 0.3}], 6, "sink: none: no layer passes 0.3; at most 0.6 [0.5, 0.7] of the attention, in layer 4 (uniform attention: 0.057)"),
    ],
)  # fmt: skip
def test_the_first_look_says_what_is_not_there(table, rows, line, text):
    if table == "key_collapse":
        rows = pl.DataFrame(rows, schema_overrides={"head": pl.Int64})
    assert look(**{table: rows})[line] == text


# ---- the comparison of trainings


def quantity(run, name, **changed):
    row = {
        "run": run, "quantity": name, "prompts": "p", "epsilon": None, "parameters": 1234567, "tokens": 2000, "of_seeds": 3, "seeds": 3, "baseline": "base",
        "first_token": None, "mean": 2.5, "sd": 0.01, "uniform": None, **ends("difference", None, None, None),
    }  # fmt: skip
    return row | changed


def test_the_comparison_has_a_row_a_run_and_a_cell_a_quantity():
    rows = [
        quantity("base", "train_loss", prompts=None), quantity("base", "effective_rank", mean=1234.5, sd=12.3, first_token="drawn"),
        quantity("base", "sink_mass", mean=-0.5, sd=None, uniform=0.05), quantity("base", "sink_rate", epsilon=0.2, mean=0.9),
        quantity("base", "sink_rate", epsilon=0.31, mean=0.7), quantity("base", "sink_rate", prompts="q", epsilon=0.3, mean=0.1),
        quantity("mine", "train_loss", prompts=None, mean=2.25, **ends("difference", -0.25, -0.3, -0.2)),
        quantity("mine", "effective_rank", mean=450.126, sd=5.0, **ends("difference", 50.0, None, None)),
        quantity("mine", "validation_loss", mean=2.75, seeds=2), quantity("mine", "sink_mass", mean=None, uniform=0.05),
        quantity("free", "train_loss", baseline=None, mean=12.5, sd=1.0, first_token="bos"),
    ]  # fmt: skip
    schema = {
        "epsilon": pl.Float64,
        "uniform": pl.Float64,
        "sd": pl.Float64,
        "difference": pl.Float64,
        "difference_low": pl.Float64,
    }
    table = pl.DataFrame(
        rows, schema_overrides=schema | {"difference_high": pl.Float64}, infer_schema_length=None
    ).to_arrow()
    columns = list(comparison.COLUMNS.values())
    found = {
        run: (facts, dict(zip(columns, cells, strict=True))) for run, facts, cells in comparison.rows_of(table, "p")
    }
    facts = "1,234,567 parameters, 2,000 tokens, 3 seeds"
    assert {run: said for run, (said, _) in found.items()} == {
        "base": f"baseline; {facts}; first token drawn", "mine": f"against base; {facts}", "free": f"{facts}; first token bos",
    }  # fmt: skip
    base, mine = found["base"][1], found["mine"][1]
    assert base["train_loss"] == ("2.5000 ± 0.0100", "") and base["effective_rank"] == ("1,234 ± 12", "")
    assert (
        base["sink_mass"] == ("-0.5000", "")
        and base["sink_rate"] == ("0.7000 ± 0.0100", "")
        and base["validation_loss"] == ("–", "")
    )
    assert mine["train_loss"] == ("2.2500 ± 0.0100", "−0.25 [−0.3, −0.2]") and mine["effective_rank"] == (
        "450.13 ± 5.00",
        "+50",
    )
    assert mine["validation_loss"] == ("2.7500 (2 of 3 seeds)", "") and mine["sink_mass"] == ("–", "")
    assert found["free"][1]["train_loss"] == ("12.50 ± 1.00", "") and comparison.prompt_sets(table) == ["p", "q"]
    lines = comparison.markdown_table(table, "p").splitlines()
    assert (
        lines[0] == "| run | " + " | ".join(comparison.COLUMNS) + " |" and lines[1] == "|---" * (1 + len(columns)) + "|"
    )
    assert (
        lines[3]
        == "| *paper: head-wise RMSNorm* | 2.7073 ± 0.0095 | 2.7421 ± 0.0066 | 445.96 ± 5.37 | 33.74 ± 2.73 | none"
        + " | –" * 5
        + " |"
    )
    assert lines[5].startswith("| mine<br>(against base; ") and "| 2.2500 ± 0.0100<br>−0.25 [−0.3, −0.2] |" in lines[5]
    assert (
        lines[-2] == ""
        and "(uniform attention: 0.050)" in lines[-1]
        and "sink rate at ε = 0.31." in lines[-1]
        and len(lines) == 9
    )


# ---- findings, first tokens, texts of rows


def ledger_row(claim, label="M", first_token="drawn", verdict=REPRODUCED, value=0.9, **changed):
    return {
        "claim": claim, "label": label, "first_token": first_token, "verdict": verdict, "value": value, "role": "pretrained", "threshold": 0.5,
        "reason": "9 of 10 sequences; more", "low": None, "high": None, "predicate": "> 0.4",
    } | changed  # fmt: skip


def test_findings_tell_the_sink_and_each_verdict_with_its_places():
    rows = [
        ledger_row("C0"), ledger_row("C0", first_token="bos", verdict=CONTRADICTED, value=0.1, reason="1 of 10 sequences"),
        ledger_row("C0", first_token="fixed", verdict=NOT_APPLICABLE, value=None), ledger_row("C0", "N, small", verdict=NOT_APPLICABLE),
        ledger_row("C9", verdict=UNDECIDED, value=0.4, low=0.3, high=0.6), ledger_row("C9", "N, small", verdict=UNDECIDED, value=0.5, low=0.2, high=0.55),
        ledger_row("C9", role="random", value=0.0), ledger_row("X1"),
        ledger_row("C12a", "mine", None, value=1.0, role="trained"), ledger_row("C12a", "other", None, CONTRADICTED, 0.2, role="trained"),
    ]  # fmt: skip
    sink, edits, trained = findings(rows)
    assert (sink.heading, sink.claims) == ("Sink", ("C0",))
    said = "In M, position 0 is a sink under drawn tokens only"
    assert (
        sink.sentence == f"{said} (9 of 10 sequences with drawn tokens, 1 of 10 with BOS)." and sink.brief == f"{said}."
    )
    assert (edits.heading, edits.claims) == ("Sinks made and taken away", ("C9",))
    assert (
        edits.sentence
        == "Undecided: mask makes a sink (in 40 to 50 % of the sequences, intervals from 20 to 60 %; test: > 50 %)."
    )
    assert edits.brief == "Undecided: mask makes a sink (40 to 50 %)."
    assert (trained.heading, trained.claims) == ("Models trained here", ("C12a",))
    words = "head-wise RMSNorm trains faster"
    assert trained.sentence == (
        f"Mixed: {words} (test: in > 50 % of the seeds): reproduced in 1 of 2 runs (100 %), contradicted in 1 of 2 runs (20 %)."
    )
    assert trained.brief == f"Mixed: {words}: reproduced in 1 of 2 runs (100 %), contradicted in 1 of 2 runs (20 %)."
    assert findings([]) == []


def test_findings_of_an_older_ledger_keep_its_predicate_and_places_are_named_where_they_differ():
    rows = [
        ledger_row("C9", threshold=None), ledger_row("C9", "N, small", "bos", CONTRADICTED, 0.1, threshold=0.4),
        ledger_row("C9", "N, small", "fixed", UNDECIDED, 0.45, low=0.3, high=0.6),
    ]  # fmt: skip
    [found] = findings(rows)
    assert found.sentence == (
        "Mixed: mask makes a sink (test: > 0.4 or > 40 % or > 50 %): reproduced in M (90 %), contradicted under BOS in N (10 %), undecided under one "
        "fixed token in N (45 %, interval from 30 to 60 %)."
    )
    same = [ledger_row("C5", label, verdict=CONTRADICTED, value=value) for label, value in (("M", 0.1), ("N", 0.3))]
    assert findings(same)[0].sentence == "Contradicted: super neurons carry the surge (10 to 30 % of it; test: > 50 %)."
    assert short_labels(["A (small)", "B, x (y)", "A (small)", "(odd)"]) == {
        "A (small)": "A",
        "B, x (y)": "B",
        "(odd)": "(odd)",
    }
    assert short_labels(["A, one", "A, two"]) == {"A, one": "A, one", "A, two": "A, two"}


def test_first_tokens_are_told_of_models_that_are_judged_under_several():
    rows = [
        ledger_row("C0", reason="r1"), ledger_row("C0", first_token="bos", verdict=NOT_APPLICABLE, reason="no BOS"), ledger_row("C0", "N"),
        ledger_row("C0", "R", role="random"), ledger_row("C0", "R", "bos", role="random"), ledger_row("C1", "N", "bos"),
        ledger_row("C0", "K", reason="r2"), ledger_row("C0", "K", "bos", CONTRADICTED, reason="r3"), ledger_row("C0", "K", "fixed", UNDECIDED, reason="r4"),
    ]  # fmt: skip
    assert list(first_tokens.sentences(rows)) == [
        ("M", "drawn tokens: r1; not under BOS: no BOS"),
        ("K", "a sink under drawn tokens only; drawn tokens: r2; BOS: r3; one fixed token: r4"),
    ]

    def verdicts(*known):
        return first_tokens.summary([ledger_row("C0", first_token=token, verdict=one) for token, one in known])

    assert (
        verdicts(("drawn", REPRODUCED)) == "a sink"
        and verdicts(("drawn", UNDECIDED), ("bos", NOT_APPLICABLE)) == verdicts() == "no sink"
    )
    assert verdicts(("drawn", UNDECIDED), ("bos", REPRODUCED)) == "a sink under BOS only: it belongs to the token"


def test_numbers_of_rows_are_told_with_four_digits():
    assert [row_texts.number(value) for value in (None, math.nan, -1.23456, 12345.6)] == [
        "–",
        "–",
        "−1.235",
        "1.235e+04",
    ]
    row = {"value": -2.0, "low": -2.0, "high": -2.0}
    assert (
        row_texts.value_text(row) == "−2 [no spread]" and row_texts.value_text(row | {"low": -2.00001}) == "−2 [−2, −2]"
    )
    assert row_texts.value_text(row | {"low": None, "high": None}) == "−2 [–, –]"
    assert row_texts.value_text({"value": 1e-9, "low": 0.0, "high": 2e-9}) == "1e−09 [0, 2e−09]"
    assert [row_texts.p_text(p) for p in (0.00099, 0.001, 0.04567)] == ["p < 0.001", "p = 0.001", "p = 0.046"]
    assert row_texts.settings_text({"settings": 3, "holds": 2, "opposite": 0}) == "holds in 2 of 3"
    assert [row_texts.claim_order(code) for code in ("C11b", "X")] == [(11, "C11b"), (0, "X")]


# ---- claims and their tests


def claim(**changed):
    test = changed.pop("test", Test("q", "above", 1.0, "w", "c"))
    return Claim("C1", "words", "statement", None, test, lambda tables: iter(()), **changed)


def test_a_value_is_told_with_its_unit_and_a_range_once():
    plain = claim(reading="it is {value} ({percent}, {points} points)", brief="brief {value}", unit="{points} pp")
    assert (
        plain.read(-0.123456) == "it is −0.123 (−12 %, −12 points)"
        and plain.read(0.96, 0.99) == "it is 0.96 to 0.99 (96 to 99 %, 96 to 99 points)"
    )
    assert plain.read(0.5, 0.5) == "it is 0.5 (50 %, 50 points)"
    assert (plain.told(0.5), plain.amount(0.5, 0.7), plain.numbers(0.5, 0.7)) == (
        "brief 0.5",
        "50 to 70 pp",
        "50 to 70 %",
    )
    assert (
        claim(reading="x {value}").numbers(0.5),
        claim(reading="x {value}").told(2.0),
        claim(unit="{value} ×").told(2.0),
    ) == ("0.5", "2", "2 ×")
    assert (plain.told_of("> 5 %"), claim(unit="{points} pp").told_of("> 5 %"), claim(reading="{percent}").told_of("> 5 %")) == (
        "brief > 5 %", "> 5 pp", "> 5 %",
    )  # fmt: skip
    assert claim(reading="{percent}").expected(0.5) == "> 50 %" and claim(reading="{value}").expected(-0.5) == "> −0.5"
    assert claim(test=Test("q", "within", 0.25, "w", "c")).expected(0.25) == "within ±0.25"


def test_a_setting_is_decided_by_its_interval_and_its_p():
    one = Setting("a", 2.0, 1.5, 2.5, None, ("t",), 0.03, Test("q", "above", 1.9, "w", "c"))
    found = list(claim().with_thresholds(one, 1.0, 0.5))
    assert [(other.what, other.test.threshold, other.test.quantity, other.p) for other in found] == [
        ("a, threshold 1", 1.0, "q", None), ("a, threshold 0.5", 0.5, "q", None),
    ]  # fmt: skip
    assert claim().verdict(found[0]) == REPRODUCED and claim().verdict(one) == UNDECIDED  # held against its own test
    sure = Setting("", 2.0, 1.5, 2.5, None, (), 0.05)
    assert claim().verdict(sure) == UNDECIDED and claim().p(sure) == 0.05
    assert claim().p(Setting("", 2.0, None, 2.5, None, ())) is None and claim().p(one) == 0.03
    assert claim().verdict(Setting("", None, None, None, "r", ())) == NOT_APPLICABLE


def test_what_would_decide_a_setting_is_said_where_something_would():
    one = Setting("", 1.2, 0.9, 1.5, None, ())
    assert claim().undecided_because(one, 0.05) == "some 2.2 times as many sequences like these would decide it"
    assert (
        claim(decided_by="seeds").undecided_because(one, 0.05)
        == "some 2.2 times as many seeds like these would decide it"
    )
    assert (
        claim().undecided_because(Setting("", 1.0, 0.9, 1.5, "r", ()), 0.05)
        == "more than 100 times as many sequences would be needed to decide it"
    )
    assert claim().undecided_because(Setting("", 1.2, 0.9, 1.5, "two would decide", ()), 0.05) is None
    assert claim().undecided_because(Setting("", 1.2, None, 1.5, None, ()), 0.05) is None
    assert (
        claim().undecided_because(Setting("", 1.5, 1.1, 1.9, None, (), 0.3), 0.05) is None
    )  # p leaves it open, not the interval
    at_a_hundred = Setting("", 1.0 + 0.03, 1.0, 1.06, None, ())
    assert claim().undecided_because(at_a_hundred, 0.05) is None
    assert (
        claim(decided_by="models").undecided_because(one, 0.05)
        == "more sequences would not decide it, other models may"
    )


def test_the_least_of_several_is_judged_by_all_intervals():
    parts = [
        Setting(what, value, value - 0.2, value + half, None, ("t",))
        for what, value, half in (("a", 1.5, 0.2), ("b", 1.3, 0.4))
    ]
    least = claim().of_least(parts, "w")
    assert (least.what, least.value, least.low, least.high) == ("w", 1.3, parts[1].low, 1.7)
    assert least.p == max(claim().p(part) for part in parts)
    opposite = [Setting("", 0.5, 0.4, 0.6, None, ()), Setting("", 1.5, 1.4, 1.6, None, ())]
    found = claim().of_least(opposite, "")
    assert (found.low, found.high) == (0.4, 0.6) and found.p == 2 * claim().p(opposite[0]) < 1
    open_ = claim().of_least([Setting("", 1.1, 0.9, 1.2, None, ())], "")
    assert open_.p is None
    weak = claim().of_least([Setting("", 0.99, 0.9, 1.0, None, (), 0.8)] * 3, "")
    assert weak.p == 1.0
    with pytest.raises(AssertionError):
        claim(test=Test("q", "below", 1.0, "w", "c")).of_least(parts, "")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"threshold": math.inf}, "the test of q has the threshold inf; give it a number"),
        ({"quantity": ""}, "the test of nothing lacks its quantity, its reason or what contradicts it"),
        ({"why": ""}, "the test of q lacks its quantity, its reason or what contradicts it"),
        ({"side": "beside"}, "the test of q has the side beside; known ones are above, below, within"),
    ],
)
def test_a_test_that_is_not_whole_is_refused_with_what_it_lacks(changed, sentence):
    with pytest.raises(ValueError) as refused:
        Test(**{"quantity": "q", "side": "above", "threshold": 1.0, "why": "w", "contradicted_by": "c"} | changed)
    assert str(refused.value) == sentence


def test_the_ends_of_an_interval_decide_exactly_at_the_threshold():
    above, below, within = (Test("q", side, 1.0, "w", "c") for side in ("above", "below", "within"))
    expected = {
        above: {(1.0, 2.0): UNDECIDED, (1.1, 2.0): REPRODUCED, (0.5, 1.0): CONTRADICTED, (0.5, 1.1): UNDECIDED},
        below: {(0.0, 1.0): UNDECIDED, (0.0, 0.9): REPRODUCED, (1.0, 2.0): CONTRADICTED, (0.9, 2.0): UNDECIDED},
        within: {
            (-1.0, 0.5): UNDECIDED, (-0.9, 0.9): REPRODUCED, (-0.5, 1.0): UNDECIDED, (1.0, 2.0): CONTRADICTED, (-2.0, -1.0): CONTRADICTED,
            (-2.0, -0.9): UNDECIDED, (0.9, 2.0): UNDECIDED,
        },
    }  # fmt: skip
    for test, cases in expected.items():
        assert {one: test.verdict(*one) for one in cases} == cases
        assert (
            test.verdict(None, 0.5)
            == test.verdict(0.5, None)
            == test.verdict(-math.inf, 0.5)
            == test.verdict(0.5, math.nan)
            == UNDECIDED
        )
    assert (above.words, below.words, within.words) == ("> 1", "< 1", "within ±1")
    assert (
        Test("q", "above", 0.123456, "w", "c").words == "> 0.1235"
        and Test("q", "above", 0.0, "w", "c", level="chance").words == "> chance"
    )


def test_p_is_that_of_a_normal_value_whose_error_the_facing_end_gives():
    def slow(distance, half):
        return math.erfc(distance / (half / 1.959964) / math.sqrt(2))

    above, within = Test("q", "above", 1.0, "w", "c"), Test("q", "within", 1.0, "w", "c")
    assert above.p(2.0, 1.5, 9.0) == pytest.approx(slow(1.0, 0.5)) and above.p(0.5, -9.0, 0.75) == pytest.approx(
        slow(0.5, 0.25)
    )
    assert above.p(2.0, 2.5, 3.5) == pytest.approx(slow(1.0, 0.5))  # an interval beside its value: half of its width
    assert above.p(1.0, 1.0, 1.0) == 1.0 and above.p(1.5, 1.5, 1.5) == 0.0 and above.p(1.0, 0.5, 1.5) == 1.0
    assert within.p(-0.5, -0.9, 9.0) == pytest.approx(slow(0.5, 0.4)) and within.p(0.5, -9.0, 0.9) == pytest.approx(
        slow(0.5, 0.4)
    )
    assert above.more_needed(1.0, 0.5, 1.5) is None and above.more_needed(1.25, 0.75, 1.75) == pytest.approx(
        4.0, rel=1e-5
    )
    assert above.more_needed(1.25, 0.75, 1.75, 0.01) == pytest.approx((2.5758293 / 0.979982) ** 2, rel=1e-5)


def test_a_family_keeps_the_verdicts_that_holm_leaves():
    verdicts, adjusted = decide(
        [REPRODUCED, CONTRADICTED, REPRODUCED, NOT_APPLICABLE, UNDECIDED], [0.01, 0.02, 0.05, None, 0.03]
    )
    assert adjusted == pytest.approx([0.04, 0.06, 0.06, None, 0.06]) and verdicts == [
        REPRODUCED,
        UNDECIDED,
        UNDECIDED,
        NOT_APPLICABLE,
        UNDECIDED,
    ]
    assert decide([REPRODUCED, REPRODUCED], [None, 0.049]) == ([REPRODUCED, REPRODUCED], [None, 0.049])
    assert decide([REPRODUCED], [0.05]) == ([UNDECIDED], [0.05])


def test_a_sink_is_followed_within_one_layer_and_rises_pass_their_threshold():
    assert followed([1, 4, 7, 9], [2, 4, 6]) == [1, 4] and followed([3], [2, 5]) == []
    rows = [
        {"layer": layer, "kind": kind, "threshold": 1.0, "change_low": low}
        for layer, kind, low in ((5, "rise", 1.0), (2, "rise", 3.0), (3, "fall", 3.0), (4, "rise", 0.99))
    ]
    tables = InMemory({"norm_changes": frame(rows)})
    assert rises(tables, "norm_changes") == [2, 5] and rises(tables, "sink_changes") == [] and sink_layers(tables) == []


def test_the_page_of_claims_tells_each_part_of_one():
    [first] = [one for one in PRIMARY if one.code == "C1"]
    text = document([first])
    assert text.endswith(
        "\n## C1: variance highest at position 0\n\nThe variance over sequences of layer 0's value aggregation is highest at position 0.\n\n"
        "- *Paper*: highest at position 0, trained or not.\n- *Measured*: variance at position 0 / highest variance of another position, in layer 0.\n"
        "- *Predicate*: > 1.1, because highest means above every other position, not above their mean; a tenth more is the smallest effect of "
        "interest.\n- *Contradicted* where another position has a variance that is as high, or lower by less than that.\n"
        "- Judged in random weights too.\n"
    )
    both = document([], ACCOUNTS[-2:])
    assert (
        both.count("# What accounts of attention sinks predict") == 1
        and "## One super weight\n\nYu et al. 2024, arXiv 2411.07191.\n\n### weight-1: " in both
    )
    assert "- *Paper*: not claimed there; a claim of this project." in document([claim()])


# ---- families and models


def test_rows_of_a_family_tell_settings_and_what_the_correction_takes():
    tables = InMemory({})
    other = InMemory({})
    other.prompts = "text"
    strong, weak = Setting("", 3.0, 2.5, 3.5, "r", ("t",)), Setting("", 1.6, 1.05, 2.15, None, ())
    settings = [
        (tables, strong),
        (tables, Setting("b", 0.5, 0.4, 0.6, None, ())),
        (other, Setting("", None, None, None, "none", ("t",))),
    ]
    about = {"model": "m", "label": "M", "role": "pretrained", "prompts": "p", "first_token": "drawn"}
    full = claim(reading="it is {value}", scale="ratio")
    ledger, robustness = rows_of_family(
        [(full, settings), (claim(), [(tables, weak)])], [about, about | {"prompts": None}]
    )
    p = full.p(strong)
    assert ledger[0] == about | {
        "claim": "C1", "words": "words", "quantity": "q", "value": 3.0, "low": 2.5, "high": 3.5, "predicate": "> 1", "threshold": 1.0, "reason": "r",
        "tables": ["statistics/m/p/t.parquet"], "statement": "statement", "paper": None, "scale": "ratio", "reading": "it is 3", "verdict": REPRODUCED,
        "p": p, "p_adjusted": 2 * p, "holds": 1, "opposite": 1, "settings": 2,
    }  # fmt: skip
    assert ledger[1]["verdict"] == REPRODUCED and ledger[1]["reason"] is None
    assert [(row["setting"], row["read_on"], row["verdict"], row["p"], row["reason"], row["tables"]) for row in robustness] == [
        ("primary", "p", REPRODUCED, p, "r", ["statistics/m/p/t.parquet"]), ("b", "p", CONTRADICTED, full.p(settings[1][1]), None, []),
        ("text", "text", NOT_APPLICABLE, None, "none", ["statistics/m/text/t.parquet"]), ("primary, p", "p", REPRODUCED, claim().p(weak), None, []),
    ]  # fmt: skip
    near = Setting("", 1.5, 1.02, 1.98, "r", ())
    rows, _ = rows_of_family([(claim(), [(tables, near)])] * 2, [about] * 2)
    assert {row["verdict"] for row in rows} == {UNDECIDED}
    assert rows[0]["reason"] == (
        f"r; reproduced by itself, but not among the 2 primary tests together (p = {2 * claim().p(near):.2g} after Holm); "
        "some 1.2 times as many sequences like these would decide it"
    )


def test_models_are_averaged_by_logarithms_where_the_claim_is_about_a_ratio():
    rows = [
        ledger_row("C1", verdict=verdict, value=value, low=low, high=high, scale="ratio", words="w")
        for verdict, value, low, high in (
            (REPRODUCED, 8.0, 4.0, 16.0), (CONTRADICTED, 2.0, 1.0, 4.0), (UNDECIDED, 4.0, -1.0, 9.0), (NOT_APPLICABLE, None, None, None),
            (UNDECIDED, 4.0, 4.0, 4.0), (UNDECIDED, 4.0, None, 5.0),
        )
    ]  # fmt: skip
    [found] = over_models([*rows, ledger_row("C1", role="random", scale="ratio")])
    counts = {
        name: found[name]
        for name in ("models", "reproduced", "contradicted", "undecided", "not_applicable", "averaged")
    }
    assert counts == {
        "models": 6,
        "reproduced": 1,
        "contradicted": 1,
        "undecided": 3,
        "not_applicable": 1,
        "averaged": 2,
    }
    assert (found["claim"], found["words"], found["first_token"], found["scale"]) == ("C1", "w", "drawn", "ratio")
    error = math.log(4) / (2 * 1.959963984540054)
    q = 2 * (math.log(2) / error) ** 2
    assert (
        found["estimate"] == pytest.approx(4.0)
        and found["q"] == pytest.approx(q)
        and found["i_squared"] == pytest.approx(1 - 1 / q)
    )
    assert found["between"] == pytest.approx(math.sqrt(2 * math.log(2) ** 2 - error**2)) and found["low"] * found[
        "high"
    ] == pytest.approx(16.0)
    single = {"estimate": None, "low": None, "high": None, "between": None, "q": None, "q_p": None, "i_squared": None}
    [alone] = over_models([ledger_row("C1", low=0.8, high=1.0, scale="difference", words="w")])
    assert single.items() <= alone.items() and alone["averaged"] == 1


# ---- trainings


def by_seed(path, **columns):
    rows = [
        {
            "run": run,
            "quantity": "validation_loss",
            "seed": seed,
            "value": value + 0.001 * seed,
            "prompts": None,
            "first_token": None,
            "uniform": None,
        }
        for run, value in columns.items()
        for seed in range(3)
    ]
    schema = {"prompts": pl.String, "first_token": pl.String, "uniform": pl.Float64, "seed": pl.Int32}
    pl.DataFrame(rows, schema_overrides=schema).write_parquet(path)
    return path


RUN = {"name": "mine", "variant": "sigmoid", "baseline": "base", "label": "sigmoid"}


def test_a_run_that_cannot_be_compared_says_why(tmp_path):
    base = {"name": "base", "variant": "softmax", "baseline": "base", "label": "softmax"}

    def told(*args, **kwargs):
        return {(row["claim"], row["reason"]) for row in judge_trainings(*args, prompts=["p"], **kwargs)[0]}

    codes = ("C14a", "C14b")
    assert told([], runs=[RUN, base]) == {(code, "not measured") for code in codes}
    missing = [
        {"model": None, "sentence": "killed"},
        {"model": "m", "sentence": "x"},
        {"model": None, "sentence": "killed"},
        {"model": None, "sentence": "no space"},
    ]
    reason = "not measured, because a job failed: killed, because a job failed: no space"
    assert told([], runs=[RUN], missing=missing) == {(code, reason) for code in codes}
    alone = "the study has no softmax run of the same data, size and number of tokens to compare it with"
    assert told([], runs=[RUN | {"baseline": None}], missing=missing) == {(code, alone) for code in codes}
    path = by_seed(tmp_path / "t.parquet", base=2.0)
    with pytest.raises(SinkoriginError) as error:
        judge_trainings([path], runs=[RUN], prompts=["p"])
    assert (
        str(error.value)
        == "pretraining_by_seed.parquet has no rows of run mine; delete it and run the same command again"
    )
    with pytest.raises(SinkoriginError, match="no rows of run a and b; delete"):
        judge_trainings([path], runs=[RUN | {"name": "a", "baseline": "b"}], prompts=["p"])


def test_losses_are_judged_on_no_prompts_and_tell_what_the_baseline_has(tmp_path):
    path = by_seed(tmp_path / "t.parquet", base=2.0, mine=2.5)
    ledger, settings = judge_trainings([path], runs=[RUN], prompts=["p"])
    [row] = [one for one in ledger if one["claim"] == "C14b"]
    about = {name: row[name] for name in ("model", "label", "role", "prompts", "first_token", "verdict", "tables")}
    assert about == {
        "model": "mine", "label": "sigmoid", "role": "trained", "prompts": None, "first_token": None, "verdict": REPRODUCED,
        "tables": ["statistics/pretraining_by_seed.parquet"],
    }  # fmt: skip
    assert (
        row["reason"]
        == "2.5 against 2; 2.501 against 2.001; 2.502 against 2.002; whether base has a sink was not measured"
    )
    assert {one["claim"] for one in settings} == {"C14a", "C14b"}
    [none] = [one for one in ledger if one["claim"] == "C14a"]
    assert (none["verdict"], none["reason"], none["prompts"]) == (NOT_APPLICABLE, "not measured", None)


def test_a_sink_of_the_baseline_is_told_with_its_numbers():
    def pair(values):
        rows = [
            {"run": "base", "quantity": "sink_mass", "seed": seed, "value": value, "uniform": 0.05}
            for seed, value in enumerate(values)
        ]
        mine = [row | {"run": "mine"} for row in rows]
        return RunPair("mine", "base", "p", "bos", pl.DataFrame([*rows, *mine]))

    assert (
        sink_text(pair([0.5, 0.51, 0.52]))
        == "base has a sink, 10.2 [9.7, 10.7] × uniform attention on p (first token bos)"
    )
    assert sink_text(pair([0.05, 0.06])) == (
        "base has no sink, 1.1 [-0.171, 2.37] × uniform attention on p (first token bos), so a difference of losses cannot come from the removal of one"
    )
    assert sink_text(pair([0.5])).startswith("base has no sink, 10 × uniform attention")
    empty = RunPair("mine", "base", "p", "bos", pair([0.5]).rows.clear())
    assert sink_text(empty) == "whether base has a sink was not measured"
    assert empty.path("t") == "statistics/t.parquet" and len(pair([0.5]).pairs("sink_mass")) == 1


def test_a_table_of_another_model_or_prompt_set_is_not_read(tmp_path):
    place = tmp_path / "t.parquet"
    pl.DataFrame({"a": [1]}).write_parquet(place)
    model = Judged("m", "M", "random")
    missing = [
        {"model": "m", "prompts": None, "what": None, "sentence": "all"}, {"model": "m", "prompts": "q", "what": "u", "sentence": "other"},
        {"model": "n", "prompts": "p", "what": "u", "sentence": "another"}, {"model": "m", "prompts": "p", "what": "v, w", "sentence": "two"},
    ]  # fmt: skip
    tables = StudyTables({"t": {("m", "p"): place}, "u": {("m", "q"): place}, "w": {}}, model, "p", missing)
    assert tables.read("t")["a"].to_list() == [1] and tables.lacking() == {}
    assert tables.read("u") is None and tables.read("w") is None
    assert tables.lacking() == {
        name: f"not measured, because a job failed: {why}" for name, why in (("u", "all"), ("w", "two"))
    }
    assert (
        tables.lacking() == {}
        and tables.path("t") == "statistics/m/p/t.parquet"
        and model.is_control
        and not Judged("m", "M", "trained").is_control
    )
    with pytest.raises(KeyError):
        tables.read("x")
    assert pa.table(tables.read("t").to_arrow()).num_rows == 1
