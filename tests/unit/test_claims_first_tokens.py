"""Position or token: the claim turns with where the sink is under each condition of the first token."""

import polars as pl
import pytest

from claim_tables import declared_tables
from sinkorigin.claims.ledger import judge
from sinkorigin.claims.page import render_html
from sinkorigin.claims.verdicts import NOT_APPLICABLE, NOT_SEEN, SEEN, UNDECIDED, Judged
from sinkorigin.statistics.first_positions import SCHEMA
from sinkorigin.tables import write_not_applicable

MODEL = Judged("m", "M", "pretrained")
CONTROL = Judged("r", "M, random weights", "random")
SETS = {"drawn": "tokens", "bos": "tokens_bos", "fixed": "tokens_fixed"}
UNIFORM = 0.05


def write(root, model, condition, ratio, *, other=1.0, spread=0.1):
    """Masses of two layers: position 0 has ``ratio`` times the uniform mass in layer 1, position 2 has ``other`` times."""
    rows = []
    for layer in range(2):
        for position in range(4):
            mass = UNIFORM * (ratio if (layer, position) == (1, 0) else other if (layer, position) == (1, 2) else 1.0)
            rows.append(
                {
                    "model": model, "prompts": SETS[condition], "first_token": condition, "layer": layer, "position": position,
                    "mass": mass, "mass_low": mass * (1 - spread), "mass_high": mass * (1 + spread), "uniform": UNIFORM,
                }
            )  # fmt: skip
    path = root / "statistics" / model / SETS[condition] / "first_positions.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows).write_parquet(path)


def claim(root, model=MODEL, **masses):
    for condition, mass in masses.items():
        write(root, model.name, condition, **mass) if isinstance(mass, dict) else write(
            root, model.name, condition, mass
        )
    table = judge(declared_tables(root), models=[model], prompts=list(SETS.values()), first_tokens=[SETS])
    return {row["claim"]: row for row in table.to_pylist()}


def test_a_sink_under_each_first_token_belongs_to_the_position(tmp_path):
    [row] = claim(tmp_path, drawn=8.0, bos=12.0, fixed=6.0).values()
    assert row["claim"] == "sink under each first token" and row["verdict"] == SEEN
    assert row["value"] == pytest.approx(6.0) and row["low"] == pytest.approx(5.4)
    assert row["prompts"] == "tokens, tokens_bos, tokens_fixed" and "belongs to the position" in row["reason"]
    assert "BOS: 12.00 [10.80, 13.20] in layer 1" in row["reason"]
    assert all((tmp_path / place).is_file() for place in row["table"].split(", "))


def test_a_sink_under_bos_alone_belongs_to_the_token(tmp_path):
    [row] = claim(tmp_path, drawn=0.5, bos=12.0, fixed=0.6).values()
    assert row["verdict"] == NOT_SEEN and row["value"] == pytest.approx(1.0)  # layer 0 has the uniform mass
    assert "sink under BOS only: it belongs to the token" in row["reason"]


def test_the_page_begins_with_where_each_model_has_its_sink(tmp_path):
    for condition, ratio in {"drawn": 0.5, "bos": 12.0, "fixed": 0.6}.items():
        write(tmp_path, "m", condition, ratio)
    table = judge(declared_tables(tmp_path), models=[MODEL], prompts=list(SETS.values()), first_tokens=[SETS])
    page = render_html(table, "study")
    assert "<b>M</b>: sink under BOS only: it belongs to the token" in page[: page.index("Each claim is judged")]


def test_a_sink_that_an_ordinary_token_alone_has_is_told_with_the_position_where_bos_has_it(tmp_path):
    [row] = claim(tmp_path, drawn=8.0, bos={"ratio": 0.5, "other": 9.0}, fixed=7.0).values()
    assert row["verdict"] == NOT_SEEN
    assert "sink under drawn tokens and one fixed token only" in row["reason"]
    assert "(position 2: 9.00 in layer 1)" in row["reason"]


def test_an_interval_across_the_threshold_decides_nothing(tmp_path):
    [row] = claim(tmp_path, drawn={"ratio": 3.1, "spread": 0.5}, bos=9.0, fixed=9.0).values()
    assert row["verdict"] == UNDECIDED


@pytest.mark.parametrize(("ratio", "expected"), [(1.1, SEEN), (4.0, NOT_SEEN)])
def test_random_weights_have_no_sink_under_any(tmp_path, ratio, expected):
    [row] = claim(tmp_path, CONTROL, drawn=1.0, bos=ratio, fixed=1.0).values()
    assert row["claim"] == "no sink under any first token" and row["verdict"] == expected


def without(root, condition, reason="the model has no BOS token"):
    write_not_applicable(root / "statistics/m" / SETS[condition] / "first_positions.parquet", reason, SCHEMA)


def test_a_model_without_bos_is_judged_by_the_others(tmp_path):
    without(tmp_path, "bos")
    found = claim(tmp_path, drawn=8.0, fixed=6.0)
    row = found["sink under each first token"]
    assert row["verdict"] == SEEN and "not under BOS: the model has no BOS token" in row["reason"]
    assert found["claims on these prompts"]["prompts"] == "tokens_bos"


def test_one_condition_alone_is_not_compared(tmp_path):
    without(tmp_path, "bos")
    without(tmp_path, "fixed")
    row = claim(tmp_path, drawn=8.0)["sink under each first token"]
    assert row["verdict"] == NOT_APPLICABLE and row["reason"].startswith("nothing to compare; drawn tokens: 8.00")
    without(tmp_path, "drawn")
    row = claim(tmp_path)["sink under each first token"]
    assert row["verdict"] == NOT_APPLICABLE and "not under drawn tokens" in row["reason"]


def test_a_model_that_reads_one_of_the_sets_is_not_judged(tmp_path):
    assert claim(tmp_path, drawn=8.0) == {}


def test_a_study_without_such_sets_has_no_such_claim(tmp_path):
    assert claim(tmp_path) == {}
