"""Resampling and its intervals, on generated numbers and clusters, equal definitions written out sequence by sequence."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sinkorigin.statistics.bootstrap import (
    FEWEST_CLUSTERS,
    Resampling,
    first_layer_above,
    interval,
    joined,
    ratio_interval,
    resamples,
    simultaneous_interval,
    simultaneous_widths,
    studentised_interval,
    students_interval,
    totals,
)
from sinkorigin.statistics.variance import first_to_highest, largest_rise, last_to_second, position_groups

eighths = st.integers(-400, 400).map(lambda number: number / 8)
partitions = st.lists(st.integers(0, 12), min_size=1, max_size=20)
many_clusters = st.lists(st.integers(0, 40), min_size=8, max_size=24).filter(lambda members: len(set(members)) >= 8)


def draws(clusters: int, replicates: int, seed: int) -> np.ndarray:
    """(R, G) how often each cluster was drawn."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(clusters, [1 / clusters] * clusters, size=replicates)


def of_clusters(members, replicates: int = 40, seed: int = 3) -> Resampling:
    return Resampling(replicates, seed, tuple(members))


def numbered(members) -> list[int]:
    """Number of each cluster among those that there are; of each sequence where it is its own cluster."""
    if len(set(members)) == len(members):
        return list(range(len(members)))
    return [sorted(set(members)).index(one) for one in members]


def t_quantile(share: float, clusters: int) -> float:
    return float(scipy.stats.t.ppf(share, clusters - 1))


@given(many_clusters, st.integers(0, 5), st.data())
def test_a_replicate_of_a_mean_is_that_of_the_sequences_of_the_drawn_clusters(members, seed, data):
    values = data.draw(arrays(np.float64, (len(members), 2), elements=eighths))
    resampling = of_clusters(members, 6, seed)
    means = resampling.means(values)
    np.testing.assert_allclose(means[0], values.mean(axis=0), atol=1e-12)
    for drawn, found in zip(draws(len(set(members)), 6, seed), means[1:], strict=True):
        sequences = [row for row, one in zip(values, numbered(members), strict=True) for _ in range(drawn[one])]
        np.testing.assert_allclose(found, np.mean(sequences, axis=0), atol=1e-12)
    weights = resampling.weights_with_data(len(members))
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights @ values, means, atol=1e-12)


@given(st.integers(1, 20), st.integers(0, 5))
def test_independent_sequences_are_drawn_one_by_one(sequences, seed):
    expected = draws(sequences, 6, seed) / sequences
    for resampling in (Resampling(6, seed), of_clusters(range(sequences), 6, seed)):
        np.testing.assert_array_equal(resampling.weights(sequences), expected)
        assert resampling.members(sequences).tolist() == list(range(sequences))
    with pytest.raises(ValueError):
        resamples(sequences, 6, seed)[0, 0] = 1


@given(st.lists(st.one_of(st.none(), st.sampled_from("abcd")), min_size=1, max_size=8))
def test_sequences_have_clusters_where_two_come_from_one_document(documents):
    resampling = Resampling.over(5, 0, documents)
    together = [[one == other for other in documents] for one in documents]
    if None in documents or len(set(documents)) == len(documents):
        assert resampling.clusters is None
    else:
        assert [[one == other for other in resampling.clusters] for one in resampling.clusters] == together


@given(partitions)
def test_too_few_clusters_have_no_interval_and_no_replicates(members):
    resampling = of_clusters(members)
    few = len(set(members)) < min(FEWEST_CLUSTERS, len(members))
    assert (resampling.too_few is not None) == few
    assert len(resampling.weights(len(members))) == (0 if few else 40)
    values = np.arange(len(members), dtype=float)[:, None]
    assert np.isnan(simultaneous_interval(values, resampling)).all() == few
    assert (
        np.isnan(studentised_interval(values[:, 0], resampling)).all() == (few or len(members) == 1)
        or len(members) == 1
    )
    with pytest.raises(ValueError, match="take first"):
        resampling.members(len(members) + 1)


@given(partitions, st.data())
def test_the_clusters_of_some_sequences_are_those_that_they_had(members, data):
    chosen = data.draw(arrays(np.bool_, len(members)))
    resampling = of_clusters(members)
    assert resampling.among(chosen).clusters == tuple(one for one, there in zip(members, chosen, strict=True) if there)
    count = data.draw(st.integers(0, len(members)))
    assert resampling.first(count).clusters == tuple(members[:count])
    assert Resampling(1, 0).among(chosen) == Resampling(1, 0).first(count) == Resampling(1, 0)
    assert resampling.times(7) == of_clusters(members, 7)


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.lists(st.lists(st.integers(0, 8), min_size=n, max_size=n), min_size=1, max_size=3)
    )
)
def test_joined_clusters_are_the_smallest_that_hold_those_of_each(several):
    """They are the connected components of sequences that share a cluster in one of them."""
    sequences = range(len(several[0]))
    component = list(sequences)
    for _ in sequences:
        for members in several:
            for i in sequences:
                component[i] = min(component[j] for j in sequences if members[j] == members[i])
    found = joined([of_clusters(members) for members in several]).clusters
    assert [[a == b for b in found] for a in found] == [[a == b for b in component] for a in component]
    assert joined([Resampling(40, 3), of_clusters(several[0])]).clusters == tuple(several[0])
    mixed = of_clusters(several[0]).mixed(several[-1]).clusters
    pair = joined([of_clusters(several[0]), of_clusters(several[-1])]).clusters
    assert [[a == b for b in mixed] for a in mixed] == [[a == b for b in pair] for a in pair]


@given(
    arrays(np.float64, st.tuples(st.integers(0, 12), st.integers(1, 3)), elements=st.one_of(eighths, st.just(np.nan))),
    st.sampled_from(["linear", "inverted_cdf"]),
    st.floats(0.1, 0.99),
)
def test_an_interval_is_the_percentiles_of_the_replicates_that_are_numbers(samples, method, confidence):
    low, high = interval(samples, method=method, confidence=confidence)
    tail = 50 * (1 - confidence)
    for column, ends in zip(samples.T, zip(low, high, strict=True), strict=True):
        known = column[~np.isnan(column)]
        if len(known):
            expected = [np.percentile(known, share, method=method) for share in (tail, 100 - tail)]
            assert ends == pytest.approx(expected, abs=1e-9)
        else:
            assert np.isnan(ends).all()
    across = interval(samples.T, axis=1, method=method, confidence=confidence)
    np.testing.assert_array_equal(across, (low, high))
    np.testing.assert_allclose(
        interval(-samples, confidence=confidence), -np.array(interval(samples, confidence=confidence))[::-1], atol=1e-9
    )


@given(partitions, st.floats(0.5, 0.99))
def test_percentiles_are_taken_further_out_for_few_clusters(members, confidence):
    clusters = len(set(members))
    found = of_clusters(members).nominal(confidence)
    if clusters == 1:
        assert found == confidence
        return
    quantile = math.sqrt(clusters / (clusters - 1)) * t_quantile((1 + confidence) / 2, clusters)
    assert found == pytest.approx(scipy.stats.norm.cdf(quantile) - scipy.stats.norm.cdf(-quantile))
    assert found > confidence == Resampling(5, 0).nominal(confidence)
    samples = np.linspace(-1, 1, 101)[:, None]
    assert of_clusters(members).interval(samples) == interval(samples, confidence=of_clusters(members).nominal(0.95))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0, 1), st.integers(0, 3))
def test_the_first_layer_above_a_threshold_is_the_first(curve, threshold, start):
    layers = np.arange(len(curve)) * 2 + start
    after_last = int(layers[-1]) + 1
    onsets = [
        next((int(layer) for layer, value in zip(layers, row, strict=True) if value > threshold), after_last)
        for row in (curve, curve[::-1], np.sqrt(curve))
    ]
    found = first_layer_above(
        np.array(curve), np.array([curve, curve[::-1], np.sqrt(curve)]), layers, threshold, Resampling(3, 0)
    )
    assert found == (None if onsets[0] == after_last else onsets[0], min(onsets), max(onsets))
    without = first_layer_above(np.array(curve), np.empty((0, len(curve))), layers, threshold, Resampling(3, 0))
    assert without == (found[0], None, None)


def robust_error(values: np.ndarray, members) -> float:
    """Cluster-robust standard error of the mean."""
    clusters = sorted(set(members))
    left = [
        sum(value - values.mean() for value, one in zip(values, members, strict=True) if one == cluster)
        for cluster in clusters
    ]
    return math.sqrt(len(clusters) / (len(clusters) - 1) * math.fsum(total**2 for total in left)) / len(values)


@given(many_clusters, st.data(), st.integers(1, 4), eighths)
def test_students_interval_is_that_of_the_cluster_robust_error(members, data, scale, shift):
    values = data.draw(arrays(np.float64, len(members), elements=eighths))
    width = t_quantile(0.975, len(set(members))) * robust_error(values, members)
    places = np.array(numbered(members))
    found = students_interval(values, places)
    assert found == pytest.approx((values.mean() - width, values.mean() + width), abs=1e-9)
    assert students_interval(values * scale + shift, places) == pytest.approx(
        [end * scale + shift for end in found], abs=1e-9
    )
    np.testing.assert_allclose(
        totals(values, places), [values[places == one].sum() for one in range(places.max() + 1)], atol=1e-9
    )


def statistics_of_replicates(values: np.ndarray, members, replicates: int, seed: int) -> list[float]:
    """t-statistics of replicates in which values differ."""
    clusters = sorted(set(members))
    sums = [
        math.fsum(value for value, one in zip(values, members, strict=True) if one == cluster) for cluster in clusters
    ]
    sizes = [list(members).count(cluster) for cluster in clusters]
    found = []
    for drawn in draws(len(clusters), replicates, seed):
        size = sum(times * number for times, number in zip(drawn, sizes, strict=True))
        mean = sum(times * total for times, total in zip(drawn, sums, strict=True)) / size
        squares = sum(
            times * (total - mean * number) ** 2 for times, total, number in zip(drawn, sums, sizes, strict=True)
        )
        error = math.sqrt(len(clusters) / (len(clusters) - 1) * squares) / size
        if error > 1e-6:
            found.append((mean - values.mean()) / error)
    return found


@given(many_clusters, st.data(), st.sampled_from([0.8, 0.95]))
def test_a_studentised_interval_takes_the_farther_end_on_each_side(members, data, confidence):
    values = data.draw(arrays(np.float64, len(members), elements=eighths))
    found = studentised_interval(values, of_clusters(members), confidence)
    error = robust_error(values, members)
    if error < 1e-9:
        assert found == pytest.approx((values.mean(), values.mean()))
        return
    tail = 50 * (1 - confidence)
    least, largest = np.percentile(statistics_of_replicates(values, members, 40, 3), [tail, 100 - tail])
    width = t_quantile((1 + confidence) / 2, len(set(members))) * error
    mean = values.mean()
    expected = (min(mean - width, mean - largest * error), max(mean + width, mean - least * error))
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(many_clusters, st.data())
def test_an_interval_with_a_support_adds_a_sequence_at_each_end_of_it(members, data):
    values = data.draw(arrays(np.float64, len(members), elements=st.sampled_from([-1.0, 0.0, 1.0])))
    low, high = studentised_interval(values, of_clusters(members), support=(-1.0, 1.0))
    more, mean = np.append(values, [-1.0, 1.0]), values.mean()
    width = t_quantile(0.975, len(set(members)) + 2) * robust_error(more, [*members, -1, -2])
    assert low == pytest.approx(max(-1, min(mean, more.mean() - width)), abs=1e-9)
    assert high == pytest.approx(min(1, max(mean, more.mean() + width)), abs=1e-9)


@given(many_clusters, st.data(), st.integers(1, 5), st.integers(1, 5))
def test_an_interval_of_a_ratio_scales_with_both_of_its_parts(members, data, above_scale, below_scale):
    above = data.draw(arrays(np.float64, len(members), elements=eighths))
    below = data.draw(arrays(np.float64, len(members), elements=st.integers(1, 80).map(lambda number: number / 8)))
    found = ratio_interval(above, below, of_clusters(members))
    ratio = above.sum() / below.sum()
    assert found[0] <= ratio + 1e-9 and ratio - 1e-9 <= found[1]
    scaled = ratio_interval(above * above_scale, below * below_scale, of_clusters(members))
    assert scaled == pytest.approx([end * above_scale / below_scale for end in found], abs=1e-6)
    # of a constant denominator it is the interval of a mean
    one = ratio_interval(above, np.full(len(members), 4.0), of_clusters(members))
    assert one == pytest.approx(studentised_interval(above / 4, of_clusters(members)), abs=1e-9)


@given(many_clusters, st.data())
def test_simultaneous_intervals_hold_the_largest_deviation_of_95_percent_of_the_replicates(members, data):
    values = data.draw(arrays(np.float64, (len(members), 3), elements=eighths))
    values[:, 2] = 1.5  # does not vary
    resampling = of_clusters(members)
    low, high = simultaneous_interval(values, resampling)
    mean, clusters = values.mean(axis=0), len(set(members))
    assert low[2] == high[2] == 1.5
    np.testing.assert_allclose((low + high) / 2, mean, atol=1e-9)
    errors = np.array([robust_error(column, members) for column in values.T])
    varies = errors > 1e-9
    if not varies.any():
        np.testing.assert_array_equal(low, mean)
        return
    moved = [np.max(np.abs(row - mean)[varies] / errors[varies]) for row in resampling.means(values)[1:]]
    level = scipy.stats.norm.sf(np.percentile(moved, 95) * math.sqrt(clusters / (clusters - 1)))
    expected = np.where(varies, t_quantile(1 - level, clusters) * errors, 0)
    np.testing.assert_allclose(high - mean, expected, rtol=1e-6, atol=1e-9)
    swapped = simultaneous_interval(values[:, ::-1] * 2 - 1, resampling)
    np.testing.assert_allclose(swapped, np.stack([low, high])[:, ::-1] * 2 - 1, atol=1e-6)


@given(arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=eighths), many_clusters)
def test_simultaneous_widths_are_those_of_replicates(samples, members):
    resampling = of_clusters(members, len(samples) - 1)
    found = simultaneous_widths(samples, resampling, len(members))
    if len(samples) == 1:
        assert np.isnan(found).all()
        return
    errors, clusters = samples[1:].std(axis=0), len(set(members))
    varies = errors > 0
    if not varies.any():
        assert not found.any()
        return
    moved = [np.max(np.abs(row - samples[0])[varies] / errors[varies]) for row in samples[1:]]
    level = scipy.stats.norm.sf(np.percentile(moved, 95))
    assume(level > 1e-300)
    expected = t_quantile(1 - level, clusters) if level > 1e-9 else -scipy.stats.t.ppf(level, clusters - 1)
    np.testing.assert_allclose(found, expected * errors * math.sqrt(clusters / (clusters - 1)), rtol=1e-5)
    np.testing.assert_allclose(simultaneous_widths(3 * samples + 1, resampling, len(members)), 3 * found, rtol=1e-6)


@given(
    arrays(
        np.float64, st.tuples(st.integers(2, 8), st.integers(1, 9)), elements=st.integers(1, 400).map(lambda n: n / 8)
    ),
    st.integers(0, 1),
)
def test_ratios_of_a_curve_are_those_of_its_parts_and_lie_in_their_intervals(replicated, start):
    positions = np.arange(start, start + replicated.shape[1])
    curve = dict(zip(positions.tolist(), replicated[0], strict=True))
    groups = [np.mean([curve[p] for p in positions[mask]]) for mask in position_groups(positions)]
    later = [
        np.mean([curve[p] for p in positions[mask & (positions > 0)]])
        for mask in position_groups(positions)
        if (mask & (positions > 0)).any()
    ]
    expected = {
        first_to_highest: curve[0] / max(curve[p] for p in curve if p) if start == 0 and len(curve) > 1 else None,
        largest_rise: max(b / a for i, a in enumerate(groups) for b in groups[i + 1 :]) if len(groups) > 1 else None,
        last_to_second: later[-1] / later[0] if len(later) > 1 else None,
    }
    for ratio, value in expected.items():
        found, low, high = ratio(replicated, positions, Resampling(len(replicated) - 1, 0), 12)
        if value is None:
            assert np.isnan([found, low, high]).all()
        else:
            assert found == pytest.approx(value) and low <= found * (1 + 1e-9) and found <= high * (1 + 1e-9)
            np.testing.assert_allclose(
                ratio(replicated * 4, positions, Resampling(len(replicated) - 1, 0), 12), [found, low, high], rtol=1e-6
            )
            assert np.isnan(
                ratio(np.where(replicated == replicated[0, 0], np.nan, replicated), positions, Resampling(1, 0), 12)
            ).all()
