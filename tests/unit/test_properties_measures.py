"""Measures of generated vectors, heads and curves equal their definitions written out, and verdicts follow from intervals alone."""

import math
from itertools import combinations, permutations

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sinkorigin.claims import tests as claim_tests
from sinkorigin.claims.over_models import random_effects
from sinkorigin.claims.tests import ALPHA, CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED, decide
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.effects import effect_size, ends_among, estimated
from sinkorigin.statistics.keys import cosine, cosine_between, first_right_singular_vector, permutation_p
from sinkorigin.statistics.layer_permutations import layer_orders
from sinkorigin.statistics.pretraining_comparison import tokens_to_reach
from sinkorigin.statistics.super_neurons import is_super_neuron, norm_without, shares_of_output
from sinkorigin.statistics.variance_through_output import group_order, half_weights

eighths = st.integers(-80, 80).map(lambda number: number / 8)
sides = st.sampled_from(["above", "below", "within"])


# ---- vectors


@given(st.data(), st.integers(2, 7), st.integers(1, 4))
def test_the_mean_cosine_between_sequences_is_that_of_all_pairs(data, number, width):
    keys = data.draw(arrays(np.float64, (number, width), elements=eighths).filter(lambda k: k.any(axis=1).all()))
    drawn = data.draw(
        arrays(np.int64, (2, number), elements=st.integers(0, 3)).filter(lambda w: (w > 0).sum(axis=1).min() > 1)
    )
    weights = np.concatenate([np.full((1, number), 1 / number), drawn / drawn.sum(axis=1, keepdims=True)])
    for row, found in zip(weights, cosine_between(keys, weights), strict=True):
        above = below = 0.0
        for i, j in permutations(range(number), 2):
            product = keys[i] @ keys[j] / (np.linalg.norm(keys[i]) * np.linalg.norm(keys[j]))
            above, below = above + row[i] * row[j] * product, below + row[i] * row[j]
        assert found == pytest.approx(above / below, abs=1e-9)
    alone = np.zeros((1, number))
    alone[0, 0] = 1
    assert np.isnan(cosine_between(keys, alone)).all()
    np.testing.assert_allclose(
        cosine_between(keys * np.arange(1, number + 1)[:, None], weights), cosine_between(keys, weights), atol=1e-9
    )


def test_one_sequence_alone_has_no_cosine_with_another():
    keys = np.array([[0.125, 0.125], [0.0, 0.125]])  # whose norms are not 1 to the last bit
    assert np.isnan(cosine_between(keys, np.array([[1.0, 0.0]]))).all()


@given(arrays(np.float64, (2, 3, 4), elements=eighths), st.integers(1, 5))
def test_a_cosine_has_no_length_and_its_sign_follows_the_vectors(vectors, scale):
    left, right = vectors
    for found, a, b in zip(cosine(left, right), left, right, strict=True):
        if not a.any() or not b.any():
            assert math.isnan(found)
        else:
            assert found == pytest.approx(
                math.fsum(a * b) / (math.sqrt(math.fsum(a * a)) * math.sqrt(math.fsum(b * b))), abs=1e-12
            )
            assert abs(found) <= 1 + 1e-12
    np.testing.assert_allclose(cosine(scale * left, -right), -cosine(left, right), atol=1e-12)


@given(arrays(np.float64, (5, 3), elements=eighths))
def test_the_first_right_singular_vector_is_where_rows_are_longest(rows):
    vector = first_right_singular_vector(rows.T @ rows)
    assert np.linalg.norm(vector) == pytest.approx(1)
    assert np.linalg.norm(rows @ vector) == pytest.approx(np.linalg.norm(rows, ord=2), abs=1e-6)


@given(st.data(), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_shares_of_an_output_and_norms_without_a_neuron_are_those_of_its_vectors(data, sequences, neurons, width):
    activation = data.draw(arrays(np.float64, (sequences, neurons), elements=eighths))
    down = data.draw(arrays(np.float64, (neurons, width), elements=eighths))
    residual = data.draw(arrays(np.float64, (sequences, width), elements=eighths))
    output = activation @ down
    shares = shares_of_output(activation, output @ down.T, np.linalg.norm(output, axis=1))
    without = norm_without(
        np.linalg.norm(residual, axis=1), activation, residual @ down.T, np.linalg.norm(down, axis=1)
    )
    for n in range(sequences):
        written = [activation[n, m] * down[m] for m in range(neurons)]
        for m in range(neurons):
            assert without[n, m] == pytest.approx(np.linalg.norm(residual[n] - written[m]), abs=1e-5)
            if np.linalg.norm(output[n]) > 1e-6:
                assert shares[n, m] == pytest.approx(
                    written[m] @ output[n] / (output[n] @ output[n]), rel=1e-6, abs=1e-9
                )
        if np.linalg.norm(output[n]) > 1e-6:
            assert shares[n].sum() == pytest.approx(1)


@given(arrays(np.float64, (2, 5), elements=st.sampled_from([0.0, 0.1, 0.2, 5.0, 10.0, np.nan])))
def test_a_super_neuron_passes_both_thresholds(values):
    share_low, ratio = values
    expected = [bool(a >= 0.1 and b >= 5) for a, b in zip(share_low, ratio, strict=True)]
    assert is_super_neuron(share_low, ratio, share=0.1, ratio=5).tolist() == expected


# ---- heads


@given(st.data(), st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_a_p_value_of_aligned_heads_counts_the_orders_of_layers(data, heads_by_layer):
    layer = np.repeat(np.arange(len(heads_by_layer)), heads_by_layer)
    alignment = data.draw(arrays(np.float64, len(layer), elements=st.sampled_from([0.1, 0.5, 0.9, np.nan])))
    positive = data.draw(arrays(np.bool_, len(layer)))
    found = permutation_p(alignment, 0.5, positive, layer_orders(layer, 0))
    aligned, others = np.flatnonzero(alignment > 0.5), np.flatnonzero(alignment <= 0.5)
    if not len(aligned) or not len(others):
        assert found is None
        return
    blocks = np.split(positive, np.cumsum(heads_by_layer)[:-1])
    contrasts = []
    for order in permutations(blocks):
        now = np.concatenate(order).astype(float)
        contrasts.append(abs(now[aligned].mean() - now[others].mean()))
    assert found == pytest.approx(np.mean([one >= contrasts[0] - 1e-9 for one in contrasts]))


# ---- halves


@given(st.lists(st.integers(0, 20), min_size=2, max_size=16), st.integers(0, 3))
def test_halves_have_every_second_cluster_and_draw_from_it_alone(members, seed):
    resampling = Resampling(5, seed, tuple(members))
    weights = half_weights(resampling, len(members))
    distinct = sorted(set(members))
    number = [distinct.index(one) for one in members]
    assert weights.shape == (2, 1 + (0 if resampling.too_few else 5), len(members))
    for half, rows in enumerate(weights):
        chosen = [place for place, one in enumerate(number) if one % 2 == half]
        if not chosen:
            assert not rows.any()
            continue
        np.testing.assert_allclose(rows.sum(axis=1), 1)
        assert not np.delete(rows, chosen, axis=1).any()
        np.testing.assert_allclose(rows[0, chosen], 1 / len(chosen))
        clusters = sorted({number[place] for place in chosen})
        rng = np.random.default_rng(seed + half)
        drawn = rng.multinomial(len(clusters), [1 / len(clusters)] * len(clusters), size=len(rows) - 1)
        for row, times in zip(rows[1:], drawn, strict=True):
            expected = np.array([times[clusters.index(number[place])] for place in chosen], dtype=float)
            np.testing.assert_allclose(row[chosen], expected / expected.sum(), atol=1e-12)


@given(arrays(np.float64, (6, 3, 4), elements=eighths))
def test_orders_of_halves_are_crossed(curves):
    def tau(left, right):
        return np.mean(
            [np.sign(a - b) * np.sign(c - d) for (a, c), (b, d) in combinations(zip(left, right, strict=True), 2)]
        )

    before, after = curves[:2], curves[2:4]
    whole, crossed = group_order(curves[4], curves[5], before, after)
    np.testing.assert_allclose(whole, [tau(a, b) for a, b in zip(curves[4], curves[5], strict=True)], atol=1e-12)
    expected = [(tau(before[0][r], after[1][r]) + tau(before[1][r], after[0][r])) / 2 for r in range(3)]
    np.testing.assert_allclose(crossed, expected, atol=1e-12)


# ---- curves and effects


@given(
    st.lists(st.tuples(st.integers(1, 40), eighths), min_size=1, max_size=8, unique_by=lambda point: point[0]).map(
        sorted
    ),
    eighths,
)
def test_a_loss_is_reached_where_the_line_between_points_first_has_it(points, loss):
    tokens, losses = map(list, zip(*points, strict=True))
    found = tokens_to_reach(loss, tokens, losses)
    if min(losses) > loss:
        assert found is None
    elif losses[0] <= loss:
        assert found == tokens[0]
    else:
        assert np.interp(found, tokens, losses) == pytest.approx(loss, abs=1e-9)
        earlier = np.linspace(tokens[0], found, 50)[:-1]
        assert (np.interp(earlier, tokens, losses) > loss - 1e-9).all()


@given(arrays(np.float64, st.integers(2, 9), elements=eighths), st.integers(1, 5), st.data())
def test_an_effect_size_is_the_mean_over_the_deviation_and_has_no_unit(difference, scale, data):
    [found] = effect_size(difference)
    if len(set(difference)) == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(difference.mean() / difference.std(ddof=1), rel=1e-6, abs=1e-9)
        assert effect_size(-scale * difference)[0] == pytest.approx(-found, rel=1e-6, abs=1e-9)
    number = len(difference)
    drawn = data.draw(arrays(np.int64, number, elements=st.integers(0, 2)))
    drawn[0] += number - drawn.sum()
    assume(drawn[0] >= 0)
    again = np.repeat(difference, drawn)
    [replicate] = effect_size(difference, drawn[None] / number)
    if again.std() > 1e-3:
        assert replicate == pytest.approx(again.mean() / again.std(ddof=1), rel=1e-6, abs=1e-9)


@given(arrays(np.float64, st.integers(2, 40), elements=eighths), st.integers(1, 20))
def test_intervals_among_several_are_those_of_bonferroni(samples, count):
    columns = estimated("x", samples[0], samples, Resampling(len(samples), 0))
    assert list(columns.values()) == pytest.approx([samples[0], *np.percentile(samples, [2.5, 97.5])])
    together = ends_among(count, "x", samples, Resampling(len(samples), 0))
    assert list(together.values()) == pytest.approx(list(np.percentile(samples, [2.5 / count, 100 - 2.5 / count])))
    assert list(together) == ["x_low_all", "x_high_all"]


# ---- verdicts


def a_test(side, threshold):
    return claim_tests.Test("quantity", side, threshold, why="a reason", contradicted_by="the opposite")


def holds(side, threshold, value):
    return {"above": value > threshold, "below": value < threshold, "within": -threshold < value < threshold}[side]


@given(sides, st.integers(0, 8), st.lists(st.integers(-12, 12), min_size=2, max_size=2).map(sorted))
def test_a_verdict_is_what_all_of_the_interval_says(side, threshold, ends):
    low, high = ends
    inside = [holds(side, threshold, low + (high - low) * step / 64) for step in range(65)]
    found = a_test(side, float(threshold)).verdict(float(low), float(high))
    outside_on_one_side = side != "within" or high <= -threshold or low >= threshold
    expected = REPRODUCED if all(inside) else CONTRADICTED if not any(inside) and outside_on_one_side else UNDECIDED
    assert found == expected
    for missing in (None, math.nan, math.inf):
        assert a_test(side, float(threshold)).verdict(float(low), missing) == UNDECIDED
        assert a_test(side, float(threshold)).verdict(missing, float(high)) == UNDECIDED


@given(sides, st.integers(1, 40).map(lambda n: n / 8), eighths, st.integers(1, 40).map(lambda n: n / 8))
def test_a_p_value_and_a_verdict_of_a_symmetric_interval_agree(side, threshold, value, half):
    test, low, high = a_test(side, threshold), value - half, value + half
    p = test.p(value, low, high)
    edge = threshold if side != "within" else math.copysign(threshold, value)
    assert p == pytest.approx(
        2 * scipy.stats.norm.sf(abs(value - edge) / (half / scipy.stats.norm.ppf(0.975))), rel=1e-4
    )
    assume(min(abs(end - place) for end in (low, high) for place in (threshold, -threshold)) > 1e-9)
    if test.verdict(low, high) == REPRODUCED or (side != "within" and test.verdict(low, high) == CONTRADICTED):
        assert p < ALPHA + 1e-6
    elif side != "within":
        assert p > ALPHA - 1e-6
    more = test.more_needed(value, low, high)
    if value == edge:
        assert more is None
    elif p > 0:  # with so many times the sequences the interval's end is on the threshold
        assert half / math.sqrt(more) == pytest.approx(abs(value - edge), rel=1e-4)
        assert (more > 1) == (p > ALPHA) or abs(p - ALPHA) < 1e-6
    assert test.p(value, value, value) == (1.0 if value == edge else 0.0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([REPRODUCED, CONTRADICTED, UNDECIDED, NOT_APPLICABLE]),
            st.one_of(st.none(), st.floats(0, 0.2)),
        ),
        max_size=6,
    )
)
def test_a_family_keeps_the_verdicts_that_bonferronis_closure_leaves(members):
    verdicts, p_values = [verdict for verdict, _ in members], [p for _, p in members]
    kept, adjusted = decide(verdicts, p_values)
    there = [number for number, p in enumerate(p_values) if p is not None]
    for number, (verdict, p) in enumerate(members):
        if p is None:
            assert (kept[number], adjusted[number]) == (verdict, None)
            continue
        sets = [some for size in range(1, len(there) + 1) for some in combinations(there, size) if number in some]
        closed = max(min(1.0, len(some) * min(p_values[i] for i in some)) for some in sets)
        assert adjusted[number] == pytest.approx(closed, rel=1e-12)
        decided = verdict in (REPRODUCED, CONTRADICTED)
        assert kept[number] == (UNDECIDED if decided and closed >= ALPHA else verdict)


@given(
    st.lists(st.tuples(eighths, st.integers(1, 24).map(lambda n: n / 8)), min_size=2, max_size=7),
    st.integers(1, 4),
    eighths,
)
def test_random_effects_weigh_models_by_their_errors_and_what_is_between_them(models, scale, shift):
    effects, errors = (np.array(part) for part in zip(*models, strict=True))
    found = random_effects(effects, errors)
    weights = [1 / error**2 for error in errors]
    common = math.fsum(w * x for w, x in zip(weights, effects, strict=True)) / math.fsum(weights)
    q = math.fsum(w * (x - common) ** 2 for w, x in zip(weights, effects, strict=True))
    degrees = len(models) - 1
    between = max(0.0, (q - degrees) / (math.fsum(weights) - math.fsum(w * w for w in weights) / math.fsum(weights)))
    again = [1 / (error**2 + between) for error in errors]
    estimate = math.fsum(w * x for w, x in zip(again, effects, strict=True)) / math.fsum(again)
    knapp = max(1, math.fsum(w * (x - estimate) ** 2 for w, x in zip(again, effects, strict=True)) / degrees)
    half = scipy.stats.t.ppf(0.975, degrees) * math.sqrt(knapp / math.fsum(again))
    assert (found["estimate"], found["low"], found["high"]) == pytest.approx(
        (estimate, estimate - half, estimate + half), rel=1e-6, abs=1e-9
    )
    assert (found["between"], found["q"]) == pytest.approx((math.sqrt(between), q), rel=1e-6, abs=1e-9)
    assert found["q_p"] == pytest.approx(1 - scipy.stats.chi2.cdf(q, degrees), abs=1e-9)
    assert found["i_squared"] == pytest.approx(max(0.0, (q - degrees) / q) if q > 1e-12 else 0.0, abs=1e-9)
    moved = random_effects(effects * scale + shift, errors * scale)
    assert moved["estimate"] == pytest.approx(estimate * scale + shift, rel=1e-6, abs=1e-6)
    assert moved["between"] == pytest.approx(math.sqrt(between) * scale, rel=1e-6, abs=1e-6)
    assert moved["i_squared"] == pytest.approx(found["i_squared"], abs=1e-6)
