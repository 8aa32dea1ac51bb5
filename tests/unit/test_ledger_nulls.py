"""Verdicts of the primary tests are wrong in at most 5 % under a null, and right under the claim and under its opposite."""

import pytest
from scipy import stats

from ledger_simulations import CLAIMS, SIMULATIONS
from sinkorigin.claims.tests import CONTRADICTED, REPRODUCED

N = 64  # sequences of the default study
LEVEL = 0.05


def assert_at_most(count: int, draws: int) -> None:
    """Fail where so many errors have a probability below one in two hundred at the level that is promised."""
    assert stats.binom.sf(count - 1, draws, LEVEL) > 0.005, f"{count} of {draws}"


@pytest.mark.parametrize("simulation", SIMULATIONS, ids=str)
def test_a_null_is_seldom_reproduced_and_seldom_contradicted(simulation):
    """More draws, and other numbers of sequences: benchmarks/verdict_errors.py."""
    draws = 40 if simulation.costly else 200
    found = simulation.verdicts("null", N, draws)
    assert_at_most(found.count(REPRODUCED), draws)
    if simulation.refutable:
        assert_at_most(found.count(CONTRADICTED), draws)


@pytest.mark.parametrize("simulation", SIMULATIONS, ids=str)
def test_tables_made_under_the_claim_or_its_opposite_turn_the_verdict(simulation):
    for truth, right, wrong in (("claim", REPRODUCED, CONTRADICTED), ("opposite", CONTRADICTED, REPRODUCED)):
        found = simulation.verdicts(truth, N, 8)
        assert found.count(right) >= 6 and wrong not in found, (truth, found)


def test_every_primary_claim_about_a_model_is_simulated():
    about_models = {code for code in CLAIMS if int("".join(filter(str.isdigit, code))) <= 11}
    assert {simulation.code for simulation in SIMULATIONS} == about_models
