"""Effects, contrasts, dose and response equal slow NumPy, and comparisons are paid for."""

import numpy as np
import polars as pl
import pytest

from intervention_tables import write_study
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics.bootstrap import Resampling, simultaneous_interval
from sinkorigin.statistics.effects import effect_size
from sinkorigin.statistics.interventions import compute
from sinkorigin.statistics.kendall import kendall_tau_b
from sinkorigin.statistics.uniform import uniform_score

N, L, H, T = 12, 3, 2, 16
OPTIONS = {
    "model": "m",
    "prompts": "p",
    "length": 16,
    "resampling": Resampling(50, 0),
    "comparison_replicates": 1000,
    "only": None,
}
TARGET = 4


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def noisy(rng, mean, spread=0.01):
    return mean + spread * rng.standard_normal((N, L, H))


def tables(root, baseline, edits, **options):
    found = compute(write_study(root, baseline, edits, length=T, **options), **OPTIONS)
    return {name: pl.from_arrow(table) for name, table in found.items()}


@pytest.fixture
def study(tmp_path, rng):
    unedited = noisy(rng, 0.02)
    curve = {1.5: 0.05, 4.0: 0.4, 16.0: 0.15}
    edits = {
        "amplify": {s: [{"kind": "variance_amplification", "target": TARGET, "score": noisy(rng, v)}] for s, v in curve.items()},
        "scale": {s: [{"kind": "norm_control", "target": TARGET, "score": noisy(rng, 0.02)}] for s in curve},
        "mask": {1.0: [{"kind": "mask", "target": TARGET, "score": noisy(rng, 0.1)}]},
        "late": {1.0: [{"kind": "mask", "target": TARGET, "layers": [2], "score": noisy(rng, 0.02)}]},
    }  # fmt: skip
    return unedited, edits, tables(tmp_path, [{"kind": "baseline", "target": TARGET, "score": unedited}], edits)


def test_effects_equal_numpy_and_are_paired_by_sequence(study):
    unedited, edits, found = study
    rows = {(row["intervention"], row["strength"]): row for row in found["interventions"].to_dicts()}
    assert found["interventions"]["kind"][0] == "baseline"
    weights = Resampling(50, 0).weights(N)
    for name, strengths in edits.items():
        for strength, [point] in strengths.items():
            row = rows[name, strength]
            score = np.float32(point["score"]).astype(np.float64)
            difference = (score - np.float32(unedited)).mean((1, 2))
            np.testing.assert_allclose(row["score"], score.mean(), rtol=1e-6)
            np.testing.assert_allclose(row["effect"], difference.mean(), rtol=1e-5)
            drawn = np.percentile([w @ difference for w in weights], [2.5, 97.5])
            np.testing.assert_allclose([row["effect_low"], row["effect_high"]], drawn, rtol=1e-5, atol=1e-9)
            np.testing.assert_allclose(row["effect_size"], difference.mean() / difference.std(ddof=1), rtol=1e-5)
            assert row["peak_layer"] == score.mean((0, 2)).argmax()
            above = np.flatnonzero(score.mean((0, 2)) > 3 * uniform_score(TARGET, T))
            assert row["onset_layer"] == (above[0] if len(above) else None)
    assert rows["amplify", 4.0]["sink"] and not rows["scale", 4.0]["sink"]
    assert rows["amplify", 16.0]["score_low_all"] > uniform_score(
        TARGET, T
    )  # which is not enough: a sink has 3 times that
    assert not rows["amplify", 16.0]["sink"]
    assert rows["amplify", 4.0]["norm"] == L and rows["amplify", 4.0]["dominance_ratio"] == L + 1
    assert rows["amplify", 4.0]["top_position"] == 0 and rows["amplify", 4.0]["other_position"] == T // 2


def test_intervals_of_all_comparisons_are_wider_than_those_of_one(study):
    rows = study[2]["interventions"].filter(pl.col("kind") != "baseline").to_dicts()
    assert all(
        row["effect_low_all"] < row["effect_low"] and row["effect_high_all"] > row["effect_high"] for row in rows
    )
    # two scores of the baseline; of each edit three quantities, and two over the layers that it reaches; four contrasts.
    # the late mask is in the last layer and reaches none
    assert {row["comparisons"] for row in rows} == {2 + 5 * len(rows) - 2 + 4}
    late = next(row for row in rows if row["intervention"] == "late")
    assert late["reached_score"] is None


def test_masks_are_compared_where_each_can_act(tmp_path, rng):
    early, late = noisy(rng, 0.1), noisy(rng, 0.02)
    unedited = noisy(rng, 0.02)
    edits = {
        "mask": {1.0: [{"kind": "mask", "target": TARGET, "layers": [0], "score": early}]},
        "late": {1.0: [{"kind": "mask", "target": TARGET, "layers": [1], "score": late}]},
    }
    found = tables(tmp_path, [{"kind": "baseline", "target": TARGET, "score": unedited}], edits)
    rows = {row["intervention"]: row for row in found["interventions"].to_dicts()}
    np.testing.assert_allclose(rows["mask"]["reached_score"], early[:, 1:].mean(), rtol=1e-5)
    np.testing.assert_allclose(rows["late"]["reached_effect"], (late - unedited)[:, 2:].mean(), rtol=1e-4, atol=1e-7)
    assert (
        rows["late"]["reached_score_low_all"] < rows["late"]["reached_score"] < rows["late"]["reached_score_high_all"]
    )
    [contrast] = found["intervention_contrasts"].to_dicts()
    np.testing.assert_allclose(contrast["difference"], early[:, 1:].mean() - late[:, 2:].mean(), rtol=1e-5)


def test_contrasts_are_paired_by_sequence_and_matched_by_strength(study):
    _, edits, found = study
    contrasts = found["intervention_contrasts"]
    pairs = set(contrasts.select("treatment", "control", "strength").rows())
    assert pairs == {("amplify", "scale", s) for s in (1.5, 4.0, 16.0)} | {("mask", "late", 1.0)}
    row = contrasts.filter(pl.col("strength") == 4.0).to_dicts()[0]
    difference = (
        np.float32(edits["amplify"][4.0][0]["score"]).astype(float) - np.float32(edits["scale"][4.0][0]["score"])
    ).mean((1, 2))
    np.testing.assert_allclose(row["difference"], difference.mean(), rtol=1e-5)
    np.testing.assert_allclose(row["effect_size"], difference.mean() / difference.std(ddof=1), rtol=1e-5)
    assert row["effect_size_low"] < row["effect_size"] < row["effect_size_high"]
    assert not row["overlap"] and row["difference_low_all"] > 0
    assert contrasts.filter(pl.col("control") == "late").to_dicts()[0]["control_layers"] == [2]


def test_dose_and_response_tells_rise_maximum_and_fall(study):
    doses = {row["intervention"]: row for row in study[2]["dose_response"].to_dicts()}
    row = doses["amplify"]
    assert row["strengths"] == [1, 1.5, 4, 16] and len(row["scores"]) == 4
    np.testing.assert_allclose(row["kendall_tau"], (5 - 1) / 6)
    assert row["best_strength"] == row["best_strength_low"] == row["best_strength_high"] == 4
    assert row["last_step_high"] < 0 < row["below_best_low"]
    assert row["curves"] == 2 and row["kendall_tau_low_all"] <= row["kendall_tau_low"]
    assert "mask" not in doses


def test_grid_tells_dispersion_from_variance(tmp_path, rng):
    unedited = noisy(rng, 0.02)
    edits = {
        "grid": {
            s: [
                {"kind": "mean_and_deviation", "target": TARGET, "mean_factor": a, "score": noisy(rng, 0.1 * s / (a + 1), 0.001)}
                for a in (0.0, 1.0, 4.0)
            ]
            for s in (1.0, 2.0, 4.0)
        }
    }  # fmt: skip
    found = tables(tmp_path, [{"kind": "baseline", "target": TARGET, "score": unedited}], edits)
    [row] = found["dispersion_grid"].to_dicts()
    assert row["points"] == 9
    assert row["dispersion_tau"] > row["variance_tau"] > 0 and row["difference_low"] > 0
    assert found["dose_response"]["strengths"].to_list() == [[1, 2, 4]] * 3  # one curve a factor of the mean


def test_conversion_counts_sequences_whose_target_became_a_sink(tmp_path):
    from scipy.stats import binomtest

    threshold = 3 * uniform_score(TARGET, T)
    below, above = np.full((N, L, H), 0.5 * threshold), np.full((N, L, H), 2 * threshold)
    unedited = np.where(np.arange(N)[:, None, None] < 2, above, below)  # two sequences have a sink there anyway
    masked = np.where(np.arange(N)[:, None, None] < 7, above, below)
    edits = {
        "mask": {1.0: [{"kind": "mask", "target": TARGET, "score": masked}]},
        "scale": {4.0: [{"kind": "norm_control", "target": TARGET, "score": below}]},
    }
    found = tables(tmp_path, [{"kind": "baseline", "target": TARGET, "score": unedited}], edits)["conversions"]
    rows = {row["intervention"]: row for row in found.filter(factor=3.0).to_dicts()}
    assert (rows["mask"]["before"], rows["mask"]["converted"], rows["scale"]["converted"]) == (2, 5, 0)
    for row in rows.values():
        exact = binomtest(row["converted"], N).proportion_ci(method="exact")
        np.testing.assert_allclose([row["share_low"], row["share_high"]], [exact.low, exact.high])
        assert row["share"] == row["converted"] / N and row["threshold"] == threshold


def test_losses_and_where_the_sink_moves(tmp_path, rng):
    unedited = {"kind": "baseline", "target": 0, "score": noisy(rng, 0.5)}
    change = 0.3 + 0.01 * rng.standard_normal(N)
    edited = {"kind": "super_neuron_ablation", "target": 0, "score": noisy(rng, 0.1), "change": change}
    edited["first"] = edited["score"]
    found = tables(tmp_path, [unedited], {"silent": {1.0: [edited]}}, losses=True)
    row = found["interventions"].filter(pl.col("intervention") == "silent").to_dicts()[0]
    np.testing.assert_allclose(row["loss_change"], change.mean(), rtol=1e-5)
    assert row["loss_change_low"] < row["loss_change"] < row["loss_change_high"]
    np.testing.assert_allclose(row["divergence"], np.abs(change).mean(), rtol=1e-5)
    assert row["other_position"] == T // 2  # the made-up columns rise with the position
    assert found["interventions"]["loss_change"][0] == 0


def test_positions_edited_at_once_are_read_one_by_one(tmp_path, rng):
    baseline = [{"kind": "baseline", "target": k, "score": noisy(rng, 0.02)} for k in (3, 5)]
    together = [{"kind": "mask", "target": k, "positions": [3, 5], "score": noisy(rng, 0.1)} for k in (3, 5)]
    alone = [{"kind": "mask", "target": 3, "score": noisy(rng, 0.2)}]
    rows = tables(tmp_path, baseline, {"mask": {1.0: [*together, *alone]}})["interventions"]
    assert rows.filter(pl.col("kind") == "mask").select("positions", "target").rows() == [
        ([3], 3), ([3, 5], 3), ([3, 5], 5),
    ]  # fmt: skip


def test_a_missing_baseline_is_told(tmp_path, rng):
    edits = {"mask": {1.0: [{"kind": "mask", "target": TARGET, "score": noisy(rng, 0.1)}]}}
    inputs = write_study(tmp_path, [{"kind": "baseline", "target": 2, "score": noisy(rng, 0.02)}], edits, length=T)
    with pytest.raises(
        SinkoriginError, match="intervention mask: the baseline lacks target 4 for its sequences; delete"
    ):
        compute(inputs, **OPTIONS)
    (tmp_path / "edited/mask/strength=1/scores.parquet").write_bytes(b"not a table")
    with pytest.raises(SinkoriginError, match="scores.parquet is missing or does not have the .* bytes"):
        compute(inputs, **OPTIONS)
    (tmp_path / "baseline/manifest.json").unlink()
    with pytest.raises(SinkoriginError, match="baseline/manifest.json .* delete"):
        compute(inputs, **OPTIONS)


def test_simultaneous_intervals_hold_together_about_as_often_as_they_say():
    rng, hits, tries, wide = np.random.default_rng(1), 0, 200, []
    resampling = Resampling(1000, 0)
    for _ in range(tries):
        values = rng.standard_normal((40, 20))
        low, high = simultaneous_interval(values, resampling)
        hits += bool(((low <= 0) & (high >= 0)).all())
        wide.append((high - low).mean() / (2 * 1.96 / np.sqrt(40)))
    assert 0.89 <= hits / tries <= 1.0  # each alone with 95 % would hold together 0.36 of the time
    assert 1.3 < np.mean(wide) < 2.2


def test_equal_quantities_cost_nothing_and_constant_ones_have_no_width():
    rng = np.random.default_rng(2)
    one = rng.standard_normal((30, 1))
    resampling = Resampling(2000, 0)
    alone, many = simultaneous_interval(one, resampling), simultaneous_interval(np.repeat(one, 9, axis=1), resampling)
    np.testing.assert_allclose(many[0], alone[0][0])
    low, high = simultaneous_interval(np.hstack([one, np.full((30, 1), 0.3)]), resampling)
    np.testing.assert_allclose([low[1], high[1]], 0.3)


def test_tau_b_and_effect_size_of_known_values():
    assert kendall_tau_b(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, np.inf])) == 1
    # three pairs, one tied in the second: (2 - 0) / sqrt(3 * 2)
    np.testing.assert_allclose(kendall_tau_b(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 2.0])), 2 / np.sqrt(6))
    np.testing.assert_allclose(effect_size(np.array([1.0, 2.0, 3.0])), 2.0)
    assert np.isnan(effect_size(np.zeros(3)))


def test_sequences_that_an_edit_mixes_are_resampled_as_groups(tmp_path, rng):
    unedited = noisy(rng, 0.1)
    scale = {"kind": "norm_control", "target": 0, "score": noisy(rng, 0.3), "first": noisy(rng, 0.3)}
    averaged = {"kind": "value_averaging", "target": 0, "score": noisy(rng, 0.05)}
    edits = {
        "scale": {2.0: [scale]},
        "few": {4.0: [averaged | {"unit": np.arange(N) // 4 * 4}]},  # 3 groups, too few for an interval
        "none": {1.0: [averaged]},
    }
    found = tables(tmp_path, [{"kind": "baseline", "target": 0, "score": unedited}], edits)["interventions"]
    rows = {row["intervention"]: row for row in found.to_dicts()}
    few, none = rows["few"], rows["none"]
    assert few["score"] == none["score"] and few["score_low"] is few["effect_low_all"] is few["sink"] is None
    assert none["score_low"] is not None and none["sink"] is False
    assert few["comparisons"] < none["comparisons"] == rows["scale"]["comparisons"]
    del edits["few"]
    alone = tables(tmp_path / "alone", [{"kind": "baseline", "target": 0, "score": unedited}], edits)["interventions"]
    assert found.filter(pl.col("intervention") != "few").equals(alone)  # the others know nothing of it
