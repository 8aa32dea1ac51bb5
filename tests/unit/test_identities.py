"""Identities are checks: they pass where two ways to one number agree, and fail where they do not."""

import polars as pl
import pytest

from claim_tables import declared_tables
from sinkorigin.claims.checks import SAME_SCORE, check
from sinkorigin.claims.verdicts import Judged, StudyTables, places_of

LINEAR, GRID = "W_O is linear", "the grid is amplification and norm control"


def checked(root, name, variant=None, **tables):
    """Verdict and what of a check, from rows of tables."""
    for table, rows in tables.items():
        path = root / "statistics" / "m" / "p" / f"{table}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(rows).write_parquet(path)
    model = Judged("m", "M", "pretrained" if variant is None else "trained", variant=variant)
    rows = check(model, "p", StudyTables(places_of(declared_tables(root)), model, "p"))
    return [(row["verdict"], row["what"]) for row in rows if row["check"] == name]


def contrast(difference, half, site="output_projection_output"):
    kind = "variance_amplification"
    return {
        "control": "amplified_after_output", "treatment_kind": kind, "control_kind": kind, "control_site": site, "target": 10,
        "strength": 8.0, "difference": difference, "difference_low": difference - half, "difference_high": difference + half,
        "score": 0.2, "control_score": 0.2 - difference,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("difference", "half", "verdict"),
    [
        (1e-6, 1e-6, "passed"),
        (0.05, 0.01, "failed"),
        (0.0, 0.05, "undecided"),
    ],  # an interval that merely holds 0 is not enough
)
def test_amplification_on_both_sides_of_the_output_projection(tmp_path, difference, half, verdict):
    found = checked(tmp_path, LINEAR, intervention_contrasts=[contrast(difference, half)])
    assert found == [(verdict, "amplified_after_output, position 10, λ = 8")]


def test_what_is_added_behind_a_norm_is_no_identity(tmp_path):
    assert checked(tmp_path, LINEAR, intervention_contrasts=[contrast(0.05, 0.01, "attention_output")]) == []
    found = checked(tmp_path, LINEAR, variant="headwise_rmsnorm", intervention_contrasts=[contrast(0.05, 0.01)])
    assert [verdict for verdict, _ in found] == ["not applicable"]


def edit(kind, score, strength, mean_factor=None):
    return {
        "kind": kind, "score": score, "strength": strength, "mean_factor": mean_factor, "site": "value_aggregation", "layers": [0, 1],
        "positions": [10], "target": 10, "sequences": 64,
    }  # fmt: skip


@pytest.mark.parametrize(("off", "verdict"), [(SAME_SCORE / 10, "passed"), (2 * SAME_SCORE, "failed")])
def test_lines_of_the_grid_are_edits_of_other_kinds(tmp_path, off, verdict):
    rows = [
        edit("variance_amplification", 0.3, 4.0), edit("norm_control", 0.1, 4.0), edit("mean_and_deviation", 0.3 + off, 4.0, 1.0),
        edit("mean_and_deviation", 0.1 - off, 4.0, 4.0), edit("mean_and_deviation", 0.9, 4.0, 2.0), edit("mean_and_deviation", 0.9, 8.0, 1.0),
    ]  # fmt: skip
    assert checked(tmp_path, GRID, interventions=rows) == [
        (verdict, "λ = 4, α = 1, position 10, against variance amplification"),
        (verdict, "λ = 4, α = 4, position 10, against norm control"),
    ]
