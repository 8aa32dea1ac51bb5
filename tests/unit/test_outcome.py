"""What a run tells of its study at its end: findings in ten lines that are no cut claims, and the page that is there."""

import pyarrow as pa
import pytest

from harness.outcome import LINES, PAGES, WIDTH, findings_told, fitted, outcome, page_of
from sinkorigin.claims.judging import LEDGER_SCHEMA
from sinkorigin.tables import write_table

ROW = {
    "claim": "C0", "words": "position 0 is a sink", "model": "mine", "label": "Mine", "role": "pretrained", "prompts": "p",
    "first_token": "drawn", "verdict": "reproduced", "value": 1.0, "threshold": 0.5, "reason": "8 of 8 sequences; more",
}  # fmt: skip


def write_ledger(folder, *rows: dict, schema: pa.Schema = LEDGER_SCHEMA) -> None:
    whole = [dict.fromkeys(schema.names) | {name: row[name] for name in row if name in schema.names} for row in rows]
    write_table(folder / "claims.parquet", pa.Table.from_pylist(whole, schema=schema), schema)


def test_findings_and_the_page_are_told(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    write_ledger(folder, ROW)
    for page in reversed(PAGES):  # the first of them is the page, if it is there
        (folder / page).touch()
        *told, last = outcome(folder)
        assert told[0] == "What study mine found:" and told[1].startswith("- Sink: In Mine")
        assert "position 0 is a sink" in " ".join(told)
        assert last == f"The page of the study: {folder / page}"


def test_a_study_without_findings_or_a_page_has_nothing_told(tmp_path):
    assert outcome(tmp_path) == [] and page_of(tmp_path) is None  # results are in a storage
    write_ledger(tmp_path, ROW | {"verdict": "not applicable"})
    assert outcome(tmp_path) == []


def test_a_ledger_of_another_version_is_refused_in_a_sentence(tmp_path):
    without = pa.schema([field for field in LEDGER_SCHEMA if field.name != "threshold"])
    write_ledger(tmp_path, ROW, schema=without)
    [sentence] = findings_told(tmp_path / "claims.parquet")
    assert "claims.parquet is of another version" in sentence and "remove it and run the same command again" in sentence


def test_a_run_that_makes_no_page_names_none(tmp_path):
    write_ledger(tmp_path, ROW)
    page = tmp_path / PAGES[0]
    page.touch()
    assert outcome(tmp_path)[-1] == f"The page of the study: {page}"
    told = outcome(tmp_path, with_page=False)
    assert len(told) > 1 and not any(str(page) in line for line in told)


@pytest.mark.parametrize("count", [1, 3, 7, 10, 14])
@pytest.mark.parametrize("words", [2, 30, 400])
def test_whatever_is_found_fits_into_ten_lines(count, words):
    lines = fitted([f"{number}: " + "lorem " * words for number in range(count)])
    assert len(lines) <= LINES and all(len(line) <= WIDTH for line in lines)
    begun = [line for line in lines if line.startswith("- ")]
    assert [line.split(":")[0] for line in begun] == [f"- {number}" for number in range(min(count, LINES))]
    whole = " ".join(lines).count("lorem") == count * words
    assert whole == (not any(line.endswith("…") for line in lines) and count <= LINES)
    assert whole or words == 400 or count > LINES or len(lines) == LINES


def test_what_is_too_long_ends_with_the_last_claim_that_fits():
    claims = "; ".join(f"claim {number} holds in {number} of 10 places" for number in range(40))
    lines = fitted([f"Reproduced: {claims}.", "Undecided: one claim."])
    assert lines[-1] == "- Undecided: one claim." and lines[-2].endswith("places; …") and len(lines) == LINES


@pytest.mark.parametrize("claims", [5, 40])
def test_a_name_with_hyphens_stays_whole(claims):
    told = " ".join(line[2:] for line in fitted([f"Reproduced: {' and '.join(['pythia-deduped-random'] * claims)}."]))
    assert told.count("pythia") == told.count("pythia-deduped-random") > 1
