"""Intervals resample what was sampled: documents where sequences are windows of text, groups where an edit mixes sequences."""

import numpy as np
import pytest
from scipy import stats

from sinkorigin.corpora.prompts import by_turns
from sinkorigin.statistics.binomial import effective_number, exact_interval, mcnemar_p, paired_shares, share_interval
from sinkorigin.statistics.bootstrap import (
    FEWEST_CLUSTERS,
    Resampling,
    first_layer_above,
    interval,
    joined,
    resamples,
    simultaneous_interval,
    studentised_interval,
)

N = 64


def of_documents(count, replicates=200):
    """Resampling of N windows of so many documents, by turns."""
    return Resampling.over(replicates, 0, [f"play {number % count}" for number in range(N)])


def clustered(rng, count):
    """(N,) values with mean 0, half of whose variance lies between the documents."""
    return rng.normal(size=count)[np.arange(N) % count] + rng.normal(size=N)


def test_a_replicate_draws_whole_documents():
    weights = Resampling(500, 0, (0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7)).weights(11)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 2] == weights[:, 3]).all()
    drawn = resamples(8, 500, 0)  # a replicate's mean is a ratio of sums
    np.testing.assert_allclose(weights[:, 5] * drawn[:, 0], weights[:, 0] * drawn[:, 2])


@pytest.mark.parametrize("documents", [[None] * N, [f"play {number}" for number in range(N)]])
def test_sequences_that_are_independent_are_resampled_one_by_one(documents):
    resampling = Resampling.over(200, 3, documents)
    assert resampling.clusters is None and resampling.too_few is None
    assert np.array_equal(resampling.weights(N), resamples(N, 200, 3))
    samples = resampling.weights(N) @ np.arange(N)
    assert resampling.interval(samples) == interval(samples)


def test_intervals_over_documents_cover_the_mean_where_those_over_sequences_do_not():
    rng, tries, covered = np.random.default_rng(0), 400, np.zeros(4)
    resampling, alone = of_documents(10), Resampling(200, 0)
    for _ in range(tries):
        values = clustered(rng, 10)
        plain = interval(resampling.weights(N) @ values)
        found = (
            alone.interval(alone.weights(N) @ values), plain, resampling.interval(resampling.weights(N) @ values),
            studentised_interval(values, resampling),
        )  # fmt: skip
        covered += [low <= 0 <= high for low, high in found]
    sequences, percentile, expanded, studentised = covered / tries
    assert sequences < 0.75
    assert percentile < expanded  # Student's t of few documents is wider than the normal
    assert expanded > 0.9 and studentised > 0.9


def test_intervals_among_all_comparisons_hold_together_over_documents():
    rng, hits = np.random.default_rng(1), np.zeros(2)
    for _ in range(150):
        values = np.stack([clustered(rng, 12) for _ in range(8)], axis=1)
        for number, resampling in enumerate((of_documents(12, 1000), Resampling(1000, 0))):
            low, high = simultaneous_interval(values, resampling)
            hits[number] += ((low <= 0) & (high >= 0)).all()
    assert hits[0] / 150 > 0.88 and hits[1] / 150 < 0.5


def test_a_share_counts_the_effective_number_of_sequences():
    independent, of_text = Resampling(200, 0), of_documents(16)
    some = np.arange(N) < 40
    assert share_interval(some, independent) == exact_interval(40, N)
    by_document = np.arange(N) % 16 < 8  # a document's windows all do it, or none does
    assert effective_number(by_document, of_text) < 16
    low, high = share_interval(by_document, of_text)
    assert high - low > 1.7 * np.diff(exact_interval(32, N))[0]
    everyone = np.ones(N, dtype=bool)
    assert share_interval(everyone, of_text) == exact_interval(
        16, 16
    )  # nothing says that windows differ: documents count


def test_a_share_of_text_is_covered_about_as_often_as_its_interval_says():
    rng, tries, covered = np.random.default_rng(2), 400, np.zeros(2)
    resampling = of_documents(10)
    for _ in range(tries):
        does = rng.random(N) < rng.beta(1.4, 0.6, size=10)[np.arange(N) % 10]  # true share 0.7
        for number, (low, high) in enumerate((share_interval(does, resampling), exact_interval(int(does.sum()), N))):
            covered[number] += low <= 0.7 <= high
    assert covered[0] / tries > 0.92 and covered[1] / tries < 0.85


def test_mcnemars_test_on_text_finds_nothing_where_documents_alone_differ():
    rng, tries, found = np.random.default_rng(3), 400, np.zeros(2)
    for _ in range(tries):
        leaning = rng.choice([0.05, 0.95], size=10)[np.arange(N) % 10]  # which of the two a document's windows do
        first = rng.random(N) < leaning
        for number, resampling in enumerate((of_documents(10), Resampling(200, 0))):
            found[number] += paired_shares(first, ~first, resampling).p < 0.05
    assert found[0] / tries < 0.07 and found[1] / tries > 0.25
    assert mcnemar_p(2, 12) == pytest.approx(stats.binomtest(2, 14, 0.5).pvalue)
    assert mcnemar_p(2.0001, 12.0001) == pytest.approx(mcnemar_p(2, 12), rel=1e-3)


def test_with_too_few_documents_there_is_no_interval():
    few = of_documents(FEWEST_CLUSTERS - 1)
    assert few.too_few == (
        "its 64 sequences come from 7 documents, and an interval needs 8 or more; raise corpus.validation_share, or take a corpus "
        "of more documents"
    )
    assert of_documents(FEWEST_CLUSTERS).too_few is None
    values = np.random.default_rng(0).normal(size=(N, 3))
    assert few.means(values).shape == (1, 3)
    found = few.with_interval("x", few.means(values))
    assert np.isfinite(found["x"]).all() and np.isnan([found["x_low"], found["x_high"]]).all()
    assert np.isnan(studentised_interval(values[:, 0], few)).all()
    assert np.isnan(simultaneous_interval(values, few)).all()
    assert np.isnan(share_interval(values[:, 0] > 0, few)).all()
    assert np.isnan([paired_shares(values[:, 0] > 0, values[:, 1] > 0, few).p])
    assert first_layer_above(np.array([0.0, 1.0]), np.empty((0, 2)), np.array([0, 1]), 0.5, few) == (1, None, None)


def test_sequences_that_an_edit_mixes_are_one_observation():
    alone = Resampling(200, 0)
    assert alone.mixed(range(N)) is alone
    groups = alone.mixed(np.arange(N) // 4 * 4)
    assert groups.clusters == tuple((np.arange(N) // 4).tolist()) and groups.too_few is None
    assert "come from 4 averaged groups" in alone.mixed(np.arange(N) // 16).too_few
    # of text, clusters hold whole documents and whole groups
    documents = Resampling.over(200, 0, [f"play {number // 2}" for number in range(N)])
    assert documents.mixed(np.arange(N) // 4).clusters == groups.clusters
    assert len(set(documents.mixed((np.arange(N) + 1) // 2).clusters)) == 1


def test_quantities_that_are_compared_share_their_clusters():
    alone, groups = Resampling(200, 0), Resampling(200, 0).mixed(np.arange(N) // 4)
    assert joined([alone, groups]) == joined([groups, alone]) == groups
    assert joined([groups, groups]) == groups


def test_resampling_some_of_the_sequences_keeps_their_documents():
    resampling = of_documents(10)
    assert resampling.first(24).clusters == resampling.clusters[:24]
    chosen = np.arange(N) % 10 < 5
    assert len(set(resampling.among(chosen).clusters)) == 5 and resampling.among(chosen).too_few
    with pytest.raises(ValueError, match="clusters of 64 sequences for 24"):
        resampling.weights(24)


def test_windows_come_from_as_many_documents_as_there_are():
    documents = np.repeat([0, 1, 2, 3], [100, 3, 50, 1])
    chosen = by_turns(documents, 12, 0)
    assert len(set(chosen)) == 12
    assert sorted(documents[chosen[:4]]) == [0, 1, 2, 3]
    assert np.bincount(documents[chosen]).tolist() == [4, 3, 4, 1]
    assert np.array_equal(chosen, by_turns(documents, 12, 0)) and not np.array_equal(chosen, by_turns(documents, 12, 1))
