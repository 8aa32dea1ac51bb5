"""Statistics of generated numbers equal slow definitions that share no code with them, and change as their definitions say under symmetries."""

import math
from collections import Counter
from itertools import combinations, pairwise, permutations

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sinkorigin.statistics.binomial import (
    at_most_p,
    effective_number,
    exact_interval,
    mcnemar_p,
    paired_shares,
    share_columns,
    share_interval,
    tango_interval,
)
from sinkorigin.statistics.binomial import two_sided_p as two_sided_binomial_p
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.change_points import change_table, turning_points
from sinkorigin.statistics.channel_sparsity import excess_kurtosis, max_over_mean, participation_ratio, top_dims
from sinkorigin.statistics.curve_contrasts import _log_weights
from sinkorigin.statistics.disparity import _most_frequent, dominance_ratio, is_massive
from sinkorigin.statistics.effective_rank import effective_rank
from sinkorigin.statistics.holm import holm
from sinkorigin.statistics.kendall import kendall_between, kendall_tau, kendall_tau_b, order_interval
from sinkorigin.statistics.ladder import detectable, power, seeds_needed, slope_row, slope_weights
from sinkorigin.statistics.layer_permutations import PERMUTATIONS, layer_orders, permuted
from sinkorigin.statistics.matrix_entropy import von_neumann_entropy
from sinkorigin.statistics.moments import ReplicatedMoments
from sinkorigin.statistics.rank_correlation import mean_ranks, permuted_p, spearman
from sinkorigin.statistics.row_sinks import _share_above
from sinkorigin.statistics.student import paired_interval, two_sided_p
from sinkorigin.statistics.student import seeds_needed as seeds_that_leave_out
from sinkorigin.statistics.uniform import uniform_score
from sinkorigin.statistics.variance import first_to_rest, group_means, position_groups

# eighths: sums and differences of them are exact, and they are often equal
eighths = st.integers(-400, 400).map(lambda number: number / 8)
shares = st.floats(0, 1, allow_subnormal=False)
seeds = st.integers(0, 2**32 - 1)
shapes = array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=7)


def values(low: int = 1, high: int = 12, elements=eighths):
    """(n,) arrays."""
    return arrays(np.float64, st.integers(low, high), elements=elements)


def matrices(elements=eighths, shape=shapes):
    return arrays(np.float64, shape, elements=elements)


counted = st.integers(1, 40).flatmap(lambda number: st.tuples(st.integers(0, number), st.just(number)))


def binomial_tail(counts, number: int, share: float) -> float:
    """P(X in counts)."""
    return math.fsum(math.comb(number, k) * share**k * (1 - share) ** (number - k) for k in counts)


# ---- many tests at once


@given(st.lists(shares, min_size=1, max_size=7))
def test_holm_is_the_closure_of_bonferroni(p_values):
    """The adjusted p-value of a test is the largest Bonferroni p-value of the sets of tests that it is in (Marcus et al. 1976)."""
    everyone = range(len(p_values))
    sets = [some for size in range(1, len(p_values) + 1) for some in combinations(everyone, size)]
    expected = [max(min(1, len(some) * min(p_values[j] for j in some)) for some in sets if i in some) for i in everyone]
    np.testing.assert_allclose(holm(p_values), expected, rtol=1e-12)


# ---- shares


@given(counted, st.floats(0.5, 0.999))
def test_an_exact_interval_ends_where_a_tail_has_half_of_what_is_left(count_and_number, confidence):
    count, number = count_and_number
    low, high = exact_interval(count, number, confidence)
    assert 0 <= low <= count / number <= high <= 1
    tail = (1 - confidence) / 2
    if count:
        assert binomial_tail(range(count, number + 1), number, low) == pytest.approx(tail, rel=1e-6)
    else:
        assert low == 0
    if count < number:
        assert binomial_tail(range(count + 1), number, high) == pytest.approx(tail, rel=1e-6)
    else:
        assert high == 1
    assert exact_interval(number - count, number, confidence) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@given(counted, shares)
def test_binomial_p_values_are_sums_of_probabilities(count_and_number, share):
    count, number = count_and_number
    upper = binomial_tail(range(count, number + 1), number, share)
    lower = binomial_tail(range(count + 1), number, share)
    assert at_most_p(count, number, share) == pytest.approx(upper, abs=1e-12)
    assert two_sided_binomial_p(count, number, share) == pytest.approx(min(1, 2 * min(upper, lower)), abs=1e-12)


@given(counted, shares)
def test_a_share_is_rejected_where_its_exact_interval_leaves_it_out(count_and_number, share):
    count, number = count_and_number
    low, high = exact_interval(count, number)
    assume(min(abs(share - low), abs(share - high)) > 1e-9)
    assert (two_sided_binomial_p(count, number, share) < 0.05) == (not low <= share <= high)


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemars_p_value_is_that_of_a_fair_coin(first_only, second_only):
    number = first_only + second_only
    expected = min(1, 2 * binomial_tail(range(min(first_only, second_only) + 1), number, 0.5))
    assert mcnemar_p(first_only, second_only) == pytest.approx(expected, rel=1e-12)


@given(st.floats(0.01, 30), st.floats(0.01, 30))
def test_mcnemars_p_value_between_whole_counts_lies_between_theirs(first_only, second_only):
    """It is symmetric, an integral of the beta distribution's density, and falls as the smaller count does."""
    found = mcnemar_p(first_only, second_only)
    assert found == mcnemar_p(second_only, first_only)
    least, most = sorted((first_only, second_only))
    assert found == pytest.approx(min(1, 2 * scipy.stats.beta.sf(0.5, least + 1, most)), rel=1e-9)
    if most - least > 1:
        assert mcnemar_p(math.floor(least), math.ceil(most)) <= found * (1 + 1e-12)
        assert found <= mcnemar_p(math.ceil(least), math.floor(most)) * (1 + 1e-12)


def restricted_score(b: int, c: int, n: int, delta: float) -> float:
    """Tango's statistic, with P(second only) by a search for the maximum of the likelihood."""

    def likelihood(q: float) -> float:
        parts = ((b, q + delta), (c, q), (n - b - c, 1 - 2 * q - delta))
        return sum(count * math.log(share) if share > 0 else -math.inf for count, share in parts if count)

    low, high = max(0.0, -delta), (1 - delta) / 2
    for _ in range(200):  # the likelihood has one maximum
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (left, high) if likelihood(left) < likelihood(right) else (low, right)
    q = (low + high) / 2
    return (b - c - n * delta) / math.sqrt(n * (2 * q + delta * (1 - delta)))


tables_of_pairs = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 12)).filter(any)


@given(tables_of_pairs, st.sampled_from([0.8, 0.95, 0.99]))
def test_tangos_interval_ends_where_the_score_is_the_normal_quantile(table, confidence):
    b, c, rest = table
    n = b + c + rest
    low, high = tango_interval(b, c, n, confidence)
    assert -1 <= low <= (b - c) / n <= high <= 1
    assert tango_interval(c, b, n, confidence) == pytest.approx((-high, -low), abs=1e-9)
    quantile = scipy.stats.norm.ppf((1 + confidence) / 2)
    for end, level in ((low, quantile), (high, -quantile)):
        if -1 + 1e-9 < end < 1 - 1e-9:
            assert restricted_score(b, c, n, end) == pytest.approx(level, rel=1e-4)


@given(st.data(), st.integers(1, 30))
def test_paired_shares_of_independent_sequences_are_those_of_their_counts(data, number):
    first, second = (data.draw(arrays(np.bool_, number)) for _ in range(2))
    found = paired_shares(first, second, Resampling(10, 0), 0.9)
    both = Counter(zip(first.tolist(), second.tolist(), strict=True))
    b, c = both[True, False], both[False, True]
    assert (found.first_only, found.second_only) == (b, c)
    assert found.difference == pytest.approx(first.mean() - second.mean(), abs=1e-12)
    assert (found.low, found.high) == tango_interval(b, c, number, 0.9)
    assert found.p == mcnemar_p(b, c)


clustered = st.lists(st.tuples(eighths, st.integers(0, 9)), min_size=2, max_size=30)


@given(clustered, st.integers(1, 8), st.integers(-5, 5))
def test_the_effective_number_is_that_of_the_cluster_robust_variance(pairs, scale, shift):
    numbers, members = (np.array(part) for part in zip(*pairs, strict=True))
    resampling = Resampling(10, 0, tuple(members.tolist()))
    found = effective_number(numbers, resampling)
    n, clusters = len(numbers), sorted(set(members.tolist()))
    assert 0 < found <= n
    if len(clusters) == n:
        assert found == n
    elif len(set(numbers)) == 1 or len(clusters) == 1:
        assert found == len(clusters)
    else:
        g, mean = len(clusters), numbers.mean()
        by_cluster = sum(sum(numbers[i] - mean for i in range(n) if members[i] == one) ** 2 for one in clusters)
        robust = g / (g - 1) * by_cluster / n**2
        widen = scipy.stats.t.ppf(0.975, n - 1) / scipy.stats.t.ppf(0.975, g - 1)
        independent = numbers.var(ddof=1) / n
        expected = n if robust < 1e-12 * independent else min(n, n * widen**2 * independent / robust)
        assert found == pytest.approx(expected, rel=1e-6)
    assert effective_number(numbers * scale + shift, resampling) == pytest.approx(found, rel=1e-6)
    order = np.argsort(members, kind="stable")
    assert effective_number(numbers[order], Resampling(10, 0, tuple(members[order].tolist()))) == pytest.approx(found)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 11)), min_size=1, max_size=30))
def test_an_interval_of_a_share_is_exact_for_the_effective_number(pairs):
    does, members = (np.array(part) for part in zip(*pairs, strict=True))
    resampling = Resampling(10, 0, tuple(members.tolist()))
    found = share_columns("s", does, resampling)
    assert found["s"] == pytest.approx(does.mean())
    if len(set(members.tolist())) < min(8, len(does)):
        assert np.isnan([found["s_low"], found["s_high"]]).all()
        return
    effective = effective_number(does, resampling)
    expected = exact_interval(does.mean() * effective, effective)
    assert (found["s_low"], found["s_high"]) == pytest.approx(expected, abs=1e-9)
    assert (found["s_low"], found["s_high"]) == share_interval(does, resampling)
    assert found["s_low"] <= found["s"] + 1e-12 and found["s"] <= found["s_high"] + 1e-12


# ---- orders


def pair_signs(row) -> list[float]:
    return [np.sign(later - earlier) for earlier, later in combinations(row, 2)]


@given(matrices(), st.integers(0, 6))
def test_kendalls_tau_counts_pairs(rows, last):
    found = kendall_tau(rows)
    np.testing.assert_allclose(found, [np.mean(pair_signs(row)) for row in rows], atol=1e-12)
    np.testing.assert_array_equal(kendall_tau(-rows), -found)
    np.testing.assert_array_equal(kendall_tau(rows[:, ::-1]), -found)
    np.testing.assert_array_equal(kendall_tau(np.cbrt(rows) + 3), found)
    assert np.isnan(kendall_tau(rows[:, :1])).all()
    rows[0, last % rows.shape[1]] = np.nan
    np.testing.assert_array_equal(kendall_tau(rows), [np.nan, *found[1:]])


@pytest.mark.parametrize("length", [2, 126, 127, 128, 129, 254, 255, 256, 300])
def test_kendalls_tau_of_long_curves_counts_pairs(length):
    rng = np.random.default_rng(length)
    rows = np.stack([np.arange(length), rng.permutation(length), rng.integers(0, 5, length), -np.arange(length)])
    signs = np.sign(rows[:, None, :] - rows[:, :, None])[:, *np.triu_indices(length, 1)]
    np.testing.assert_allclose(kendall_tau(rows.reshape(2, 2, length)), signs.mean(axis=1).reshape(2, 2), atol=1e-12)


@given(st.data(), shapes)
def test_kendalls_tau_between_rows_counts_agreeing_pairs(data, shape):
    left, right = (data.draw(arrays(np.float64, shape, elements=eighths)) for _ in range(2))
    expected = [np.mean(np.multiply(pair_signs(a), pair_signs(b))) for a, b in zip(left, right, strict=True)]
    np.testing.assert_allclose(kendall_between(left, right), expected, atol=1e-12)
    assert np.isnan(kendall_between(left[:, :1], right[:, :1])).all()


@given(st.data(), shapes)
def test_kendalls_tau_b_equals_scipys(data, shape):
    infinite = st.one_of(eighths, st.sampled_from([-math.inf, math.inf]))
    rows = data.draw(arrays(np.float64, shape, elements=eighths))
    against = data.draw(arrays(np.float64, shape[1], elements=infinite))
    expected = [scipy.stats.kendalltau(row, against).statistic for row in rows]
    np.testing.assert_allclose(kendall_tau_b(rows, against), expected, atol=1e-12)


@given(arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 30)), elements=st.floats(-1, 1)))
def test_an_interval_of_an_order_holds_every_estimate_and_stays_in_its_bounds(orders):
    value, low, high = order_interval(orders, Resampling(30, 0))
    assert value == orders[0, 0]
    if orders.shape[1] == 1:
        assert np.isnan([low, high]).all()
        return
    ends = []
    for first, *replicates in orders:
        around = np.percentile(replicates, [2.5, 97.5])
        ends += [*around, *(around + first - np.mean(replicates))]
    assert low == pytest.approx(max(-1, min(value, *ends)), abs=1e-12)
    assert high == pytest.approx(min(1, max(value, *ends)), abs=1e-12)
    orders[-1, 0] = np.nan
    assert np.isnan(order_interval(orders, Resampling(30, 0))[1:]).all()


@given(matrices(), st.integers(0, 6))
def test_ranks_equal_scipys(rows, place):
    np.testing.assert_array_equal(mean_ranks(rows), scipy.stats.rankdata(rows, axis=-1))
    rows[0, place % rows.shape[1]] = np.nan
    found = mean_ranks(rows)
    assert np.isnan(found[0]).all() and not np.isnan(found[1:]).any()


@given(st.data(), shapes)
def test_spearmans_correlation_is_pearsons_of_the_ranks(data, shape):
    left, right = (data.draw(arrays(np.float64, shape, elements=eighths)) for _ in range(2))
    found = spearman(left, right)
    for one, a, b in zip(found, left, right, strict=True):
        if len(set(a)) == 1 or len(set(b)) == 1:
            assert np.isnan(one)
        else:
            ranks = [scipy.stats.rankdata(row) for row in (a, b)]
            assert one == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-12)
    np.testing.assert_allclose(spearman(np.cbrt(left), -right), -found, atol=1e-12)


@given(st.data(), st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_a_permutation_p_value_counts_the_orders_that_correlate_as_much(data, heads_by_layer):
    layer = np.repeat(np.arange(len(heads_by_layer)), heads_by_layer)
    left, right = (data.draw(arrays(np.float64, len(layer), elements=eighths)) for _ in range(2))
    found = permuted_p(left, right, layer_orders(layer, 0))
    if len(set(left)) == 1 or len(set(right)) == 1:
        assert found is None
        return
    blocks = np.split(left, np.cumsum(heads_by_layer)[:-1])
    taus = [abs(scipy.stats.spearmanr(np.concatenate(order), right).statistic) for order in permutations(blocks)]
    assert found == pytest.approx(np.mean([tau >= taus[0] - 1e-9 for tau in taus]))
    assert 1 / math.factorial(len(blocks)) <= found <= 1


@settings(max_examples=settings().max_examples // 5)  # ten thousand orders each
@given(st.lists(st.integers(1, 4), min_size=1, max_size=9), seeds)
def test_orders_of_layers_keep_the_heads_of_a_layer_together(heads_by_layer, seed):
    layer = np.repeat(np.arange(len(heads_by_layer)) * 2 + 1, heads_by_layer)
    orders = layer_orders(layer, seed)
    several = math.factorial(len(heads_by_layer))
    assert len(orders) == (several if several <= PERMUTATIONS else 1 + PERMUTATIONS)
    assert orders[0].tolist() == list(range(len(layer)))
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.broadcast_to(orders[0], orders.shape))
    for order in orders[:: max(1, len(orders) // 20)]:
        for one in set(layer):
            places = np.flatnonzero(layer[order] == one)
            assert (np.diff(places) == 1).all() and (np.diff(order[places]) == 1).all()
    assert several > PERMUTATIONS or len(set(map(tuple, orders))) == several
    np.testing.assert_array_equal(layer_orders(layer, seed), orders)
    np.testing.assert_array_equal(np.concatenate(list(permuted(layer, orders))), layer[orders])


# ---- means over seeds


@given(values(2, 8), eighths)
def test_students_interval_and_p_value_equal_scipys(differences, at):
    mean, low, high = paired_interval(differences)
    p = two_sided_p(differences, at)
    assert mean == differences.mean() and low <= mean <= high
    if len(set(differences)) == 1:
        assert (low, high) == (mean, mean) and p == (mean == at)
        return
    test = scipy.stats.ttest_1samp(differences, at)
    assert p == pytest.approx(test.pvalue, rel=1e-9)
    assert (low, high) == pytest.approx(tuple(test.confidence_interval(0.95)), rel=1e-9, abs=1e-9)
    assume(min(abs(at - low), abs(at - high)) > 1e-9)
    assert (p < 0.05) == (not low <= at <= high)


@given(values(2, 8), eighths, st.integers(2, 40))
def test_the_number_of_seeds_that_would_decide_is_the_smallest(differences, at, most):
    distance, sd = abs(differences.mean() - at), differences.std(ddof=1)
    numbers = [n for n in range(2, most + 1) if scipy.stats.t.ppf(0.975, n - 1) * sd / math.sqrt(n) < distance]
    assert seeds_that_leave_out(differences, at, most) == next(iter(numbers), None)


def test_one_seed_has_no_interval_and_no_p_value():
    assert paired_interval([2.5]) == (2.5, None, None)
    assert two_sided_p([2.5], 0) is None and seeds_that_leave_out([2.5], 0) is None


# ---- sizes of models


@given(st.integers(2, 30), st.floats(0, 4))
def test_power_equals_that_of_the_noncentral_t_distribution(number, effect):
    critical = scipy.stats.t.ppf(0.975, number - 1)
    shift = effect * math.sqrt(number)
    expected = scipy.stats.nct.sf(critical, number - 1, shift) + scipy.stats.nct.cdf(-critical, number - 1, shift)
    assume(np.isfinite(expected))
    assert power(effect, number) == pytest.approx(expected, abs=2e-3)


@given(st.integers(2, 60))
def test_what_so_many_seeds_detect_has_the_power_and_more_seeds_detect_less(number):
    assert power(detectable(number), number) == pytest.approx(0.8, abs=1e-9)
    assert detectable(number + 1) < detectable(number)


@given(st.floats(0.05, 5), st.floats(0.01, 2))
def test_the_seeds_needed_are_the_fewest_that_detect_the_effect(effect, sd):
    number = seeds_needed(effect, sd)
    if number is not None:
        assert detectable(number) * sd <= effect
        assert number == 2 or detectable(number - 1) * sd > effect


@given(st.data(), st.lists(st.integers(1, 10**6), min_size=2, max_size=6, unique=True))
def test_the_slope_over_sizes_is_that_of_least_squares(data, sizes):
    parameters = np.sort(np.array(sizes, dtype=float)) * 1000
    gaps = data.draw(arrays(np.float64, (3, len(sizes)), elements=eighths))
    slopes = [np.polyfit(np.log(parameters) / np.log(4), row, 1)[0] for row in gaps]
    np.testing.assert_allclose(gaps @ slope_weights(parameters), slopes, rtol=1e-6, atol=1e-6)
    row = slope_row(gaps, parameters)
    assert row["slope"] == pytest.approx(np.mean(slopes), rel=1e-6, abs=1e-6)
    assert row["gap_smallest"] == gaps[:, 0].mean() and row["gap_largest"] == gaps[:, -1].mean()
    decided = "falls" if row["slope_high"] < 0 else "rises" if row["slope_low"] > 0 else "undecided"
    assert row["answer"] == decided


@given(st.integers(0, 40), st.integers(0, 60))
def test_the_uniform_score_is_a_mean_of_reciprocals_that_falls_with_position(position, length):
    found = uniform_score(position, length)
    if position + 1 >= length:
        assert math.isnan(found)
        return
    reciprocals = [1 / (query + 1) for query in range(position + 1, length)]
    assert found == pytest.approx(math.fsum(reciprocals) / len(reciprocals), rel=1e-12)
    assert position + 2 >= length or uniform_score(position + 1, length) < found


# ---- spectra


def entropy_of(shares: np.ndarray) -> float:
    return -math.fsum(p * math.log(p) for p in shares if p > 1e-15)


@given(matrices(), st.integers(1, 9), seeds)
def test_entropy_and_effective_rank_are_those_of_the_singular_values(matrix, scale, seed):
    rows, width = matrix.shape
    sigma = np.linalg.svd(matrix, compute_uv=False)
    gram = matrix.T @ matrix
    upper = np.triu(gram) + np.tril(np.full_like(gram, np.nan), -1)  # what lies below the diagonal is not read
    if not sigma.any():
        assert math.isnan(von_neumann_entropy(gram)) and math.isnan(effective_rank(gram))
        return
    entropy, rank = float(von_neumann_entropy(upper)), effective_rank(upper)
    assert entropy == pytest.approx(entropy_of(sigma**2 / (sigma**2).sum()), abs=1e-9)
    # the square roots of eigenvalues of 0 are rounding
    assert rank == pytest.approx(math.exp(entropy_of(sigma / sigma.sum())), rel=1e-5)
    most = min(rows, width)
    assert -1e-12 <= entropy <= math.log(most) + 1e-9 and 1 - 1e-9 <= rank <= most * (1 + 1e-5)
    assert von_neumann_entropy(matrix @ matrix.T) == pytest.approx(entropy, abs=1e-9)
    rotation = scipy.stats.ortho_group.rvs(width, random_state=seed)
    assert von_neumann_entropy(scale * rotation @ gram @ rotation.T) == pytest.approx(entropy, abs=1e-9)
    assert effective_rank(scale * gram) == pytest.approx(rank, rel=1e-5)


@pytest.mark.parametrize("width", [2, 3, 7])
def test_all_directions_alike_have_the_largest_entropy_and_rank(width):
    assert von_neumann_entropy(3 * np.eye(width)) == pytest.approx(math.log(width))
    assert effective_rank(3 * np.eye(width)) == pytest.approx(width)


# ---- curves


@given(st.lists(eighths, max_size=20), st.integers(1, 80).map(lambda number: number / 8))
def test_turning_points_are_extremes_between_which_the_curve_changes_by_the_threshold(curve, threshold):
    points = turning_points(curve, threshold)
    assert points == turning_points([-value for value in curve], threshold)
    assert points == turning_points([2 * value + 1 for value in curve], 2 * threshold)
    if not points:
        assert not curve or max(curve) - min(curve) < threshold
        return
    assert len(points) > 1 and points == sorted(set(points))
    directions = [np.sign(curve[end] - curve[start]) for start, end in pairwise(points)]
    assert all(one == -other for one, other in pairwise(directions))
    for (start, end), direction in zip(pairwise(points), directions, strict=True):
        rising = [direction * value for value in curve]
        part = rising[start : end + 1]
        assert part[-1] - part[0] >= threshold
        assert min(part) == part[0] and max(part) == part[-1] and part.index(part[-1]) == len(part) - 1
        falls = [earlier - later for earlier, later in combinations(part, 2)]
        assert max(falls) < threshold  # no reversal inside
    for outside in (curve[: points[0]], curve[points[-1] :]):  # nothing is left over
        assert not outside or max(outside) - min(outside) < threshold


@given(
    st.lists(st.integers(1, 400).map(lambda number: number / 8), min_size=2, max_size=10),
    st.integers(1, 8),
    st.booleans(),
)
def test_changes_of_a_curve_are_between_its_turning_points(curve, step, factor):
    samples = np.array([curve, [2 * value for value in curve], [3 * value for value in curve]])
    threshold = 1 + step / 8 if factor else step / 2
    layers = [3 * place + 1 for place in range(len(curve))]
    table = change_table(
        np.array(curve),
        samples,
        layers,
        threshold,
        Resampling(3, 0),
        factor=factor,
        model="m",
        prompts="p",
        quantity="q",
    )
    scaled = [math.log(value) for value in curve] if factor else curve
    points = turning_points(scaled, math.log(threshold) if factor else threshold)
    rows = table.to_pylist()
    assert [(row["start"], row["end"]) for row in rows] == [(layers[a], layers[b]) for a, b in pairwise(points)]
    for row, (start, end) in zip(rows, pairwise(points), strict=True):
        before, after = curve[start], curve[end]
        assert (row["before"], row["after"]) == (before, after)
        assert row["kind"] == ("rise" if after > before else "fall")
        steps = [
            abs(scaled[i + 1] - scaled[i]) * (1 if (scaled[i + 1] > scaled[i]) == (after > before) else -1)
            for i in range(start, end)
        ]
        assert row["layer"] == layers[start + 1 + int(np.argmax(steps))]
        assert row["change"] == pytest.approx(after / before if factor else after - before)
        changes = [after / before] * 3 if factor else [(after - before) * times for times in (1, 2, 3)]
        assert (row["change_low"], row["change_high"]) == pytest.approx(tuple(np.percentile(changes, [2.5, 97.5])))
        assert (row["scale"], row["threshold"]) == ("factor" if factor else "difference", threshold)


@given(st.lists(st.integers(0, 200), min_size=1, max_size=12, unique=True).map(sorted), st.data())
def test_groups_of_positions_double_in_size(positions, data):
    groups = position_groups(np.array(positions))
    expected: dict[int, list[int]] = {}
    for position in positions:
        expected.setdefault(position.bit_length(), []).append(position)
    assert [np.array(positions)[mask].tolist() for mask in groups] == list(expected.values())
    curve = data.draw(arrays(np.float64, (2, len(positions)), elements=eighths))
    by_group = [[np.mean([row[positions.index(p)] for p in group]) for group in expected.values()] for row in curve]
    np.testing.assert_allclose(group_means(curve, np.array(positions)), by_group, atol=1e-12)
    first = first_to_rest(curve + 100, np.array(positions))
    if positions[0] == 0 and len(positions) > 1:
        np.testing.assert_allclose(first, (curve[:, 0] + 100) / (curve[:, 1:] + 100).mean(axis=1))
    else:
        assert np.isnan(first).all()


@given(st.lists(st.integers(1, 400), min_size=2, max_size=8, unique=True).map(sorted), st.data())
def test_areas_over_strengths_are_those_of_trapezoids(eighth_strengths, data):
    strengths = [number / 8 for number in eighth_strengths]
    curve = data.draw(arrays(np.float64, len(strengths), elements=eighths))
    places = np.log(strengths)
    area = sum((b - a) * (x + y) / 2 for (a, b), (x, y) in zip(pairwise(places), pairwise(curve), strict=True))
    assert _log_weights(strengths) @ curve == pytest.approx(area / (places[-1] - places[0]), abs=1e-9)
    assert _log_weights(strengths).sum() == pytest.approx(1)


# ---- vectors


@given(matrices(), st.integers(1, 5))
def test_sparsity_of_vectors_equals_its_definition_and_has_no_unit(vectors, scale):
    for row, sparse, kurtosis, dims in zip(
        vectors, max_over_mean(vectors), excess_kurtosis(vectors), participation_ratio(vectors), strict=True
    ):
        magnitudes = [abs(value) for value in row]
        if not any(magnitudes):
            assert np.isnan([sparse, dims]).all()
            continue
        assert sparse == pytest.approx(max(magnitudes) / (math.fsum(magnitudes) / len(row)), rel=1e-12)
        squares = math.fsum(value**2 for value in row)
        assert dims == pytest.approx(squares**2 / math.fsum(value**4 for value in row), rel=1e-12)
        assert 1 - 1e-12 <= sparse <= len(row) and 1 - 1e-12 <= dims <= len(row) + 1e-9
        if len(set(row)) > 1:
            assert kurtosis == pytest.approx(scipy.stats.kurtosis(row), rel=1e-6, abs=1e-6)
    for measure in (max_over_mean, excess_kurtosis, participation_ratio):
        np.testing.assert_allclose(measure(scale * vectors), measure(vectors), rtol=1e-9)
    count = min(3, vectors.shape[1])
    ordered = [sorted(range(len(row)), key=lambda j, row=row: (-abs(row[j]), j))[:count] for row in vectors]
    assert top_dims(vectors, count).tolist() == ordered


@given(st.data(), shapes, st.booleans())
def test_the_most_frequent_dim_is_the_smallest_of_the_most_common(data, shape, some):
    dims = data.draw(arrays(np.int32, shape, elements=st.integers(0, 5)))
    chosen = data.draw(arrays(np.bool_, shape)) if some else None
    found, count = _most_frequent(dims, chosen)
    for position in range(shape[1]):
        here = dims[:, position] if chosen is None else dims[chosen[:, position], position]
        counts = Counter(here.tolist())
        assert count[position] == max(counts.values(), default=0)
        assert found[position] == min((dim for dim in counts if counts[dim] == count[position]), default=0)


@given(
    arrays(np.float64, 5, elements=st.sampled_from([0, 99.5, 100, 100.5, 999, 1000, 2000])),
    arrays(np.float64, 5, elements=st.sampled_from([0, 0.1, 0.5, 1, 2, np.nan])),
)
def test_an_activation_is_massive_above_100_and_from_1000_medians_on(largest, median):
    expected = [x > 100 and not math.isnan(m) and x >= 1000 * m for x, m in zip(largest, median, strict=True)]
    assert is_massive(largest, median).tolist() == expected
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(dominance_ratio(largest, median)[median > 0], (largest / median)[median > 0])


@given(st.data(), st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 4)))
def test_shares_of_queries_above_thresholds_are_counts(data, shape):
    weights = data.draw(arrays(np.float64, shape, elements=st.integers(0, 8).map(lambda number: number / 8)))
    thresholds = np.array([0.25, 0.5])
    found = _share_above(weights, thresholds)
    for n in range(shape[0]):
        for place, threshold in enumerate(thresholds):
            for head in range(shape[1]):
                queries = weights[n, head].tolist()
                expected = sum(weight > threshold for weight in queries) / len(queries) if queries else math.nan
                assert found[n, place, head] == pytest.approx(expected, nan_ok=True)


@given(st.data(), st.integers(2, 9), st.integers(1, 3), st.integers(1, 12), st.booleans())
def test_moments_of_blocks_are_weighted_moments_of_all_sequences(data, number, length, width, by_dim):
    vectors = data.draw(arrays(np.float64, (number, length, width), elements=eighths))
    drawn = data.draw(arrays(np.int64, (3, number), elements=st.integers(0, 4)).filter(lambda w: w.sum(axis=1).all()))
    weights = np.concatenate([np.full((1, number), 1 / number), drawn / drawn.sum(axis=1, keepdims=True)])
    cut = data.draw(st.integers(1, number))
    moments = ReplicatedMoments(weights, by_dim=by_dim)
    for block in (vectors[:cut], vectors[cut:]):
        if len(block):
            moments.add(block.astype(np.float32))
    correction = number / (number - 1)
    second = np.einsum("rn,ntd->rtd", weights, vectors**2)
    mean = np.einsum("rn,ntd->rtd", weights, vectors)
    spread = correction * (second - mean**2)  # (R, T, d)
    tolerance = {"rtol": 1e-5, "atol": 1e-2 if cut < number and not by_dim else 1e-6}  # float32 means of several blocks
    np.testing.assert_allclose(moments.variance(), spread.mean(axis=2), **tolerance)
    np.testing.assert_allclose(moments.variance()[0], vectors.var(axis=0, ddof=1).mean(axis=1), **tolerance)
    np.testing.assert_allclose(moments.squared_mean(), (mean[0] ** 2).sum(axis=1), atol=1e-6)
    alike = [len({tuple(vector) for vector in vectors[:, t]}) == 1 for t in range(length)]
    if cut == number or by_dim:
        assert moments.same_vectors(moments.variance()).tolist() == [
            one or bool(spread[0, t].sum() * correction <= 1e-10 * (mean[0, t] ** 2).sum())
            for t, one in enumerate(alike)
        ]
    assert moments.is_finite()
    if by_dim:
        chosen = np.arange(length) % 2 == 0
        np.testing.assert_allclose(moments.variance_by_dim(chosen), spread[:, chosen].mean(axis=1), atol=1e-6)
