"""The ledger: one row a claim, model and first token; what is not there is said with its reason, and settings are counted."""

import html
from dataclasses import replace

import polars as pl
import pyarrow as pa
import pytest

from claim_tables import declared_tables
from sinkorigin.claims.accounts import ACCOUNTS
from sinkorigin.claims.claim import Claim, Setting, not_applicable
from sinkorigin.claims.document import page as document
from sinkorigin.claims.judging import Place, judge
from sinkorigin.claims.ledger import PRIMARY, TRAININGS
from sinkorigin.claims.page import claim_order, render_html
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


def test_the_page_shows_verdict_interval_settings_and_reason(tmp_path):
    write(tmp_path, a=3.0, b=-3.0, c=None)
    page = render_html(*judged(tmp_path, read_as("C1", "a", "b", "c")), [], [], "study")
    assert "✓ reproduced" in page and "3 [2.5, 3.5]" in page and "holds in 1 of 2, contradicted in 1" in page
    assert html.escape("M, dequantised from Q4_1") in page and page.count("scope='row'") == 1 and "no value" in page


def test_the_page_begins_with_what_is_missing(tmp_path):
    part = {"model": "m", "prompts": "p", "what": None, "sentence": "no <space>", "log": "l"}
    page = render_html([], [], [], [], "study", missing=[part], undrawn=["sinks"])
    begin = page[: page.index("Each claim has one primary test")]
    assert "This is not the whole study" in begin and "no &lt;space&gt;" in begin and "figures: sinks" in begin


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
def test_the_page_says_whether_the_sink_belongs_to_the_position(tmp_path, counts, words):
    places = []
    for condition, count in counts.items():
        place, rows = sink(condition, count, position_1=5)
        path = write(tmp_path, "first_position_sinks", prompts=place.prompts)
        pl.DataFrame(rows).write_parquet(path)
        places.append(place)
    ledger, robustness = judged(tmp_path, PRIMARY[0], places={"m": places})
    assert [row["claim"] for row in ledger] == ["C0"] * 3
    page = render_html(ledger, robustness, [], [], "study")
    assert f"{words}; drawn tokens: {counts['drawn']} of 64 sequences" in page and "position 1 is one in 5" in page
