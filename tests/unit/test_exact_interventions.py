"""Every column of the tables of interventions equals its definition, written out with loops over made-up scores."""

import numpy as np
import polars as pl
import pytest

from intervention_tables import write_study
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics.binomial import exact_interval
from sinkorigin.statistics.bootstrap import Resampling, joined, simultaneous_interval
from sinkorigin.statistics.effects import Effect, effect_size, ends_among, estimated, groups, measured
from sinkorigin.statistics.interventions import compute
from sinkorigin.statistics.kendall import kendall_tau, kendall_tau_b
from sinkorigin.statistics.uniform import FACTORS, uniform_score

N, L, H, T = 9, 4, 2, 12
TARGET = 3
RESAMPLING = Resampling(40, 1)
OPTIONS = {
    "model": "m",
    "prompts": "p",
    "length": T,
    "resampling": RESAMPLING,
    "comparison_replicates": 300,
    "only": None,
}
UNIFORM = uniform_score(TARGET, T)


def close(value):
    return None if value is None or np.isnan(value) else pytest.approx(float(value), rel=2e-5, abs=2e-7)


def ends(name, samples, confidence=0.95):
    """Columns of the percentiles of replicates."""
    low, high = np.percentile(samples, [50 * (1 - confidence), 50 * (1 + confidence)])
    return {f"{name}_low": close(low), f"{name}_high": close(high)}


def with_ends(name, values):
    """Columns of a mean over sequences with its percentile interval."""
    return {name: close(values.mean()), **ends(name, [w @ values for w in RESAMPLING.weights(len(values))])}


def point(kind, score, first, change, **facts):
    return {"kind": kind, "target": TARGET, "score": score, "first": first, "change": change, **facts}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    rng = np.random.default_rng(5)

    def arrays(mean):
        score = np.abs(mean + 0.3 * mean * rng.standard_normal((N, L, H))).astype(np.float32)
        return score, np.abs(0.4 + 0.05 * rng.standard_normal((N, L, H))).astype(np.float32), rng.normal(size=N)

    unedited = point("baseline", *arrays(0.02))
    edits = {
        "amplify": {s: [point("variance_amplification", *arrays(m))] for s, m in ((2.0, 0.1), (4.0, 0.5), (8.0, 0.4))},
        "scale": {s: [point("norm_control", *arrays(m))] for s, m in ((2.0, 0.03), (4.0, 0.05), (8.0, 0.02))},
        "mask": {1.0: [point("mask", *arrays(0.5), site="attention", layers=[0])]},
        "late": {1.0: [point("mask", *arrays(0.05), site="attention", layers=[2, 3])]},
        "after": {4.0: [point("variance_amplification", *arrays(0.4), site="output_projection_output")]},
        "grid": {s: [point("mean_and_deviation", *arrays(0.1 * s), mean_factor=a) for a in (0.5, 2.0)] for s in (1.0, 3.0)},
    }  # fmt: skip
    found = compute(write_study(tmp_path_factory.mktemp("study"), [unedited], edits, length=T, losses=True), **OPTIONS)
    points = {
        (name, strength, one.get("mean_factor")): one
        for name, by in edits.items()
        for strength, several in by.items()
        for one in several
    }
    return unedited, points, {name: pl.from_arrow(table).to_dicts() for name, table in found.items()}


def of(one, name="score"):
    """(N, L) float64 means over heads."""
    return one[name].astype(np.float64).mean(axis=2)


def above(one):
    """The layers above the first edited one."""
    return slice(one.get("layers", [0, 1])[0] + 1, None)


def test_rows_come_baseline_first_then_by_name_strength_and_factor(study):
    _, points, found = study
    places = [(row["intervention"], row["strength"], row["mean_factor"]) for row in found["interventions"]]
    assert places == [
        ("baseline", None, None),
        *sorted(points, key=lambda place: (place[0], place[1], place[2] or 0.0)),
    ]
    rows = found["intervention_layers"]
    assert [(row["intervention"], row["layer"]) for row in rows[:5]] == [
        *(("baseline", layer) for layer in range(L)),
        ("after", 0),
    ]
    assert {(row["model"], row["prompts"]) for table in found.values() for row in table} == {("m", "p")}


def test_every_column_of_an_intervention_is_as_defined(study):
    unedited, points, found = study
    before, first_before = of(unedited), of(unedited, "first")
    rows = {(row["intervention"], row["strength"], row["mean_factor"]): row for row in found["interventions"]}
    for place, one in {**points, ("baseline", None, None): unedited}.items():
        score, first, row = of(one), of(one, "first"), rows[place]
        by_layer = score.mean(axis=0)
        peak = int(by_layer.argmax())
        passing = [layer for layer in range(L) if by_layer[layer] > 3 * UNIFORM]
        columns = [
            np.mean([score[:, layer].mean() if k == TARGET else first[:, layer].mean() if k == 0 else 0.01 + 0.001 * k for layer in range(L)])
            for k in range(T // 2 + 1)
        ]  # fmt: skip
        others = {k: value for k, value in enumerate(columns) if k not in (0, *one.get("positions", [TARGET]))}
        other = max(others, key=lambda k: others[k])
        change = one["change"].astype(np.float32).astype(np.float64)
        difference = (score - before).mean(axis=1)
        expected = {
            "model": "m", "prompts": "p", "intervention": place[0], "kind": one["kind"], "strength": place[1], "mean_factor": place[2],
            "site": one.get("site", "value_aggregation"), "layers": one.get("layers", [0, 1]), "positions": [TARGET], "target": TARGET, "sequences": N,
            "layers_rule": None if one is unedited else "numbers",
            **with_ends("score", score.mean(axis=1)), **with_ends("baseline", before.mean(axis=1)), **with_ends("effect", difference),
            "effect_size": close(difference.mean() / difference.std(ddof=1)) if one is not unedited else None, "uniform": UNIFORM,
            **with_ends("first_score", first.mean(axis=1)), "first_baseline": close(first_before.mean()),
            **with_ends("first_effect", (first - first_before).mean(axis=1)),
            "norm": float(L), "dominance_ratio": float(L + 1), "key_cosine": close(0.1 * peak), "baseline_key_cosine": close(0.1 * peak),
            "key_cosine_change": 0.0, "key_cosine_change_low": 0.0, "key_cosine_change_high": 0.0,
            "peak_layer": peak, "peak_layer_score": close(by_layer.max()), "onset_layer": passing[0] if passing else None,
            "top_position": int(np.argmax(columns)), "top_position_score": close(max(columns)), "other_position": other,
            "other_position_score": close(others[other]), "loss": close((3 + change).mean()), **with_ends("loss_change", change),
            **with_ends("divergence", np.abs(change)),
        }  # fmt: skip
        assert {name: row[name] for name in expected} == expected, place


def test_intervals_among_all_comparisons_are_those_of_one_family(study):
    unedited, points, found = study
    rows = {(row["intervention"], row["strength"], row["mean_factor"]): row for row in found["interventions"]}
    names, values = [], []

    def add(place, name, column):
        names.append((place, name))
        values.append(column)

    for place, one in (((("baseline", None, None)), unedited), *points.items()):
        for name, effect, layers in (
            ("score", "effect", slice(None)),
            ("first_score", "first_effect", slice(None)),
            ("reached_score", "reached_effect", above(one)),
        ):
            key = "first" if name == "first_score" else "score"
            seen, base = of(one, key)[:, layers].mean(axis=1), of(unedited, key)[:, layers].mean(axis=1)
            if name != "first_score":
                add(place, name, seen)
            if one is not unedited:
                add(place, effect, seen - base)
            if name == "reached_score":
                assert rows[place][name] == close(seen.mean()) and rows[place][effect] == close((seen - base).mean())
    pairs = [(row["treatment"], row["control"], row["strength"]) for row in found["intervention_contrasts"]]
    for row in found["intervention_contrasts"]:
        treatment, control = (
            points[row["treatment"], row["strength"], None],
            points[row["control"], row["strength"], None],
        )
        masks = row["treatment_kind"] == "mask"
        first, second = (of(one)[:, above(one) if masks else slice(None)].mean(axis=1) for one in (treatment, control))
        add(None, row["treatment"], first - second)
        assert {name: row[name] for name in ("score", "control_score", "sequences", "treatment_kind", "control_kind", "site", "control_site")} == {
            "score": close(first.mean()), "control_score": close(second.mean()), "sequences": N, "treatment_kind": treatment["kind"],
            "control_kind": control["kind"], "site": treatment.get("site", "value_aggregation"), "control_site": control.get("site", "value_aggregation"),
        }  # fmt: skip
        expected = with_ends("difference", first - second)
        expected["effect_size"] = close((first - second).mean() / (first - second).std(ddof=1))
        sizes = [
            w @ (first - second) / np.sqrt((w @ (first - second) ** 2 - (w @ (first - second)) ** 2) * N / (N - 1))
            for w in RESAMPLING.weights(N)
        ]
        expected |= ends("effect_size", sizes)
        assert {name: row[name] for name in expected} == expected
        assert (row["layers"], row["control_layers"]) == (
            treatment.get("layers", [0, 1]),
            control.get("layers", [0, 1]),
        )
    assert set(pairs) == {
        *(("amplify", "scale", s) for s in (2.0, 4.0, 8.0)), ("amplify", "after", 4.0), ("mask", "late", 1.0),
    }  # fmt: skip
    low, high = simultaneous_interval(np.stack(values, axis=1), RESAMPLING.times(300))
    found_ends = {}
    for (place, name), below, beyond in zip(names, low, high, strict=True):
        if place is not None:
            found_ends[place, name] = below, beyond
            assert (rows[place][f"{name}_low_all"], rows[place][f"{name}_high_all"]) == (close(below), close(beyond)), (
                place,
                name,
            )
    for row, below, beyond in zip(
        found["intervention_contrasts"], low[-len(pairs) :], high[-len(pairs) :], strict=True
    ):
        assert (row["difference_low_all"], row["difference_high_all"], row["comparisons"]) == (
            close(below),
            close(beyond),
            len(values),
        )
        name = "reached_score" if row["treatment_kind"] == "mask" else "score"
        (low_1, high_1), (low_2, high_2) = (
            found_ends[(row[role], row["strength"], None), name] for role in ("treatment", "control")
        )
        assert row["overlap"] == (low_1 <= high_2 and low_2 <= high_1)
    assert {row["overlap"] for row in found["intervention_contrasts"]} == {True, False}
    for place, row in rows.items():
        assert row["comparisons"] == len(values)
        effect = found_ends.get((place, "effect"), (0.0, 0.0))
        assert row["sink"] == bool(found_ends[place, "score"][0] > 3 * UNIFORM and effect[0] > 0)
    assert (
        rows["baseline", None, None]["effect_low_all"] == rows["baseline", None, None]["first_effect_high_all"] == 0.0
    )
    assert {row["sink"] for row in rows.values()} == {True, False}


def test_layers_have_their_scores_and_residuals(study):
    unedited, points, found = study
    rows = {
        (row["intervention"], row["strength"], row["mean_factor"], row["layer"]): row
        for row in found["intervention_layers"]
    }
    assert len(rows) == L * (1 + len(points))
    for place, one in {**points, ("baseline", None, None): unedited}.items():
        for layer in range(L):
            expected = with_ends("score", of(one)[:, layer]) | {
                "first_score": close(of(one, "first")[:, layer].mean()), "norm": 1.0 + layer, "dominance_ratio": 2.0 + layer,
                "key_cosine": close(0.1 * layer), "target": TARGET,
            }  # fmt: skip
            row = rows[(*place, layer)]
            assert {name: row[name] for name in expected} == expected


def test_doses_grids_and_conversions_are_as_defined(study):
    unedited, points, found = study
    base = of(unedited).mean(axis=1)
    weights = RESAMPLING.times(300).weights(N)
    of_all = [(row["intervention"], row["mean_factor"]) for row in found["dose_response"]]
    assert of_all == [("amplify", None), ("grid", 0.5), ("grid", 2.0), ("scale", None)]
    assert [row["strengths"] for row in found["dose_response"][1:3]] == [
        [1.0, 3.0]
    ] * 2  # the grid edits at strength 1 too
    doses = {row["intervention"]: row for row in found["dose_response"] if row["mean_factor"] is None}
    for name, row in doses.items():
        strengths = [1.0, 2.0, 4.0, 8.0]
        curve = np.stack([base, *(of(points[name, s, None]).mean(axis=1) for s in strengths[1:])], axis=1)
        mean, samples = curve.mean(axis=0), weights @ curve
        best = int(mean.argmax())
        taus = kendall_tau(samples)
        expected = {
            "strengths": strengths, "scores": [close(value) for value in mean], "kendall_tau": close(kendall_tau(mean)), **ends("kendall_tau", taus),
            "curves": 4, "best_strength": strengths[best], "best_score": close(mean[best]), "last_step": close(mean[3] - mean[2]),
            **ends("last_step", samples[:, 3] - samples[:, 2]), "below_best": close(mean[best] - mean[3]),
            **ends("below_best", samples.max(axis=1) - samples[:, 3]), "kind": points[name, 2.0, None]["kind"], "target": TARGET, "layers": [0, 1],
        }  # fmt: skip
        both = ends("kendall_tau", taus, 1 - 0.05 / 4)
        expected |= {f"{key}_all": value for key, value in both.items()}
        place = np.percentile(np.array(strengths)[samples.argmax(axis=1)], [2.5, 97.5], method="inverted_cdf")
        expected |= {"best_strength_low": place[0], "best_strength_high": place[1]}
        assert {key: row[key] for key in expected} == expected
    [grid] = found["dispersion_grid"]
    places = [(s, a) for s in (1.0, 3.0) for a in (0.5, 2.0)]
    values = np.stack([of(points["grid", s, a]).mean(axis=1) for s, a in places], axis=1)
    mean, samples = values.mean(axis=0), weights @ values
    ratio, strength = (np.array([f(s, a) for s, a in places]) for f in (lambda s, a: s / a, lambda s, a: s))
    taus = {"dispersion_tau": ratio, "variance_tau": strength}
    expected = {"points": 4, "grids": 1, "intervention": "grid", "kind": "mean_and_deviation"}
    for name, against in taus.items():
        expected |= {name: close(kendall_tau_b(mean, against)), **ends(name, kendall_tau_b(samples, against))}
    moved = kendall_tau_b(samples, ratio) - kendall_tau_b(samples, strength)
    expected |= {
        "difference": close(kendall_tau_b(mean, ratio) - kendall_tau_b(mean, strength)),
        **ends("difference", moved),
    }
    expected |= {f"{key}_all": value for key, value in ends("difference", moved).items()}
    assert {key: grid[key] for key in expected} == expected
    converted = {
        (row["intervention"], row["strength"], row["mean_factor"], row["factor"]): row for row in found["conversions"]
    }
    assert len(converted) == len(points) * len(FACTORS) and list(converted)[:3] == [
        ("after", 4.0, None, factor) for factor in (2.0, 3.0, 5.0)
    ]
    for place, one in points.items():
        for factor in FACTORS:
            was, now = base > factor * UNIFORM, of(one).mean(axis=1) > factor * UNIFORM
            row, gained, lost = converted[(*place, factor)], int((now & ~was).sum()), int((was & ~now).sum())
            expected = {
                "sequences": N,
                "threshold": close(factor * UNIFORM),
                "before": int(was.sum()),
                "converted": gained,
                "share": gained / N,
                "lost": lost,
            }
            expected |= dict(zip(("share_low", "share_high"), map(close, exact_interval(gained, N)), strict=True))
            expected["lost_share"] = lost / was.sum() if was.any() else None
            assert {key: row[key] for key in expected} == expected


def test_treatments_are_held_against_controls_over_the_whole_curve(study):
    unedited, points, found = study
    [row] = found["curve_contrasts"]
    base = of(unedited).mean(axis=1)
    curves = {
        name: np.stack([base, *(of(points[name, s, None]).mean(axis=1) for s in (2.0, 4.0, 8.0))])
        for name in ("amplify", "scale")
    }
    weights = np.array([0.5, 1.0, 1.0, 0.5]) / 3
    sinks = {name: (curve > 3 * UNIFORM) & (base <= 3 * UNIFORM) for name, curve in curves.items()}
    ever, control_ever = (int(sinks[name].any(axis=0).sum()) for name in ("amplify", "scale"))
    expected = {
        "treatment": "amplify", "control": "scale", "treatment_kind": "variance_amplification", "control_kind": "norm_control", "layers": [0, 1],
        "positions": [TARGET], "target": TARGET, "sequences": N, "strengths": [1.0, 2.0, 4.0, 8.0], "ever": ever, "control_ever": control_ever,
        "area": close((weights @ (curves["amplify"] - curves["scale"])).mean()), "ever_difference": close((ever - control_ever) / N),
        "converted_area": close((weights @ (sinks["amplify"] * 1.0 - sinks["scale"])).mean()), "ever_share": ever / N,
        "control_ever_share": control_ever / N, "swap": None, "swap_low": None, "swap_high": None,
    }  # fmt: skip
    expected |= dict(zip(("ever_share_low", "ever_share_high"), map(close, exact_interval(ever, N)), strict=True))
    expected |= dict(
        zip(
            ("control_ever_share_low", "control_ever_share_high"),
            map(close, exact_interval(control_ever, N)),
            strict=True,
        )
    )
    assert {key: row[key] for key in expected} == expected
    assert (
        row["area_low"] < row["area"] < row["area_high"]
        and -1 <= row["converted_area_low"] < row["converted_area"] < row["converted_area_high"] <= 1
    )


def test_a_folder_that_lacks_a_sequence_or_a_baseline_is_told(tmp_path, study):
    unedited, points, _ = study
    short = {name: value[:-1] for name, value in unedited.items() if name in ("score", "first", "change")}
    edits = {"mask": {1.0: [points["mask", 1.0, None]]}}
    inputs = write_study(tmp_path / "a", [unedited | short], edits, length=T)
    with pytest.raises(SinkoriginError, match="^intervention mask: the baseline lacks target 3 for its sequences; "):
        compute(inputs, **OPTIONS)
    inputs = write_study(tmp_path / "b", [unedited | {"target": 4}], edits, length=T)
    with pytest.raises(SinkoriginError, match="^intervention mask: the baseline lacks target 3 for its sequences; "):
        compute(inputs, **OPTIONS)
    inputs = write_study(tmp_path / "c", [unedited], edits, length=T)
    only = compute(inputs, **OPTIONS | {"only": ["another"]})
    assert only["interventions"].num_rows == 1 and only["conversions"].num_rows == 0
    path = tmp_path / "c" / "baseline" / "scores.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(SinkoriginError, match="baseline"):
        list(measured(path.parent))


def test_small_parts_of_effects():
    values = np.array([1.0, 2.0, 4.0])
    assert effect_size(values)[0] == pytest.approx(values.mean() / values.std(ddof=1)) and np.isnan(
        effect_size(np.full(3, 2.0))[0]
    )
    assert np.isnan(effect_size(np.zeros(3))[0]) and effect_size(values, np.array([[0.0, 0.5, 0.5]]))[
        0
    ] == pytest.approx(3 / np.sqrt(1.5))
    samples = np.linspace(0, 1, 101)
    plain = Resampling(101, 0)
    assert estimated("a", 0.5, samples, plain) == {
        "a": 0.5,
        "a_low": pytest.approx(0.025),
        "a_high": pytest.approx(0.975),
    }
    assert ends_among(2, "a", samples, plain) == {
        "a_low_all": pytest.approx(0.0125),
        "a_high_all": pytest.approx(0.9875),
    }
    identity = {
        "intervention": "i",
        "kind": "mask",
        "strength": 1.0,
        "mean_factor": None,
        "site": "s",
        "layers": [0],
        "positions": [1],
        "target": 1,
        "layers_rule": None,
    }
    edits = [
        Effect(identity | other, {}, {}, plain, {})
        for other in ({"strength": 2.0}, {"target": 2}, {"strength": 4.0}, {"intervention": "h"})
    ]
    found = groups(edits, without=("strength",))
    assert [[edit["strength"] for edit in members] for _, members in found] == [[1.0], [2.0, 4.0], [1.0]]
    assert found[1][0] == {name: value for name, value in identity.items() if name != "strength"}
    assert (
        edits[0].kind.kind == "mask"
        and not edits[0].is_baseline
        and Effect(identity | {"kind": "baseline"}, {}, {}, plain, {}).is_baseline
    )
    assert joined([plain, plain]) is plain
