"""The ledger: one row a claim, model and first token; what is not there is said with its reason, and settings are counted."""

from dataclasses import replace

import polars as pl
import pyarrow as pa
import pytest

from claim_tables import declared_tables
from sinkorigin.claims.accounts import ACCOUNTS
from sinkorigin.claims.claim import Claim, Setting, not_applicable
from sinkorigin.claims.document import page as document
from sinkorigin.claims.findings import findings
from sinkorigin.claims.first_tokens import sentences
from sinkorigin.claims.judging import Place, judge
from sinkorigin.claims.ledger import PRIMARY, TRAININGS
from sinkorigin.claims.row_texts import claim_order, settings_text, value_text
from sinkorigin.claims.tests import CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED, Test
from sinkorigin.claims.verdicts import Judged
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.tables import schema, write_not_applicable, write_table
from tiny_study import ROOT

MODEL = Judged("m", "M, dequantised from Q4_1", "pretrained")
CONTROL = Judged("r", "M, random weights", "random")
DRAWN = {"m": [Place("drawn", "p", ("text",))], "r": [Place("drawn", "p")]}
TEST = Test("quantity", "above", 1.0, "a reason", "the opposite")


def write(root, table="trend", model="m", prompts="p", **columns):
    path = root / "statistics" / model / prompts / f"{table}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame([columns]).write_parquet(path)
    return path


def read_as(code, *names, test=TEST, **more):
    """A claim whose settings are the values of these columns of the table ``trend``, with intervals of a half to each side."""

    def settings(tables):
        table = tables.read("trend")
        for name in names if table is not None else ():
            value = table[name][0]
            if value is None:
                yield not_applicable(name, "no value", "trend")
            else:
                yield Setting(name if name != names[0] else "", value, value - 0.5, value + 0.5, None, ("trend",))

    return Claim(code, f"words of {code}", f"statement of {code}", None, test, settings, **more)


def judged(root, *claims, models=(MODEL,), places=DRAWN, missing=()):
    tables = {"trend": sorted(root.rglob("trend.parquet"))} | declared_tables(root)
    return judge(tables, models=models, places=places, missing=missing, claims=claims)


@pytest.mark.parametrize(
    ("value", "verdict"), [(3.0, REPRODUCED), (1.2, UNDECIDED), (-3.0, CONTRADICTED), (None, NOT_APPLICABLE)]
)
def test_the_verdict_turns_with_the_table(tmp_path, value, verdict):
    write(tmp_path, a=value)
    [row] = judged(tmp_path, read_as("C1", "a"))[0]
    assert row["verdict"] == verdict and row["value"] == value
    assert row["tables"] == ["statistics/m/p/trend.parquet"] and row["predicate"] == "> 1"


def test_other_settings_and_prompt_sets_are_counted_under_the_claim(tmp_path):
    write(tmp_path, a=3.0, b=3.0, c=-3.0, d=None)
    write(tmp_path, prompts="text", a=1.2, b=3.0, c=3.0, d=3.0)
    [row], settings = judged(tmp_path, read_as("C1", "a", "b", "c", "d"))
    assert (row["holds"], row["opposite"], row["settings"]) == (5, 1, 7)
    assert [one["setting"] for one in settings[:5]] == ["primary", "b", "c", "d", "text"]
    assert settings[4]["read_on"] == "text" and row["prompts"] == "p"


def test_primary_tests_of_a_model_are_one_family(tmp_path):
    write(tmp_path, a=1.55)  # p = 0.031 by itself
    [row] = judged(tmp_path, read_as("C1", "a"))[0]
    assert row["verdict"] == REPRODUCED and row["p"] == row["p_adjusted"] < 0.05
    rows = judged(tmp_path, *(read_as(f"C{i}", "a") for i in range(4)))[0]
    assert {row["verdict"] for row in rows} == {UNDECIDED} and rows[0]["p_adjusted"] > 0.05
    assert rows[0]["reason"] == (
        "reproduced by itself, but not among the 4 primary tests together (p = 0.12 after Holm); "
        "some 1.3 times as many sequences like these would decide it"
    )


def test_an_undecided_claim_says_what_would_decide_it(tmp_path):
    """Four times as many sequences halve an interval whose value lies half of it from the threshold."""
    claim = read_as("C1", "a")
    threshold, half = claim.test.threshold, 0.5
    for value, told in (
        (threshold + half / 2, "some 4.0 times as many sequences like these would decide it"),
        (threshold + half / 50, "more than 100 times as many sequences would be needed to decide it"),
    ):
        setting = Setting("", value, value - half, value + half, None, ())
        assert claim.undecided_because(setting, 0.05) == told
        assert (
            replace(claim, decided_by="models").undecided_because(setting, 0.05).startswith("more sequences would not")
        )


def test_random_weights_are_judged_by_claims_about_them_alone(tmp_path):
    for model in "mr":
        write(tmp_path, model=model, a=3.0)
    claims = read_as("C1", "a", in_random_weights=True), read_as("C2", "a")
    rows = judged(tmp_path, *claims, models=(MODEL, CONTROL))[0]
    assert [(row["model"], row["claim"]) for row in rows] == [("m", "C1"), ("m", "C2"), ("r", "C1")]


def test_a_table_that_is_not_applicable_gives_its_reason(tmp_path):
    path = tmp_path / "statistics" / "m" / "p" / "trend.parquet"
    path.parent.mkdir(parents=True)
    write_not_applicable(path, "the model has no BOS token", schema(a=(pa.float64(), "a")))
    [row] = judged(tmp_path, read_as("C1", "a"))[0]
    assert (row["verdict"], row["reason"]) == (NOT_APPLICABLE, "the model has no BOS token")


def test_a_table_without_intervals_is_not_judged(tmp_path):
    """Text of too few documents has values, and even where these speak for a claim their interval is unknown."""
    reason = Resampling(200, 0, (0, 0, 1, 1)).too_few
    path = tmp_path / "statistics" / "m" / "p" / "trend.parquet"
    write_table(path, {"a": [3.0]}, schema(a=(pa.float64(), "a")), no_intervals=reason)
    [row] = judged(tmp_path, read_as("C1", "a"))[0]
    assert (row["verdict"], row["reason"]) == (NOT_APPLICABLE, reason)
    assert "2 documents" in reason and "corpus.validation_share" in reason


@pytest.mark.parametrize(("prompts", "what"), [("p", "trend"), (None, None), ("p", "sinks, trend")])
def test_what_a_failed_job_left_unmade_is_said_and_never_judged(tmp_path, prompts, what):
    missing = [{"model": "m", "prompts": prompts, "what": what, "sentence": "no space", "log": "l"}]
    [row] = judged(tmp_path, read_as("C1", "a"), missing=missing)[0]
    assert (row["verdict"], row["reason"]) == (NOT_APPLICABLE, "not measured, because a job failed: no space")


def test_a_claim_that_the_study_does_not_measure_has_no_row(tmp_path):
    assert judged(tmp_path, read_as("C1", "a"))[0] == []


@pytest.mark.parametrize(
    "changed",
    [
        {"threshold": float("nan")},
        {"threshold": None},
        {"why": ""},
        {"contradicted_by": ""},
        {"quantity": ""},
        {"side": "beside"},
    ],
)
def test_a_claim_without_a_whole_test_is_refused(changed):
    with pytest.raises((ValueError, TypeError)):
        Test(**{"quantity": "q", "side": "above", "threshold": 1.0, "why": "w", "contradicted_by": "c"} | changed)


CLAIMS = [*PRIMARY, *TRAININGS]
EVERY = [*CLAIMS, *(prediction for account in ACCOUNTS for prediction in account.predictions)]


def test_the_page_of_the_claims_is_that_of_their_declarations():
    assert (ROOT / "docs" / "claims.md").read_text() == document(CLAIMS, ACCOUNTS), "run make claims"
    assert len({claim.code for claim in EVERY}) == len({claim.words for claim in EVERY}) == len(EVERY)
    assert sorted((claim.code for claim in CLAIMS), key=claim_order) == [claim.code for claim in CLAIMS]


def test_a_row_of_the_ledger_is_told_with_its_interval_and_settings(tmp_path):
    write(tmp_path, a=3.0, b=-3.0, c=None)
    [row], _ = judged(tmp_path, read_as("C1", "a", "b", "c"))
    assert value_text(row) == "3 [2.5, 3.5]" and settings_text(row) == "holds in 1 of 2, contradicted in 1"
    assert value_text(row | {"low": 3.0, "high": 3.0}) == "3 [no spread]" and value_text(row | {"value": None}) == "–"
    assert settings_text(row | {"settings": 0}) == "–"


def found(*rows):
    """Findings of made-up rows of the ledger: claim, label, first token, verdict, value."""
    names = ("claim", "label", "first_token", "verdict", "value")
    known = {"role": "pretrained", "threshold": 0.5, "reason": "9 of 10 sequences; more", "low": None, "high": None}
    return [one for one in findings(known | dict(zip(names, row, strict=True)) for row in rows)]


def test_a_claim_that_is_reproduced_here_and_contradicted_there_is_told_once_with_both_places():
    rows = [
        ("C9", "M", "drawn", REPRODUCED, 0.9),
        ("C9", "M", "bos", CONTRADICTED, 0.1),
        ("C9", "M", "fixed", NOT_APPLICABLE, None),
    ]
    [finding] = found(*rows)
    assert (finding.heading, finding.claims) == ("Sinks made and taken away", ("C9",))
    assert finding.sentence == (
        "Mixed: mask makes a sink (test: in > 50 % of the sequences): reproduced under drawn tokens (90 %), contradicted under BOS (10 %)."
    )
    [finding] = found(rows[0], ("C9", "N, quantised", "drawn", CONTRADICTED, 0.1))
    assert "reproduced in M (90 %), contradicted in N (10 %)" in finding.sentence


def test_what_contradicts_the_paper_comes_first_with_what_was_predicted():
    rows = [
        ("C5", "M", "drawn", REPRODUCED, 0.9),
        ("C5", "M", "bos", REPRODUCED, 0.97),
        ("C7b", "M", "drawn", CONTRADICTED, 0.2),
    ]
    [finding] = found(*rows)
    assert [verdict for verdict, _ in finding.parts] == ["Contradicted", "Reproduced"]
    assert "test: > 0.5" in finding.sentence
    assert finding.sentence.endswith("Reproduced: super neurons carry the surge (90 to 97 % of it).")


def test_what_is_undecided_is_told_with_how_far_its_interval_reaches():
    [finding] = findings(
        [
            {"claim": "C9", "label": "M", "first_token": "drawn", "verdict": UNDECIDED, "value": 0.55, "low": 0.42, "high": 0.67}
            | {"role": "pretrained", "threshold": 0.5, "reason": None}
        ]
    )  # fmt: skip
    assert finding.sentence == (
        "Undecided: mask makes a sink (in 55 % of the sequences, interval from 42 to 67 %; test: > 50 %)."
    )


def test_every_claim_is_told_in_one_of_five_findings():
    several = found(*((claim.code, "M", "drawn", REPRODUCED, 0.9) for claim in CLAIMS))
    assert len(several) == 5 and [code for one in several for code in one.claims] == [claim.code for claim in CLAIMS]


def sink(condition, count, position_1=0):
    rows = [
        {
            "position": position, "factor": 3.0, "sequences": 64, "sinks": sinks, "share": sinks / 64, "share_low": max(0.0, sinks / 64 - 0.1),
            "share_high": min(1.0, sinks / 64 + 0.1), "ratio": 9.0, "ratio_low": 8.0, "ratio_high": 10.0,
        }
        for position, sinks in ((0, count), (1, position_1))
    ]  # fmt: skip
    return Place(condition, f"p_{condition}"), rows


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"drawn": 64, "bos": 64, "fixed": 60}, "a sink under each first token: it belongs to the position"),
        ({"drawn": 0, "bos": 64, "fixed": 1}, "a sink under BOS only: it belongs to the token"),
        ({"drawn": 64, "bos": 0, "fixed": 64}, "a sink under drawn tokens and one fixed token only"),
        ({"drawn": 0, "bos": 0, "fixed": 0}, "no sink under any first token"),
    ],
)
def test_a_sentence_says_whether_the_sink_belongs_to_the_position(tmp_path, counts, words):
    places = []
    for condition, count in counts.items():
        place, rows = sink(condition, count, position_1=5)
        path = write(tmp_path, "first_position_sinks", prompts=place.prompts)
        pl.DataFrame(rows).write_parquet(path)
        places.append(place)
    ledger, _ = judged(tmp_path, PRIMARY[0], places={"m": places})
    assert [row["claim"] for row in ledger] == ["C0"] * 3
    [(label, text)] = sentences(ledger)
    assert label == MODEL.label and "position 1 is one in 5" in text
    assert text.startswith(f"{words}; drawn tokens: {counts['drawn']} of 64 sequences")
    [finding] = findings(ledger)
    assert (
        f"position 0 is {words} ({counts['drawn']} of 64 sequences with drawn tokens, {counts['bos']} of 64 with BOS"
        in finding.sentence
    )
