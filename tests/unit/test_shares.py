"""Shares of sequences: exact intervals, paired shares, many tests, intervals of skewed means and of clusters."""

import numpy as np
import pytest
from scipy import stats

from sinkorigin.statistics.binomial import at_most_p, exact_interval, paired_shares, tango_interval
from sinkorigin.statistics.bootstrap import Resampling, studentised_interval
from sinkorigin.statistics.holm import holm


@pytest.mark.parametrize(("count", "sequences"), [(0, 24), (3, 24), (24, 24), (32, 64)])
def test_an_exact_interval_is_scipys(count, sequences):
    expected = stats.binomtest(count, sequences).proportion_ci(method="exact")
    np.testing.assert_allclose(exact_interval(count, sequences), (expected.low, expected.high), atol=1e-9)


def test_a_share_against_chance_is_the_binomial_tail():
    assert at_most_p(0, 5, 0.2) == 1
    for count in range(1, 6):
        expected = stats.binomtest(count, 5, 0.2, alternative="greater").pvalue
        np.testing.assert_allclose(at_most_p(count, 5, 0.2), expected)


def test_paired_shares_give_mcnemars_exact_p_and_a_score_interval_that_agrees_with_it():
    first = np.array([1] * 12 + [0] * 2 + [1] * 20 + [0] * 10, dtype=bool)
    second = np.array([0] * 12 + [1] * 2 + [1] * 20 + [0] * 10, dtype=bool)
    found = paired_shares(first, second, Resampling(200, 0))
    assert (found.first_only, found.second_only) == (12, 2)
    np.testing.assert_allclose(found.difference, 10 / 44)
    np.testing.assert_allclose(found.p, stats.binomtest(2, 14, 0.5).pvalue)
    assert found.low > 0  # McNemar without correction: 10² / 14 = 7.1
    # the interval's ends are where the score has the normal quantile, by a second way: the constrained maximum by search
    for end in (found.low, found.high):
        np.testing.assert_allclose(abs(_score(12, 2, 44, end)), stats.norm.ppf(0.975), rtol=1e-3)


def _score(b: int, c: int, n: int, delta: float) -> float:
    """Tango's score with the nuisance parameter found by search instead of by its formula."""
    q = np.linspace(max(0.0, -delta) + 1e-9, (1 - delta) / 2 - 1e-9, 200_001)
    likelihood = b * np.log(q + delta) + c * np.log(q) + (n - b - c) * np.log(1 - 2 * q - delta)
    best = q[likelihood.argmax()]
    return (b - c - n * delta) / np.sqrt(n * (2 * best + delta - delta**2))


@pytest.mark.parametrize(("first_only", "second_only"), [(0.5, 0.0), (0.1, 0.05), (0.02, 0.02), (0.9, 0.02)])
def test_score_intervals_cover_the_true_difference(first_only, second_only):
    rng = np.random.default_rng(0)
    draws = rng.multinomial(64, [first_only, second_only, 1 - first_only - second_only], size=600)
    ends = np.array([tango_interval(int(b), int(c), 64) for b, c, _ in draws])
    true = first_only - second_only
    assert ((ends[:, 0] <= true) & (true <= ends[:, 1])).mean() > 0.92


def test_holm_adjusts_as_its_definition_says_and_never_orders_anew():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_a_studentised_interval_covers_the_mean_of_skewed_scores_and_has_no_width_without_variance():
    rng = np.random.default_rng(0)
    covered = [
        low <= np.exp(0.5) <= high
        for low, high in (studentised_interval(rng.lognormal(size=64), Resampling(1000, 0)) for _ in range(300))
    ]
    assert np.mean(covered) > 0.915
    assert studentised_interval(np.full(8, 0.25), Resampling(200, 0)) == (0.25, 0.25)
