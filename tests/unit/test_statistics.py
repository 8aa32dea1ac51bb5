"""Each statistic against a slow, obvious computation on full arrays, and against numbers known beforehand."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from sinkorigin.activations.summaries.magnitudes import SCHEMA as MAGNITUDES_SCHEMA
from sinkorigin.activations.summaries.scores import SCHEMA as SCORES_SCHEMA
from sinkorigin.activations.writers import activation_schema
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics import disparity, first_positions, norms, sinks, site_layers
from sinkorigin.statistics.bootstrap import Resampling, first_layer_above, interval, resamples
from sinkorigin.statistics.kendall import kendall_tau
from sinkorigin.statistics.uniform import uniform_score
from sinkorigin.statistics.variance import variance_tables
from sinkorigin.tables import atomic_directory, table_writer, write_table

NAMES = {"model": "m", "prompts": "p"}
RESAMPLING = Resampling(50, 0)
BOOTSTRAP = {"resampling": RESAMPLING}
N, T, L, D, H = 12, 7, 3, 10, 2


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def frames(found, *names):
    """The tables of a statistic that have these names."""
    return [pl.DataFrame(found[name]) for name in names]


def write_site(folder, values, batch=5):
    """values: (L, N, T, D)."""
    with atomic_directory(folder) as partial:
        for layer, own in enumerate(values):
            schema = activation_schema(own.shape[-1])
            with table_writer(partial / f"layer={layer}" / "part-0.parquet", schema) as writer:
                for first in range(0, len(own), batch):
                    block = own[first : first + batch].astype(np.float32)
                    writer.write_batch(
                        pa.record_batch(
                            [
                                np.repeat(np.arange(first, first + len(block), dtype=np.int32), T),
                                np.tile(np.arange(T, dtype=np.int32), len(block)),
                                pa.FixedSizeListArray.from_arrays(
                                    block.reshape(-1), type=schema.field("activation").type
                                ),
                            ],
                            schema=schema,
                        )
                    )
    return folder


def variance_of(folder, values, **kwargs):
    tables = variance_tables(write_site(folder, values), site="s", **NAMES, **(BOOTSTRAP | kwargs))
    return [pl.from_arrow(table) for table in tables]


def test_variance_and_dispersion_equal_numpy_on_full_arrays(tmp_path, rng):
    values = (rng.normal(size=(L, N, T, D)) + 100).astype(np.float32)  # a large mean must not cost precision
    table, _ = variance_of(tmp_path / "s", values)
    exact = values.astype(np.float64)
    for row in table.to_dicts():
        own = exact[row["layer"], :, row["position"]]
        np.testing.assert_allclose(row["variance"], own.var(axis=0, ddof=1).mean(), rtol=1e-9)
        dispersion = own.var(axis=0, ddof=1).sum() / (own.mean(axis=0) ** 2).sum()
        np.testing.assert_allclose(row["relative_dispersion"], dispersion, rtol=1e-9)
    assert len(table) == L * T


def test_variance_intervals_equal_a_bootstrap_done_sequence_by_sequence(tmp_path, rng):
    values = rng.normal(size=(1, N, T, D)).astype(np.float32)
    table, trend = variance_of(tmp_path / "s", values)
    weights = RESAMPLING.weights(N)
    samples = np.empty((50, T))
    for replicate, row in enumerate(weights):
        drawn = np.repeat(np.arange(N), np.rint(row * N).astype(int))
        samples[replicate] = values[0, drawn].astype(np.float64).var(axis=0, ddof=1).mean(axis=-1)
    low, high = np.percentile(samples, [2.5, 97.5], axis=0)
    np.testing.assert_allclose(table["variance_low"], low, rtol=1e-6)
    np.testing.assert_allclose(table["variance_high"], high, rtol=1e-6)
    ratios = samples[:, 0] / samples[:, 1:].mean(axis=1)
    np.testing.assert_allclose(trend["ratio_low"], np.percentile(ratios, 2.5), rtol=1e-6)


def test_sequences_in_many_blocks_give_the_variance_of_one_block(tmp_path, rng, monkeypatch):
    values = rng.normal(size=(L, N, T, D)) + 5
    values[:, :, 3] = values[:, :1, 3]  # no variance, however the sequences come
    whole = variance_of(tmp_path / "whole", values)
    monkeypatch.setattr(site_layers, "_WHOLE", 0)
    monkeypatch.setattr(site_layers, "_BLOCK", 2 * T * D)
    for one, many in zip(whole, variance_of(tmp_path / "blocks", values), strict=True):
        assert_frame_equal(one, many, rel_tol=1e-6)


def test_the_same_first_vector_everywhere_is_null_not_zero(tmp_path, rng):
    values = rng.normal(size=(1, N, T, D))
    values[:, :, 0] = values[:, :1, 0]
    table, trend = variance_of(tmp_path / "s", values)
    first = table.filter(pl.col("position") == 0).to_dicts()[0]
    assert first["variance"] is None and first["variance_low"] is None and first["relative_dispersion"] is None
    assert table.filter(pl.col("position") > 0)["variance"].is_not_null().all()
    assert trend["ratio"].to_list() == [None]


def test_one_sequence_and_non_finite_values_end_with_a_sentence(tmp_path, rng):
    with pytest.raises(
        SinkoriginError, match="model m, prompts p: a variance over sequences needs at least 2, s has 1"
    ):
        variance_of(tmp_path / "one", rng.normal(size=(1, 1, T, D)))
    values = rng.normal(size=(2, N, T, D))
    values[1, 3, 2, 1] = np.nan
    with pytest.raises(SinkoriginError, match="model m: s of layer 1 is not finite"):
        variance_of(tmp_path / "nan", values)


def test_a_truncated_table_is_told(tmp_path, rng):
    folder = write_site(tmp_path / "s", rng.normal(size=(1, N, T, D)))
    path = folder / "layer=0" / "part-0.parquet"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-50] + bytes(50))
    assert path.stat().st_size == size
    with pytest.raises(
        SinkoriginError, match="is damaged or was changed: its sha256 is not that of its manifest; delete"
    ):
        variance_tables(folder, site="s", **NAMES, **BOOTSTRAP)


def test_kendall_tau_of_known_orders(rng):
    assert kendall_tau(np.arange(6)) == 1
    assert kendall_tau(-np.arange(6)) == -1
    values = rng.normal(size=9)
    pairs = [np.sign(values[j] - values[i]) for i in range(9) for j in range(i + 1, 9)]
    np.testing.assert_allclose(kendall_tau(values), np.mean(pairs))


def test_kendall_tau_counts_ties_as_neither(rng):
    for values in (rng.integers(0, 4, size=(3, 300)).astype(float), np.zeros((1, 5))):  # more pairs than an int8 holds
        signs = np.sign(values[:, None, :] - values[:, :, None])
        count = values.shape[1]
        expected = np.triu(signs).sum(axis=(1, 2)) / (count * (count - 1) / 2)
        np.testing.assert_allclose(kendall_tau(values), expected)
    assert np.isnan(kendall_tau(np.array([1.0, np.nan, 2.0])))


@pytest.mark.parametrize("method", ["linear", "inverted_cdf"])
def test_interval_equals_the_percentiles_of_the_replicates_that_there_are(rng, method):
    samples = rng.normal(size=(40, 6))
    samples[rng.random(samples.shape) < 0.2] = np.nan
    samples[:, 2] = np.nan
    low, high = interval(samples, method=method)
    present = [0, 1, 3, 4, 5]
    expected = np.nanpercentile(samples[:, present], [2.5, 97.5], axis=0, method=method)
    np.testing.assert_allclose([low[present], high[present]], expected)
    assert np.isnan(low[2]) and np.isnan(high[2])


def magnitudes(path, values, site="residual", first_layer=-1):
    """values: (L, N, T, D)."""
    rows = []
    for layer, own in enumerate(values, start=first_layer):
        for n in range(own.shape[0]):
            median = np.sort(np.abs(own[n]).reshape(-1))[(own[n].size - 1) // 2] if np.abs(own[n]).max() > 100 else None
            for t in range(own.shape[1]):
                h = np.abs(own[n, t])
                largest = (h.max(), int(h.argmax()), own.shape[-1], median)
                rows.append((site, layer, n, t, np.linalg.norm(h), h.mean(), *largest))
    columns = dict(zip(MAGNITUDES_SCHEMA.names, zip(*rows, strict=True), strict=True))
    write_table(path, pa.table({k: list(v) for k, v in columns.items()}), MAGNITUDES_SCHEMA)
    return path


def test_norms_ratio_and_surge_equal_numpy(tmp_path, rng):
    values = rng.normal(size=(L, N, T, D))
    values[1:, :, 0] *= 20  # the first token's norm surges in the second entry, which is layer 0
    path = magnitudes(tmp_path / "m.parquet", values)
    found = norms.compute({"magnitudes": path}, surge_ratio=3.0, change_factor=2.0, **NAMES, **BOOTSTRAP)
    by_position, ratio, surge, changes = frames(found, "norms", "norm_ratio", "norm_surge", "norm_changes")
    expected = np.linalg.norm(values, axis=-1)  # (L, N, T)
    np.testing.assert_allclose(
        by_position.sort("layer", "position")["norm"], expected.mean(axis=1).reshape(-1), rtol=1e-5
    )
    np.testing.assert_allclose(ratio["ratio"], expected[:, :, 0].mean(1) / expected[:, :, 1:].mean((1, 2)), rtol=1e-5)
    assert surge.select("layer", "layer_low", "layer_high").row(0) == (0, 0, 0)
    assert changes.select("kind", "start", "layer").rows() == [("rise", -1, 0)]
    np.testing.assert_allclose(changes["change"][0], ratio["ratio"].max() / ratio["ratio"][0])


def test_a_surge_that_does_not_come_is_null(tmp_path, rng):
    path = magnitudes(tmp_path / "m.parquet", rng.normal(size=(L, N, T, D)))
    found = norms.compute({"magnitudes": path}, surge_ratio=3.0, change_factor=2.0, **NAMES, **BOOTSTRAP)
    [surge] = frames(found, "norm_surge")
    assert surge["layer"].to_list() == [None]


def test_dominance_ratio_and_its_dim_equal_numpy(tmp_path, rng):
    values = rng.normal(size=(L, N, T, D))
    values[1, :, 0, 4] = 1000.0
    path = magnitudes(tmp_path / "m.parquet", values)
    found = disparity.compute({"magnitudes": path}, **NAMES, **BOOTSTRAP)
    table, by_layer = frames(found, "disparity", "disparity_by_layer")
    absolute = np.abs(values)
    ratio = absolute.max(-1) / absolute.mean(-1)  # (L, N, T)
    np.testing.assert_allclose(table.sort("layer", "position")["dominance_ratio"], ratio.mean(1).reshape(-1), rtol=1e-5)
    np.testing.assert_allclose(by_layer["first"], ratio[:, :, 0].mean(1), rtol=1e-5)
    np.testing.assert_allclose(by_layer["rest"], ratio[:, :, 1:].mean((1, 2)), rtol=1e-5)
    dominant = table.filter((pl.col("layer") == 0) & (pl.col("position") == 0)).to_dicts()[0]
    assert (dominant["dominant_dim"], dominant["dominant_share"]) == (4, 1.0)
    assert dominant["dominance_ratio"] < D
    np.testing.assert_allclose(dominant["relative"], dominant["dominance_ratio"] / D)


def causal_attention(rng, first_weight=None):
    """(N, L, H, T, T) rows that sum to one; with a fixed weight on position 0 if given."""
    weights = np.tril(rng.random((N, L, H, T, T)))
    weights /= weights.sum(-1, keepdims=True)
    if first_weight is not None:
        weights[..., 1:, :] *= (1 - first_weight) / (1 - weights[..., 1:, :1])
        weights[..., 1:, 0] = first_weight
    return weights


def score_of(weights, k, after):
    return weights[..., (k + 1 if after else k) :, k].mean(-1)


def write_scores(path, weights, normalised=False):
    """As an extraction: without the normalised scores where rows sum to one."""
    rows = {name: [] for name in SCORES_SCHEMA.names}
    for n in range(N):
        for layer in range(L):
            for head in range(H):
                for k in range(T):
                    own = weights[n, layer, head]
                    after = own[k + 1 :, k].mean() if k < T - 1 else None
                    values = (n, layer, head, k, own[k:, k].mean(), after, None, None)
                    if normalised:
                        own = own / own.sum(-1, keepdims=True)
                        after = own[k + 1 :, k].mean() if k < T - 1 else None
                        values = (*values[:-2], own[k:, k].mean(), after)
                    for name, value in zip(rows, values, strict=True):
                        rows[name].append(value)
    write_table(path, pa.table(rows), SCORES_SCHEMA)
    return path


SINKS = ("sinks", "sink_mass", "sink_rate", "sink_onset", "sink_changes")


def test_sink_scores_mass_and_rate_equal_numpy(tmp_path, rng):
    weights = causal_attention(rng)
    path = write_scores(tmp_path / "s.parquet", weights)
    settings = {"epsilons": [0.2, 0.3], "onset_mass": 0.9, "change_mass": 0.9}
    found = sinks.compute({"scores": path}, length=T, **settings, **NAMES, **BOOTSTRAP)
    scores, mass, rate, onset, changes = frames(found, *SINKS)
    assert changes.is_empty()
    for row in scores.to_dicts():
        own = weights[:, row["layer"], row["head"]]
        np.testing.assert_allclose(row["score"], score_of(own, row["position"], False).mean(), rtol=1e-5)
        if row["position"] < T - 1:
            np.testing.assert_allclose(
                row["score_excluding_self"], score_of(own, row["position"], True).mean(), rtol=1e-5
            )
        else:
            assert row["score_excluding_self"] is None
    np.testing.assert_allclose(mass["mass"], score_of(weights, 0, True).mean((0, 2)), rtol=1e-5)
    for row in rate.to_dicts():
        np.testing.assert_allclose(row["rate"], (score_of(weights, row["position"], False) > row["epsilon"]).mean())
    assert onset["layer"].to_list() == [None]
    for table, names in ((scores, ("score", "score_excluding_self")), (mass, ("mass",)), (rate, ("rate",))):
        for name in names:
            assert table[name].equals(table[f"{name}_normalised"])
    for end in ("low", "high"):
        assert mass[f"mass_{end}"].equals(mass[f"mass_normalised_{end}"])


def test_the_mass_of_the_first_positions_equals_numpy(tmp_path, rng):
    weights = causal_attention(rng)
    path = write_scores(tmp_path / "s.parquet", weights)
    table = pl.DataFrame(
        first_positions.compute({"scores": path}, length=T, first_token="bos", **NAMES, **BOOTSTRAP)["first_positions"]
    )
    assert table.select("layer", "position").rows() == [(layer, k) for layer in range(L) for k in range(4)]
    assert set(table["first_token"]) == {"bos"}
    for row in table.to_dicts():
        own = score_of(weights[:, row["layer"]], row["position"], True)
        np.testing.assert_allclose(row["mass"], own.mean(), rtol=1e-5)
        assert row["mass_low"] < row["mass"] < row["mass_high"]
        assert row["uniform"] == uniform_score(row["position"], T)


def test_sinks_of_weights_that_do_not_sum_to_one_are_reported_raw_and_normalised(tmp_path, rng):
    weights = causal_attention(rng)
    shrunk = weights * rng.uniform(0.1, 0.6, size=(*weights.shape[:-1], 1))
    path = write_scores(tmp_path / "s.parquet", shrunk, normalised=True)
    settings = {"epsilons": [0.2, 0.3], "onset_mass": 0.3, "change_mass": 0.9}
    whole = write_scores(tmp_path / "w.parquet", weights)
    found, found_whole = (
        sinks.compute({"scores": scores}, length=T, **settings, **NAMES, **BOOTSTRAP) for scores in (path, whole)
    )
    scores, mass, rate, *_ = frames(found, *SINKS)
    np.testing.assert_allclose(mass["mass"], score_of(shrunk, 0, True).mean((0, 2)), rtol=1e-5)
    for row in rate.to_dicts():
        np.testing.assert_allclose(row["rate"], (score_of(shrunk, row["position"], False) > row["epsilon"]).mean())
    # divided by its sum, each row is what it was before it was shrunk
    for table, of_whole in zip((scores, mass, rate), frames(found_whole, *SINKS), strict=False):
        for name in table.columns:
            if "_normalised" in name:
                np.testing.assert_allclose(
                    table[name].fill_null(-1), of_whole[name.replace("_normalised", "")].fill_null(-1), rtol=1e-4
                )
    assert (mass["mass_normalised_low"] <= mass["mass_normalised"]).all()
    assert (mass["mass_normalised"] > mass["mass"]).all()


def test_the_onset_is_the_first_layer_whose_mass_passes(tmp_path, rng):
    weights = causal_attention(rng)
    weights[:, 2] = causal_attention(rng, first_weight=0.8)[:, 2]
    path = write_scores(tmp_path / "s.parquet", weights)
    settings = {"epsilons": [0.3], "onset_mass": 0.7, "change_mass": 0.2}
    _, mass, _, onset, changes = frames(
        sinks.compute({"scores": path}, length=T, **settings, **NAMES, **BOOTSTRAP), *SINKS
    )
    assert changes.filter(pl.col("kind") == "rise")["layer"].to_list() == [2]
    np.testing.assert_allclose(mass["mass"][2], 0.8, rtol=1e-5)
    assert onset.select("layer", "layer_low", "layer_high").row(0) == (2, 2, 2)


def test_uniform_attention_gives_the_uniform_score():
    weights = np.tril(np.ones((64, 64))) / np.arange(1, 65)[:, None]
    for k in (0, 10, 40):
        np.testing.assert_allclose(uniform_score(k, 64), weights[k + 1 :, k].mean())
    assert round(uniform_score(0, 64), 3) == 0.059


def test_the_bootstrap_is_the_same_for_a_seed_and_resamples_sequences():
    weights = resamples(N, 200, 3)
    assert np.array_equal(weights, resamples(N, 200, 3))
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    values = np.random.default_rng(0).normal(size=N)
    low, high = interval(weights @ values)
    half = 1.96 * values.std() / np.sqrt(N)
    np.testing.assert_allclose([low, high], [values.mean() - half, values.mean() + half], atol=0.35 * half)


def test_an_onset_interval_counts_a_missing_onset_as_beyond_the_last_layer():
    samples = np.array([[0.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    assert first_layer_above(np.array([0.0, 1.0]), samples, np.array([0, 1]), 0.5, RESAMPLING) == (1, 1, 2)
