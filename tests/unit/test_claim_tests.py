"""Verdicts: the whole interval, both ways, and the correction for many tests."""

import numpy as np
import pytest

from sinkorigin.claims.tests import CONTRADICTED, REPRODUCED, UNDECIDED, Test, decide

ABOVE, BELOW, WITHIN = (Test("a share", side, 0.5, "it is half", "less") for side in ("above", "below", "within"))


@pytest.mark.parametrize(
    ("test", "low", "high", "verdict"),
    [
        (ABOVE, 0.6, 0.9, REPRODUCED),
        (ABOVE, 0.4, 0.9, UNDECIDED),
        (ABOVE, -0.053, 0.083, CONTRADICTED),  # ignorance and refutation have different words
        (ABOVE, 0.5, 0.9, UNDECIDED),
        (ABOVE, None, 0.9, UNDECIDED),
        (ABOVE, np.nan, 0.9, UNDECIDED),
        (BELOW, 0.1, 0.4, REPRODUCED),
        (BELOW, 0.5, 0.6, CONTRADICTED),
        (BELOW, 0.4, 0.6, UNDECIDED),
        (WITHIN, -0.4, 0.4, REPRODUCED),
        (WITHIN, -0.6, 0.4, UNDECIDED),
        (WITHIN, 0.5, 0.7, CONTRADICTED),
        (WITHIN, -0.9, -0.5, CONTRADICTED),
    ],
)
def test_a_verdict_is_that_of_the_whole_interval(test, low, high, verdict):
    assert test.verdict(low, high) == verdict


def test_p_is_small_where_the_interval_is_far_from_the_threshold():
    assert ABOVE.p(0.9, 0.8, 1.0) < 1e-4
    np.testing.assert_allclose(ABOVE.p(0.6, 0.5, 0.7), 0.05, rtol=1e-3)
    np.testing.assert_allclose(ABOVE.p(0.4, 0.3, 0.5), 0.05, rtol=1e-3)
    assert ABOVE.p(0.5, 0.4, 0.6) == pytest.approx(1)
    assert ABOVE.p(0.9, 0.9, 0.9) == 0


def test_what_holms_correction_does_not_leave_is_undecided():
    verdicts = [REPRODUCED, CONTRADICTED, UNDECIDED, REPRODUCED]
    kept, adjusted = decide(verdicts, [0.001, 0.03, 0.5, None])
    assert kept == [REPRODUCED, UNDECIDED, UNDECIDED, REPRODUCED]
    assert adjusted[:2] == pytest.approx([0.003, 0.06]) and adjusted[3] is None


def test_a_family_of_true_nulls_is_wrong_in_at_most_five_per_cent():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(1000):
        values = rng.normal(0.5, 0.1, size=10)
        found = [(v, v - 0.196, v + 0.196) for v in values]
        alone = [ABOVE.verdict(low, high) for _, low, high in found]
        kept, _ = decide(alone, [ABOVE.p(*ends) for ends in found])
        wrong += any(verdict != UNDECIDED for verdict in kept)
    assert wrong <= 62  # 5 %, and its sampling error
