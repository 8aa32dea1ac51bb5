"""What a referee found wrong with an earlier ledger cannot come again: each fault, made on purpose, turns no verdict."""

import ast
import inspect
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ledger_simulations import (
    CLAIMS,
    DEPTH,
    LENGTH,
    SINK_MASS,
    SURGES,
    WITH_SURGES,
    InMemory,
    changes,
    effect,
    replicated_variances,
    table,
    trend,
    vectors,
    verdict,
)
from sinkorigin import claims
from sinkorigin.claims.sinks import sink_layers
from sinkorigin.claims.tests import CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED
from sinkorigin.statistics import (
    conversions,
    first_positions,
    keys,
    mediation,
    sinks,
    super_neurons,
    variance_through_output,
)
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.kendall import kendall_tau, order_interval
from sinkorigin.statistics.uniform import FACTORS, SINK_FACTOR, uniform_score
from tiny_study import ROOT

RESAMPLING = Resampling(100, seed=0)


def settings(code, frames, role="pretrained"):
    return list(CLAIMS[code].settings(InMemory(frames, role)))


# ---- 1: one word for refutation and for ignorance


@pytest.mark.parametrize("code", sorted(CLAIMS))
def test_an_interval_on_both_sides_of_the_threshold_is_undecided(code):
    test = CLAIMS[code].test
    width = abs(test.threshold) + 1
    assert test.verdict(test.threshold - width, test.threshold + width) == UNDECIDED
    above, below = (test.threshold + 0.1, test.threshold + 0.2), (test.threshold - 0.2, test.threshold - 0.1)
    right, wrong = (above, below) if test.side == "above" else (below, above)
    if test.side != "within":
        assert (test.verdict(*right), test.verdict(*wrong)) == (REPRODUCED, CONTRADICTED)


def test_what_no_p_value_supports_is_undecided_whatever_the_interval_says():
    claim = CLAIMS["C9"]
    setting = claims.claim.Setting("", 0.9, 0.8, 1.0, None, ())
    assert claim.verdict(setting) == REPRODUCED
    assert claim.verdict(replace(setting, p=0.3)) == UNDECIDED


# ---- 3: shares of conversion where nothing varies, and over the whole curve


def test_no_conversion_by_either_edit_contradicts_nothing():
    from ledger_simulations import curves_of_none

    [row] = curves_of_none(np.random.default_rng(0), "null", 64)["curve_contrasts"].to_dicts()
    assert row["converted_area_low"] < 0 < row["converted_area_high"]


# ---- 4: exact and paired outcomes


def test_a_few_conversions_with_a_large_mean_do_not_make_the_claim():
    """The mean score is far above the criterion, the share of sequences is not."""
    score = np.where(np.arange(64) < 16, 0.9, 0.02)
    rows = list(conversions.rows([effect("mask", score, np.full(64, 0.02))]))
    assert score.mean() > SINK_FACTOR * uniform_score(10, LENGTH)
    assert verdict("C9", {"conversions": table(conversions.SCHEMA, rows)}) == CONTRADICTED


# ---- 5: one definition of a sink


def test_the_factor_is_the_only_criterion_of_a_sink_in_the_claims():
    """No claim compares a mass, a score or a share with a number of its own, nor names another criterion."""
    for path in sorted((ROOT / "src/sinkorigin/claims").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare):
                text = ast.unparse(node)
                if re.search(r"['\"](mass|score)\w*['\"]", text):
                    assert "SINK_FACTOR" in text, (path.name, text)
        if path.name not in (
            "comparison.py",
            "verdicts.py",
        ):  # the paper's own rate, in the table that repeats the paper's
            assert not re.search(r"\b(PAPER_EPSILON|NO_SINK_FACTOR|DOMINANCE_FACTOR)\b", path.read_text()), path.name


def test_every_statistic_counts_a_sink_from_the_same_score_on():
    uniform = uniform_score(10, LENGTH)
    just_above, just_below = SINK_FACTOR * uniform * 1.001, SINK_FACTOR * uniform * 0.999
    score = np.array([just_above] * 5 + [just_below] * 3)
    three = next(row for row in conversions.rows([effect("mask", score, np.zeros(8))]) if row["factor"] == SINK_FACTOR)
    assert three["converted"] == 5
    first = SINK_FACTOR * uniform_score(0, LENGTH)
    rows = first_positions.sink_rows(np.array([[first * 1.001]] * 5 + [[first * 0.999]] * 3), LENGTH, RESAMPLING)
    assert [row["sinks"] for row in rows if row["factor"] == SINK_FACTOR] == [5]
    frame = [
        {
            "cause": None, "kind": None, "strength": None, "layers": [], "target": 10, "mediator": name, "mediator_layers": [], "control_of": None,
            "direction": "none" if name is None else "removed", "sequence": n, "score": s, "first_score": f, "second_score": 0.0,
        }
        for name, first_scores in ((None, [first * 1.001] * 8), ("x", [first * 1.001] * 3 + [first * 0.999] * 5))
        for n, (s, f) in enumerate(zip(score, first_scores, strict=True))
    ]  # fmt: skip
    [row] = mediation.removal_rows(frame, LENGTH, RESAMPLING)
    assert (row["before"], row["lost"]) == (8, 5)
    assert [row["sinks"] for row in mediation.pass_rows(frame, LENGTH, RESAMPLING)] == [5, 5]
    assert SINK_FACTOR in FACTORS


def test_a_layer_is_a_sink_with_its_whole_interval_and_the_strongest_comes_first():
    uniform = uniform_score(0, LENGTH)
    rows = [
        {"layer": 0, "mass": 5 * uniform, "mass_low": 2.9 * uniform, "mass_high": 8 * uniform, "uniform": uniform},
        {"layer": 1, "mass": 4 * uniform, "mass_low": 3.9 * uniform, "mass_high": 4.1 * uniform, "uniform": uniform},
        {"layer": 2, "mass": 6 * uniform, "mass_low": 5.9 * uniform, "mass_high": 6.1 * uniform, "uniform": uniform},
    ]
    assert [one.layer for one in sink_layers(InMemory({"sink_mass": table(sinks.SINK_MASS_SCHEMA, rows)}))] == [2, 1]


# ---- 6: removals against their controls


def removals(**columns):
    row = {
        "removal": "aggregation by target", "layers": [0], "control": "aggregation by next", "sequences": 64, "before": 60, "lost": 30,
        "control_lost": 2, "lost_share": 0.5, "lost_share_low": 0.37, "lost_share_high": 0.63, "difference": 0.47, "difference_low": 0.33,
        "difference_high": 0.6, "p": 1e-8, "gone": 0.5, "gone_low": 0.4, "gone_high": 0.6, "second_score": 0.35, "second_unedited": 0.02,
        "moved": 25,
    }  # fmt: skip
    return {"removals": table(mediation.REMOVALS_SCHEMA, [row | columns])}


def test_where_the_sink_goes_to_is_part_of_the_claim():
    [first, *_] = settings("C11a", removals())
    assert "position 1 has 0.350 (unedited 0.020) and becomes a sink in 25 sequences" in first.reason
    assert verdict("C11a", removals()) == REPRODUCED


def test_a_removal_that_surely_does_no_more_than_its_control_contradicts_the_claim():
    same = {"control_lost": 30, "difference": 0.0, "p": 1.0}
    assert verdict("C11a", removals(**same, difference_low=-0.05, difference_high=0.05)) == CONTRADICTED
    assert verdict("C11a", removals(**same, difference_low=-0.2, difference_high=0.2)) == UNDECIDED


def test_a_model_without_a_sink_or_without_a_control_has_no_removal_to_judge():
    for columns, reason in (
        ({"before": 0, "difference": None}, "there is none to lose"),
        ({"control": None, "control_lost": None, "difference": None}, "no control"),
    ):
        [first, *_] = settings("C11a", removals(**columns))
        assert verdict("C11a", removals(**columns)) == NOT_APPLICABLE and reason in first.reason
    assert verdict("C11b", removals()) == NOT_APPLICABLE  # the table has no super neurons
    [first] = settings("C11b", removals())
    assert first.reason == "no super neuron raises the first token's norm where it surges"


# ---- 7: predicates that were weak, tautological or wrongly aimed


def test_a_tau_never_lies_outside_its_interval():
    """It was printed as -0.9177 [-0.9127, -0.8432]: replicates have the sampling error twice."""
    rng = np.random.default_rng(0)
    outside = 0
    for _ in range(40):
        replicated = replicated_variances(vectors(rng, 24, 0.8 ** np.arange(16.0), width=4))
        taus = kendall_tau(replicated)
        value, low, high = order_interval(taus[None], RESAMPLING)
        assert low <= value <= high
        outside += not np.percentile(taus[1:], 2.5) <= value <= np.percentile(taus[1:], 97.5)
    assert outside  # the percentiles alone would have done it


def test_ratios_of_a_curve_lie_in_their_intervals():
    rng = np.random.default_rng(1)
    for _ in range(20):
        [row] = trend(vectors(rng, 24, 0.9 ** np.arange(16.0)))["variance_trend"].to_dicts()
        for name in ("ratio_to_highest", "largest_rise", "last_to_second"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"], name


def test_two_rises_near_two_surges_are_held_against_chance():
    """Two of two, of 30 layers: with surges in few layers more than chance, with surges in half of the layers not."""
    few = {"sink_mass": SINK_MASS, "norm_changes": changes([2, 11], 2.0), "sink_changes": changes([3, 12], 0.1)}
    many = few | {"norm_changes": changes(range(1, 29, 3), 2.0), "sink_changes": changes([4, 10], 0.1)}
    [first, *_], [other, *_] = settings("C4", few), settings("C4", many)
    assert first.value == other.value == 1
    np.testing.assert_allclose([first.test.threshold, first.p], [4 / 30, 2 * (4 / 30) ** 2])
    np.testing.assert_allclose([other.test.threshold, other.p], [20 / 30, 2 * (2 / 3) ** 2])
    assert verdict("C4", few) == REPRODUCED and verdict("C4", many) == UNDECIDED


def test_surges_everywhere_leave_nothing_to_chance_and_nothing_to_judge():
    frames = {"sink_mass": SINK_MASS, "norm_changes": changes(range(DEPTH), 2.0), "sink_changes": changes([3], 0.1)}
    assert verdict("C4", frames) == NOT_APPLICABLE
    none = frames | {"norm_changes": changes([], 2.0)}
    assert verdict("C4", none) == UNDECIDED and "the norm rises at layer none" in settings("C4", none)[0].reason


def surge_rows(shares, **columns):
    return table(
        super_neurons.SURGE_SCHEMA,
        [
            {
                "layer": layer, "largest": 0, "few": [7], "few_surge": share, "few_surge_low": share - 0.05, "few_surge_high": share + 0.05,
                "few_largest": share, "few_largest_low": share - 0.05, "few_largest_high": share + 0.05, **columns,
            }
            for layer, share in zip(SURGES, shares, strict=True)
        ],
    )  # fmt: skip


def test_super_neurons_must_carry_each_surge_not_the_largest_only():
    for code in ("C5", "C6"):
        assert verdict(code, WITH_SURGES | {"super_neuron_surge": surge_rows([0.9, 0.8, 0.9])}) == REPRODUCED
        assert verdict(code, WITH_SURGES | {"super_neuron_surge": surge_rows([0.9, 0.2, 0.9])}) == CONTRADICTED
        assert verdict(code, WITH_SURGES | {"super_neuron_surge": surge_rows([0.9, 0.52, 0.9])}) == UNDECIDED
        assert verdict(code, WITH_SURGES | {"super_neuron_surge": surge_rows([0.9, 0.9, 0.9], few=[])}) == CONTRADICTED
    # and only those that a sink follows
    frames = WITH_SURGES | {
        "sink_changes": changes([SURGES[0] + 1], 0.1),
        "super_neuron_surge": surge_rows([0.9, 0.1, 0.1]),
    }
    assert verdict("C5", frames) == REPRODUCED


def test_the_interval_of_the_least_of_several_holds_those_of_all():
    [first, *_] = settings("C5", WITH_SURGES | {"super_neuron_surge": surge_rows([0.9, 0.7, 0.72])})
    assert (first.value, round(first.low, 9), round(first.high, 9)) == (0.7, 0.65, 0.75)


def collapse(cosines):
    rows = [
        {
            "layer": layer, "head": None, **{f"{name}{end}": cosine + shift for name in ("one_dim", "two_dims", "between_sequences")
            for end, shift in (("", 0), ("_low", -0.01), ("_high", 0.01))},
        }
        for layer, cosine in cosines.items()
    ]  # fmt: skip
    return table(keys.KEY_COLLAPSE_SCHEMA, rows)


def test_the_key_is_judged_in_the_layer_of_the_sink_not_in_the_last_one():
    mass = SINK_MASS.with_columns(mass=pl.when(pl.col("layer") == 5).then(0.9).otherwise("mass"))
    right = collapse({layer: 0.97 if layer == 5 else 0.3 for layer in range(DEPTH)})
    wrong = collapse({layer: 0.3 if layer == 5 else 0.97 for layer in range(DEPTH)})
    for code in ("C7a", "C7b"):
        assert verdict(code, {"sink_mass": mass, "key_collapse": right}) == REPRODUCED
        assert verdict(code, {"sink_mass": mass, "key_collapse": wrong}) == CONTRADICTED
        primary = settings(code, {"sink_mass": mass, "key_collapse": right})[0]
        assert "layer 5, where the sink is strongest" in primary.reason


def test_claims_about_the_cause_of_a_sink_are_not_applicable_without_one():
    none = SINK_MASS.with_columns(mass=pl.lit(0.1), mass_low=pl.lit(0.09), mass_high=pl.lit(0.11))
    frames = WITH_SURGES | {
        "sink_mass": none,
        "key_collapse": collapse(dict.fromkeys(range(DEPTH), 0.97)),
        "super_neuron_surge": surge_rows([0.9, 0.9, 0.9]),
        "aligned_heads": heads(1.0, 0.2, 0.001),
    }
    for code in ("C4", "C5", "C6", "C7a", "C7b", "C8"):
        assert verdict(code, frames) == NOT_APPLICABLE, code
        assert "position 0 is no sink" in settings(code, frames)[0].reason


def heads(aligned, other, p):
    row = {"alignment": 0.5, "positive_ratio": 0.95, "aligned": 113, "others": 157, "p": p}
    for name, value in (
        ("aligned_share", aligned),
        ("other_share", other),
        ("difference", aligned - other),
        ("mass_difference", 0.1),
    ):
        row |= {name: value, f"{name}_low": value - 0.02, f"{name}_high": value + 0.02}
    return table(keys.ALIGNED_HEADS_SCHEMA, [row])


def test_aligned_heads_are_held_against_the_others_and_against_chance():
    """All 113 aligned heads have positive scores; that shows nothing where the others have them too, as with random weights."""
    frames = {"sink_mass": SINK_MASS}
    assert verdict("C8", frames | {"aligned_heads": heads(1.0, 0.4, 0.001)}) == REPRODUCED
    assert verdict("C8", frames | {"aligned_heads": heads(1.0, 1.0, 1.0)}) == UNDECIDED
    assert (
        verdict("C8", frames | {"aligned_heads": heads(1.0, 0.4, 0.3)}) == UNDECIDED
    )  # among so few layers it may be chance
    assert verdict("C8", frames | {"aligned_heads": heads(0.4, 1.0, 0.001)}) == CONTRADICTED


# ---- 10: correlations over two points, and differences too small to matter


def test_two_layers_of_heads_cannot_show_a_relation():
    layer = np.array([0, 1])
    alignment, positive = np.array([[0.9, 0.1]] * 101), np.array([[1.0, 0.2]] * 101)
    rows = list(keys.aligned_heads(alignment, positive, positive, layer, RESAMPLING))
    primary = next(row for row in rows if (row["alignment"], row["positive_ratio"]) == (0.5, 0.95))
    assert (primary["difference"], primary["difference_low"], primary["difference_high"]) == (
        1,
        1,
        1,
    )  # the old "1.0 [1, 1], seen"
    assert primary["p"] == 1
    frames = {"sink_mass": SINK_MASS, "aligned_heads": table(keys.ALIGNED_HEADS_SCHEMA, rows)}
    assert verdict("C8", frames) == UNDECIDED


def test_a_flat_curve_and_one_that_rises_by_a_hair_do_not_decide():
    rng = np.random.default_rng(0)
    sharp = {"width": 64, "norms": 0.0}
    assert verdict("C2", trend(vectors(rng, 400, np.ones(16), **sharp))) == UNDECIDED
    rising = 0.5 ** np.minimum(np.arange(16.0), 3)
    rising[8:] *= 1.02  # a rise by a fiftieth, told from sampling error and too small to contradict
    assert verdict("C2", trend(vectors(rng, 400, rising, **sharp))) == REPRODUCED


def test_every_threshold_stands_with_its_reason_before_the_run():
    for claim in CLAIMS.values():
        assert claim.test.why and claim.test.contradicted_by and np.isfinite(claim.test.threshold)
        assert "threshold" not in inspect.signature(claim.settings).parameters


def test_shared_sampling_error_makes_no_order():
    """Flat variances before and after W_O, from the same sequences: τ is high, and says nothing."""
    from ledger_simulations import flat_before_output

    frames = flat_before_output(np.random.default_rng(3), "null", 64)
    [row] = frames["variance_through_output_mean"].filter(reading="group_tau").to_dicts()
    assert row["tau"] > 0.5 and row["tau_low"] < 0.5
    assert variance_through_output.MEAN_SCHEMA.names[3:6] == ["layers", "tau", "tau_low"]
