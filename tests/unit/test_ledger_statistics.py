"""Independent NumPy and SciPy versions of the statistics that primary tests are made of, written from their definitions."""

from itertools import pairwise, permutations

import numpy as np
import polars as pl
import pytest
from scipy import optimize, stats

from ledger_simulations import LENGTH, TARGET, effect, scores
from sinkorigin.statistics import conversions, curve_contrasts, keys, mediation
from sinkorigin.statistics.binomial import tango_interval, two_sided_p
from sinkorigin.statistics.bootstrap import (
    Resampling,
    ratio_interval,
    resamples,
    simultaneous_widths,
    studentised_interval,
    students_interval,
)
from sinkorigin.statistics.kendall import order_interval
from sinkorigin.statistics.layer_permutations import PERMUTATIONS, layer_orders
from sinkorigin.statistics.moments import ReplicatedMoments
from sinkorigin.statistics.uniform import uniform_score
from sinkorigin.statistics.variance import first_to_highest, largest_rise, last_to_second
from sinkorigin.statistics.variance_through_output import group_order, half_weights
from sinkorigin.tables import write_table

REPLICATES = 120
ONE_BY_ONE = Resampling(REPLICATES, seed=0)


def rng():
    return np.random.default_rng(5)


def drawn(sequences: int, replicates: int = REPLICATES, seed: int = 0) -> list[np.ndarray]:
    """Numbers of the sequences in each replicate."""
    counts = np.rint(resamples(sequences, replicates, seed) * sequences).astype(int)
    return [np.repeat(np.arange(sequences), row) for row in counts]


def slow_tango(b: int, c: int, n: int) -> tuple[float, float]:
    """Ends of the set of differences whose score is at most the normal quantile, the nuisance parameter by numerical maximisation."""

    def score(delta):
        def loss(q):
            terms = ((b, q + delta), (c, q), (n - b - c, 1 - 2 * q - delta))
            return -sum(count * np.log(p) for count, p in terms if count)

        below, above = max(0.0, -delta), (1 - delta) / 2
        inside = optimize.minimize_scalar(loss, bounds=(below, above), method="bounded", options={"xatol": 1e-13})
        with np.errstate(divide="ignore"):
            q = min((below + 1e-15, above - 1e-15, inside.x), key=loss)
        return (b - c - n * delta) / np.sqrt(n * (2 * q + delta - delta**2))

    estimate, z = (b - c) / n, stats.norm.ppf(0.975)
    ends = []
    for sign, edge in ((1, -1 + 1e-9), (-1, 1 - 1e-9)):
        at = lambda delta, sign=sign: score(delta) - sign * z  # noqa: E731
        start = estimate - sign * 1e-9
        ends.append(
            optimize.brentq(at, *sorted((edge, start)), xtol=1e-12)
            if at(edge) * at(start) < 0
            else float(np.sign(edge))
        )
    return tuple(ends)


@pytest.mark.parametrize(("b", "c", "n"), [(12, 2, 44), (5, 9, 24), (30, 0, 64), (0, 3, 24), (1, 1, 64), (20, 4, 24)])
def test_the_score_interval_of_paired_shares_equals_a_search(b, c, n):
    np.testing.assert_allclose(tango_interval(b, c, n), slow_tango(b, c, n), atol=1e-5)


def test_equal_shares_that_no_sequence_tells_apart_have_an_interval_all_the_same():
    low, high = tango_interval(0, 0, 64)
    z2 = stats.norm.ppf(0.975) ** 2  # with b = c = 0 the maximum is at q = 0 for δ > 0: N δ / √(N δ (1 − δ)) = z
    np.testing.assert_allclose([-low, high], z2 / (64 + z2), atol=1e-6)


@pytest.mark.parametrize(("count", "n", "share"), [(3, 5, 0.2), (0, 5, 0.2), (5, 5, 0.2), (32, 64, 0.5), (10, 64, 0.5)])
def test_the_p_of_a_share_is_twice_the_smaller_tail(count, n, share):
    tails = [stats.binomtest(count, n, share, alternative=side).pvalue for side in ("greater", "less")]
    np.testing.assert_allclose(two_sided_p(count, n, share), min(1.0, 2 * min(tails)), atol=1e-9)


def slow_studentised(values: np.ndarray, replicates: int = REPLICATES) -> tuple[float, float]:
    mean, error = values.mean(), stats.sem(values)
    statistics = [
        (values[rows].mean() - mean) / (values[rows].std() / np.sqrt(len(rows) - 1))
        for rows in drawn(len(values), replicates)
    ]
    low, high = np.percentile(statistics, [2.5, 97.5])
    student = stats.t.interval(0.95, len(values) - 1, mean, error)
    return min(mean - high * error, student[0]), max(mean - low * error, student[1])


@pytest.mark.parametrize("values", [rng().lognormal(size=24), rng().normal(size=40), scores(rng(), 64)])
def test_a_studentised_interval_equals_a_loop_over_resamples(values):
    np.testing.assert_allclose(studentised_interval(values, ONE_BY_ONE), slow_studentised(values), atol=1e-5)
    np.testing.assert_allclose(
        students_interval(values, np.arange(len(values))),
        stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values)),
    )


def test_an_interval_with_its_support_is_students_with_two_values_more():
    values = np.array([0.0] * 60 + [0.5, -0.3, 0.5, 0.5])
    more = np.append(values, [-1, 1])
    expected = stats.t.interval(0.95, 65, more.mean(), stats.sem(more))
    np.testing.assert_allclose(studentised_interval(values, ONE_BY_ONE, support=(-1, 1)), expected, atol=1e-9)
    low, high = studentised_interval(np.zeros(64), ONE_BY_ONE, support=(-1, 1))
    assert -0.06 < low < 0 < high < 0.06  # nothing seen in 64 sequences is not nothing
    low, high = studentised_interval(np.ones(64), ONE_BY_ONE, support=(-1, 1))
    assert 0.9 < low < 1 and high == 1


def test_an_interval_of_a_ratio_is_that_of_its_linear_part():
    below = rng().lognormal(3, 0.5, 30)
    above = below * rng().beta(5, 5, 30)
    ratio = above.mean() / below.mean()
    linear = ratio + (above - ratio * below) / below.mean()
    np.testing.assert_allclose(ratio_interval(above, below, ONE_BY_ONE), slow_studentised(linear), atol=1e-9)


@pytest.mark.parametrize("sequences", [24, 64])
def test_intervals_cover_the_mean_and_the_share_of_scores_that_are_nearly_all_or_nothing(sequences):
    """Of the study's kind: mean .117 and median .042 at λ = 4."""
    generator = np.random.default_rng(1)
    many = scores(generator, 200_000, 0.48)
    assert abs(many.mean() - 0.117) < 0.01 and abs(np.median(many) - 0.042) < 0.02
    covered = []
    for _ in range(300):
        values = scores(generator, sequences, 0.48)
        through = values * (generator.random(sequences) < 0.6)
        low, high = studentised_interval(values, Resampling(200, seed=0))
        below, above = ratio_interval(through, values, Resampling(200, seed=0))
        covered.append((low <= many.mean() <= high, below <= 0.6 <= above))
    assert (np.mean(covered, axis=0) > 0.925).all(), np.mean(covered, axis=0)


def test_replicates_of_clusters_are_means_over_whole_clusters():
    """Nine clusters: with fewer than eight there is no interval."""
    clusters = np.repeat([3, 7, 9, 11, 12, 13, 14, 20, 21], [2, 3, 1, 1, 2, 1, 4, 1, 1])
    values, names = rng().normal(size=16), np.unique(clusters)
    expected = [np.concatenate([values[clusters == names[one]] for one in rows]).mean() for rows in drawn(9)]
    resampling = Resampling(REPLICATES, 0, tuple(clusters.tolist()))
    np.testing.assert_allclose(resampling.weights(16) @ values, expected, atol=1e-12)
    # the standard error over clusters is in both ends
    left = np.array([(values[clusters == name] - values.mean()).sum() for name in names])
    error = np.sqrt(9 / 8 * np.square(left).sum()) / 16
    low, high = studentised_interval(values, resampling)
    student = stats.t.interval(0.95, 8, values.mean(), error)
    assert low <= student[0] + 1e-12 and high >= student[1] - 1e-12
    few = Resampling(REPLICATES, 0, (0, 0, 1, 1, 2, 2))
    assert (
        np.isnan(studentised_interval(values[:6], few)).all()
        and np.isnan(studentised_interval(values[:6], few, support=(-1, 1))).all()
    )
    replicated = few.means(np.exp(values[:6, None] + np.zeros(3)))
    assert np.isnan(largest_rise(replicated, np.array([0, 1, 2]), few, 6)[1:]).all()


# ---- curves of variances

POSITIONS = np.array([0, 1, 2, 3, 5, 8, 9, 16])
GROUPS = [[0], [1], [2, 3], [4], [5, 6], [7]]  # places of 0, 1, 2-3, 4-7, 8-15, 16-31


def curve(sequences: int = 20, width: int = 5):
    """Vectors, the variances that the library makes of them, and those of every resample by NumPy's own variance."""
    x = rng().normal(size=(sequences, len(POSITIONS), width)) * np.linspace(2, 1, len(POSITIONS))[:, None]
    moments = ReplicatedMoments(ONE_BY_ONE.weights_with_data(sequences))
    moments.add(x)
    slow = [x.var(axis=0, ddof=1).mean(axis=-1)]
    slow += [x[rows].var(axis=0).mean(axis=-1) * sequences / (sequences - 1) for rows in drawn(sequences)]
    return moments.variance(), np.array(slow)


def slow_widths(samples: np.ndarray, sequences: int) -> np.ndarray:
    error = samples[1:].std(axis=0)
    largest = [max(abs(row - samples[0]) / error) for row in samples[1:]]
    student = -stats.t.ppf(stats.norm.cdf(-np.quantile(largest, 0.95)), sequences - 1)
    return student * error * np.sqrt(sequences / (sequences - 1))


def test_ratios_of_a_curve_and_their_simultaneous_intervals_equal_loops():
    replicated, slow = curve()
    np.testing.assert_allclose(replicated, slow, rtol=1e-5)
    logs = np.log(slow)
    to_others = np.stack([logs[:, 0] - logs[:, place] for place in range(1, len(POSITIONS))], axis=1)
    width = slow_widths(to_others, 20)
    expected = np.exp([min(to_others[0]), min(to_others[0] - width), min(to_others[0] + width)])
    np.testing.assert_allclose(first_to_highest(replicated, POSITIONS, ONE_BY_ONE, 20), expected, rtol=1e-5)

    means = np.log(np.stack([slow[:, group].mean(axis=1) for group in GROUPS], axis=1))
    pairs = [(i, j) for j in range(len(GROUPS)) for i in range(j)]
    rises = np.stack([means[:, j] - means[:, i] for i, j in pairs], axis=1)
    width = slow_widths(rises, 20)
    expected = np.exp([max(rises[0]), max(rises[0] - width), max(rises[0] + width)])
    np.testing.assert_allclose(largest_rise(replicated, POSITIONS, ONE_BY_ONE, 20), expected, rtol=1e-5)

    fall = means[:, [-1]] - means[:, [1]]
    [width] = slow_widths(fall, 20)
    expected = np.exp([fall[0, 0], fall[0, 0] - width, fall[0, 0] + width])
    np.testing.assert_allclose(last_to_second(replicated, POSITIONS, ONE_BY_ONE, 20), expected, rtol=1e-5)


def test_a_quantity_that_does_not_vary_has_no_width():
    samples = np.column_stack([np.full(50, 2.0), rng().normal(size=50)])
    widths = simultaneous_widths(samples, ONE_BY_ONE, 20)
    assert widths[0] == 0 and widths[1] > 0
    assert (simultaneous_widths(np.ones((50, 3)), ONE_BY_ONE, 20) == 0).all()


def test_ratios_of_a_curve_with_too_few_positions_are_not_defined():
    ones = np.ones((10, 3))
    assert np.isnan(first_to_highest(ones, np.array([1, 2, 3]), ONE_BY_ONE, 8)).all()
    assert np.isnan(largest_rise(ones[:, :1], np.array([0]), ONE_BY_ONE, 8)).all()
    assert np.isnan(last_to_second(ones[:, :2], np.array([0, 1]), ONE_BY_ONE, 8)).all()
    assert np.isnan(largest_rise(np.full((10, 3), np.nan), np.array([0, 1, 2]), ONE_BY_ONE, 8)).all()


def slow_tau(left, right) -> float:
    signs = [np.sign(left[i] - left[j]) * np.sign(right[i] - right[j]) for i in range(len(left)) for j in range(i)]
    return float(np.mean(signs))


def test_the_order_of_groups_is_compared_between_halves_of_the_sequences():
    weights = half_weights(Resampling(30, seed=0), 9)
    assert weights.shape == (2, 31, 9)
    np.testing.assert_allclose(weights.sum(axis=2), 1)
    np.testing.assert_allclose(weights[0, 0], np.arange(9) % 2 == 0, atol=0.81)
    assert (weights[0][:, 1::2] == 0).all() and (weights[1][:, ::2] == 0).all()
    whole = rng().normal(size=(2, 31, 5))
    halves = rng().normal(size=(2, 2, 31, 5))  # before, after; half
    orders = group_order(*whole, *halves)
    for row in range(31):
        np.testing.assert_allclose(orders[0, row], slow_tau(whole[0, row], whole[1, row]))
        crossed = slow_tau(halves[0, 0, row], halves[1, 1, row]) + slow_tau(halves[0, 1, row], halves[1, 0, row])
        np.testing.assert_allclose(orders[1, row], crossed / 2)
    value, low, high = order_interval(orders, ONE_BY_ONE)
    ends = [
        np.percentile(part[1:], end) + move
        for part in orders
        for end in (2.5, 97.5)
        for move in (0, part[0] - part[1:].mean())
    ]
    np.testing.assert_allclose(
        [value, low, high], [orders[0, 0], max(min(*ends, value), -1), min(max(*ends, value), 1)]
    )


# ---- heads


def test_aligned_heads_equal_counts_and_every_permutation_of_layers():
    generator = rng()
    layer = np.repeat([0, 1, 2, 3], [3, 2, 3, 2])
    alignment, positive, mass = generator.random((3, 1 + REPLICATES, 10))
    alignment[:, :2] = 0.1, 0.9  # neither group is ever empty
    alignment[0, 4] = np.nan  # a head without keys
    rows = {
        (row["alignment"], row["positive_ratio"]): row
        for row in keys.aligned_heads(alignment, positive, mass, layer, ONE_BY_ONE)
    }
    assert len(rows) == 9
    for (threshold, least), row in rows.items():
        aligned, others = alignment[0] > threshold, alignment[0] <= threshold
        assert (row["aligned"], row["others"]) == (aligned.sum(), others.sum())
        does = positive[0] >= least
        difference = does[aligned].mean() - does[others].mean()
        np.testing.assert_allclose(row["difference"], difference, atol=1e-12)
        np.testing.assert_allclose(row["mass_difference"], mass[0][aligned].mean() - mass[0][others].mean())
        replicated = [
            (p[a > threshold] >= least).mean() - (p[a <= threshold] >= least).mean()
            for a, p in zip(alignment[1:], positive[1:], strict=True)
        ]
        low, high = np.percentile(replicated, [2.5, 97.5])
        ends = [min(low, difference), max(high, difference)]
        np.testing.assert_allclose([row["difference_low"], row["difference_high"]], ends, atol=1e-9)
        extreme = 0
        for order in permutations(range(4)):
            moved = np.concatenate([does[layer == one] for one in order])
            extreme += abs(moved[aligned].mean() - moved[others].mean()) >= abs(difference) - 1e-12
        np.testing.assert_allclose(row["p"], extreme / 24)


def test_layers_are_permuted_whole_and_the_order_itself_is_the_first():
    layer = np.repeat(np.arange(30), 4)
    orders = layer_orders(layer, 0)
    assert orders.shape == (1 + PERMUTATIONS, 120) and (orders[0] == np.arange(120)).all()
    for order in orders[1:5]:
        blocks = order.reshape(30, 4)
        assert (
            (np.diff(blocks, axis=1) == 1).all() and (blocks[:, 0] % 4 == 0).all() and sorted(order) == list(range(120))
        )
    assert keys.permutation_p(np.ones(120), 0.5, np.ones(120, bool), orders) is None


# ---- conversions and curves of strengths


def test_conversions_and_losses_are_counted_by_factor():
    unedited, seen = scores(rng(), 40, 0.3) * 1.5, scores(np.random.default_rng(9), 40, 0.6) * 1.5
    [two, three, five] = conversions.rows([effect("mask", seen, unedited)])
    for row, factor in ((two, 2.0), (three, 3.0), (five, 5.0)):
        threshold = factor * np.mean([1 / (q + 1) for q in range(TARGET + 1, LENGTH)])
        before, after = unedited > threshold, seen > threshold
        assert (row["factor"], row["before"], row["converted"]) == (factor, before.sum(), (after & ~before).sum())
        np.testing.assert_allclose(row["threshold"], threshold)
        exact = stats.binomtest(int((after & ~before).sum()), 40).proportion_ci(method="exact")
        np.testing.assert_allclose(
            [row["share"], row["share_low"], row["share_high"]],
            [(after & ~before).mean(), exact.low, exact.high],
            atol=1e-9,
        )
        lost = int((before & ~after).sum())
        assert row["lost"] == lost and lost
        np.testing.assert_allclose(row["lost_share"], lost / before.sum())
    [none, *_] = conversions.rows([effect("mask", seen, np.zeros(40))])
    assert none["before"] == 0 and none["lost_share"] is none["lost_share_low"] is None


def test_curve_contrasts_are_areas_over_the_logarithm_of_the_strength():
    generator = rng()
    strengths, unedited = [2.0, 4.0, 16.0], scores(generator, 30, 0.1)
    treated, held = (
        [scores(generator, 30, share) * 2 for share in shares] for shares in ((0.1, 0.4, 0.6), (0.1, 0.2, 0.1))
    )
    at_one = unedited + 0.01 * generator.normal(size=30)
    edits = [
        effect("variance_amplification", s, unedited, strength) for s, strength in zip(treated, strengths, strict=True)
    ]
    edits += [
        effect("shuffled_deviations", s, unedited, strength)
        for s, strength in zip([at_one, *held], [1.0, *strengths], strict=True)
    ]
    [row] = curve_contrasts.rows(edits)
    assert row["strengths"] == [1, 2, 4, 16] and row["sequences"] == 30
    x = np.log([1, 2, 4, 16])
    threshold = 3 * uniform_score(TARGET, LENGTH)

    def area(first, others):
        curve = np.stack([first, *others])  # (strengths, N)
        return sum(
            (b - a) * (left + right) / 2 for (a, b), (left, right) in zip(pairwise(x), pairwise(curve), strict=True)
        ) / np.log(16)

    by_sequence = area(unedited, treated) - area(at_one, held)
    np.testing.assert_allclose(row["area"], by_sequence.mean(), atol=1e-12)
    np.testing.assert_allclose([row["area_low"], row["area_high"]], slow_studentised(by_sequence), atol=1e-9)
    becomes = lambda s: ((s > threshold) & (unedited <= threshold)).astype(float)  # noqa: E731
    converted = area(becomes(unedited), map(becomes, treated)) - area(becomes(at_one), map(becomes, held))
    np.testing.assert_allclose(row["converted_area"], converted.mean(), atol=1e-12)
    ever, control_ever = (np.any([becomes(s) > 0 for s in some], axis=0) for some in (treated, [at_one, *held]))
    assert (row["ever"], row["control_ever"]) == (ever.sum(), control_ever.sum())
    only = [int((ever & ~control_ever).sum()), int((control_ever & ~ever).sum())]
    np.testing.assert_allclose(row["ever_p"], stats.binomtest(min(only), sum(only), 0.5).pvalue)
    np.testing.assert_allclose(row["swap"], (at_one - unedited).mean(), atol=1e-12)


# ---- mediation and removals


def passes(cause, places, sequences=25, factor=1.0):
    """Rows of patched passes with scores of their own."""
    generator = rng()
    rows = []
    for direction, mediator, control_of in places:
        share = {"none": 0.1, "all": 0.8}.get(direction, 0.45)
        columns = [scores(generator, sequences, share) * factor for _ in range(3)]
        for number, (score, first, second) in enumerate(zip(*columns, strict=True)):
            rows.append(
                {
                    "cause": cause,
                    "kind": cause,
                    "strength": 1.0,
                    "layers": [0, 1],
                    "target": TARGET,
                    "mediator": mediator,
                    "mediator_layers": [1],
                    "direction": direction,
                    "control_of": control_of,
                    "sequence": number,
                    "score": score,
                    "first_score": first,
                    "second_score": second,
                }
            )
    return pl.DataFrame(rows, infer_schema_length=None)


def computed(tmp_path, frame, name):
    frame = frame.sample(fraction=1, shuffle=True, seed=0)  # the order of the rows means nothing
    write_table(
        tmp_path / "passes.parquet", frame.select(mediation.PASSES_SCHEMA.names).to_arrow(), mediation.PASSES_SCHEMA
    )
    inputs = {"passes": str(tmp_path / "passes.parquet")}
    found = mediation.compute(inputs, model="m", prompts="p", length=LENGTH, resampling=ONE_BY_ONE)
    return pl.DataFrame(found[name])


def column(frame, name, **where):
    return frame.filter(**where).sort("sequence")[name].cast(pl.Float32).cast(pl.Float64).to_numpy()


def test_shares_through_a_link_are_ratios_of_mean_effects(tmp_path):
    places = [
        ("none", None, None),
        ("all", None, None),
        *((way, link, None) for link in ("key", "o") for way in ("restored", "inserted")),
    ]
    frame = passes("mask", places)
    table = computed(tmp_path, frame, "mediation")
    unedited, edited = (column(frame, "score", direction=name) for name in ("none", "all"))
    total = edited - unedited
    for direction in ("restored", "inserted"):
        for link in ("key", "o"):
            score = column(frame, "score", direction=direction, mediator=link)
            row = table.filter(direction=direction, mediator=link).row(0, named=True)
            through = edited - score if direction == "restored" else score - unedited
            np.testing.assert_allclose(row["share"], through.mean() / total.mean(), atol=1e-6)
            linear = row["share"] + (through - row["share"] * total) / total.mean()
            np.testing.assert_allclose([row["share_low"], row["share_high"]], slow_studentised(linear), atol=1e-5)
            np.testing.assert_allclose(
                [row["effect_low"], row["effect_high"]], slow_studentised(score - unedited), atol=1e-5
            )
            assert row["sinks"] == (score > 3 * uniform_score(TARGET, LENGTH)).sum()
    whole = table.filter(direction="all").row(0, named=True)
    np.testing.assert_allclose(whole["effect"], total.mean(), atol=1e-6)
    assert whole["share"] is None and whole["not_applicable"] is None


def test_an_effect_that_may_be_none_is_not_shared_out(tmp_path):
    frame = passes("mask", [("none", None, None), ("all", None, None), ("restored", "key", None)])
    edited = frame.filter(direction="all").with_columns(score=pl.col("score").shuffle(seed=3))
    same = frame.filter(direction="none").with_columns(direction=pl.lit("all"), score=edited["score"])
    unedited = frame.filter(direction="none").with_columns(score=edited["score"].shuffle(seed=1))
    row = computed(tmp_path, pl.concat([unedited, same, frame.filter(direction="restored")]), "mediation").filter(
        direction="restored"
    )
    assert row["share"].item() is None and "not distinguished" in row["not_applicable"].item()


def test_removals_are_counted_where_there_is_a_sink_to_lose_and_paired_with_each_control(tmp_path):
    places = [
        ("none", None, None),
        ("removed", "a", None),
        ("removed", "b", "a"),
        ("removed", "c", "a"),
        ("removed", "alone", None),
    ]
    frame = passes(None, places, sequences=60, factor=5.0)
    sure = (
        pl.when(pl.col("direction") == "none")
        .then(pl.col("first_score").shuffle(seed=2))
        .otherwise(pl.col("first_score"))
    )
    frame = frame.with_columns(first_score=sure)
    table = computed(tmp_path, frame, "removals")
    pairs = {("a", "b"), ("a", "c"), ("b", None), ("c", None), ("alone", None)}
    assert set(table.select("removal", "control").rows()) == pairs and len(table) == len(pairs)
    threshold, second = (3 * uniform_score(position, LENGTH) for position in (0, 1))
    unedited = column(frame, "first_score", direction="none")
    before = unedited > threshold
    under = {name: column(frame, "first_score", mediator=name) for name in "abc"}
    for row in table.filter(removal="a").to_dicts():
        lost, other = (before & (under[name] <= threshold) for name in ("a", row["control"]))
        assert (row["before"], row["lost"], row["control_lost"]) == (before.sum(), lost.sum(), other.sum())
        only = int((lost & ~other).sum()), int((other & ~lost).sum())
        np.testing.assert_allclose(row["difference"], (only[0] - only[1]) / before.sum())
        np.testing.assert_allclose(
            [row["difference_low"], row["difference_high"]], slow_tango(*only, int(before.sum())), atol=1e-5
        )
        np.testing.assert_allclose(row["p"], stats.binomtest(min(only), sum(only), 0.5).pvalue)
        gone = 1 - under["a"].mean() / unedited.mean()
        np.testing.assert_allclose(row["gone"], gone, atol=1e-6)
        linear = gone + (unedited - under["a"] - gone * unedited) / unedited.mean()
        np.testing.assert_allclose([row["gone_low"], row["gone_high"]], slow_studentised(linear), atol=1e-5)
        moved = (column(frame, "second_score", mediator="a") > second) & (
            column(frame, "second_score", direction="none") <= second
        )
        assert row["moved"] == moved.sum()
