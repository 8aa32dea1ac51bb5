"""What each primary claim reads out of tables of known numbers: every setting with its words, its numbers and its threshold."""

from dataclasses import replace
from itertools import product

import polars as pl
import pytest

from ledger_simulations import InMemory
from sinkorigin.claims.ledger import PRIMARY
from sinkorigin.claims.sinks import NO_SINK
from sinkorigin.statistics.binomial import exact_interval, two_sided_p

CLAIMS = {claim.code: claim for claim in PRIMARY}


def settings(code, **frames):
    """Settings of a claim over tables, name → rows."""
    return list(
        CLAIMS[code].settings(
            InMemory({name: pl.DataFrame(rows, infer_schema_length=None) for name, rows in frames.items()})
        )
    )


def told(found):
    """Words and numbers of settings."""
    return [(one.what, one.value, one.low, one.high, one.reason) for one in found]


def ends(name, value, low, high):
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def other_tests(code, found):
    """Quantity, side, threshold and reason of the threshold of the settings that are held against another test than the claim's."""
    own = CLAIMS[code].test
    return {
        one.what: (one.test.quantity, one.test.side, one.test.threshold, one.test.why)
        for one in found
        if one.test not in (None, own)
    }


def masses(*strong, layers=6):
    """Sink masses by layer: layers with their mass where it is a sink, little elsewhere."""
    mass = dict.fromkeys(range(layers), 0.05) | dict(strong)
    return [
        {"layer": layer, "uniform": 0.1, **ends("mass", value, value - 0.02, value + 0.02)}
        for layer, value in mass.items()
    ]


def rises(*layers, kind="rise", sure=True):
    rows = [{"kind": kind, "layer": layer, "threshold": 2.0, "change_low": 2.0 if sure else 1.9} for layer in layers]
    return [*rows, {"kind": "fall", "layer": 5, "threshold": 2.0, "change_low": 3.0}]


def test_c0_counts_sequences_by_each_factor_and_gives_the_mean_score():
    rows = [
        {
            "position": position,
            "factor": factor,
            "sequences": 10,
            "sinks": sinks,
            **ends("share", sinks / 10, 0.0, 1.0),
            **ends("ratio", 4.567, 4.0, 5.0),
        }
        for (position, sinks), factor in product(((2, 0), (1, 3), (0, 9)), (5.0, 3.0, 2.0))
    ]
    found = settings("C0", first_position_sinks=rows)
    assert told(found) == [
        ("", 0.9, 0.0, 1.0, "9 of 10 sequences; mean score 4.57 × uniform; position 1 is one in 3"),
        ("a sink from 2 × uniform on", 0.9, 0.0, 1.0, "9 of 10 sequences; mean score 4.57 × uniform"),
        ("a sink from 5 × uniform on", 0.9, 0.0, 1.0, "9 of 10 sequences; mean score 4.57 × uniform"),
        ("mean score", 4.567, 4.0, 5.0, None),
    ]  # fmt: skip
    assert {one.tables for one in found} == {("first_position_sinks",)}
    assert other_tests("C0", found) == {
        "mean score": ("mean score of position 0 / uniform attention", "above", 3.0, "a sink, on average")
    }
    assert settings("C0") == []


def trend(**changed):
    row = {
        "site": "value_aggregation", "layer": 0, "kendall_tau": -0.91234, "not_applicable": None, **ends("ratio", 6.0, 5.0, 7.0),
        **ends("ratio_to_highest", 4.0, 3.0, 5.0), **ends("largest_rise", 0.8, 0.7, 0.9), **ends("last_to_second", 0.4567, 0.3, 0.6),
    }  # fmt: skip
    return [{**row, "layer": 1}, {**row, "site": "residual"}, row | changed]


def test_c1_holds_position_0_against_the_highest_and_against_the_mean():
    found = settings("C1", variance_trend=trend())
    assert told(found) == [("", 4.0, 3.0, 5.0, None), ("against the mean of the others", 6.0, 5.0, 7.0, None)]
    assert {one.tables for one in found} == {("variance_trend",)}
    assert list(other_tests("C1", found).values()) == [
        ("variance at position 0 / mean of the others", "above", 1.1, CLAIMS["C1"].test.why)
    ]
    [none] = settings("C1", variance_trend=trend(ratio_to_highest=None, not_applicable="one token"))
    assert (none.what, none.value, none.reason, none.tables) == ("", None, "one token", ("variance_trend",))
    assert settings("C1", variance_trend=trend()[:2]) == settings("C1") == []


def test_c2_asks_for_no_rise_and_for_a_fall_after_position_0():
    found = settings("C2", variance_trend=trend())
    reason = "the last group varies 0.457 [0.3, 0.6] times as much as position 1; Kendall's τ -0.912, which single positions' noise moves towards 0"
    assert told(found) == [
        ("", 0.8, 0.7, 0.9, reason), ("threshold 1.05", 0.8, 0.7, 0.9, reason), ("threshold 1.2", 0.8, 0.7, 0.9, reason),
        ("after position 0", 0.4567, 0.3, 0.6, None),
    ]  # fmt: skip
    assert [one.test.threshold for one in found] == [1.1, 1.05, 1.2, 1.0] and {one.tables for one in found} == {
        ("variance_trend",)
    }
    own = CLAIMS["C2"].test
    falls = found[3].test
    assert (falls.side, falls.quantity) == (
        "below",
        "mean variance of the last group of positions / variance at position 1, in layer 0",
    )
    for one in found[:3]:
        assert one.p == max(one.test.p(0.8, 0.7, 0.9), falls.p(0.4567, 0.3, 0.6)) and one.test == replace(
            own, threshold=one.test.threshold
        )
    flat = settings("C2", variance_trend=trend(last_to_second=1.0))
    assert [one.p for one in flat[:3]] == [1.0, 1.0, 1.0]  # no rise and no fall: nothing that the claim says
    high = settings("C2", variance_trend=trend(largest_rise_high=1.15))
    assert high[0].p == own.p(0.8, 0.7, 1.15) and high[2].p == max(
        found[3].test.p(0.4567, 0.3, 0.6), high[2].test.p(0.8, 0.7, 1.15)
    )


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"largest_rise": None}, "the variance is known at too few positions"),
        ({"largest_rise": None, "not_applicable": "one token"}, "one token"),
        ({"last_to_second": None, "not_applicable": "one token"}, "the variance is known at too few positions"),
    ],
)
def test_c2_says_why_a_curve_is_not_judged(changed, reason):
    [none] = settings("C2", variance_trend=trend(**changed))
    assert (none.what, none.value, none.low, none.high, none.reason, none.tables) == (
        "",
        None,
        None,
        None,
        reason,
        ("variance_trend",),
    )
    assert settings("C2") == []


def test_c3_reads_the_order_on_both_sides_of_the_output_projection():
    means = [
        {"reading": reading, "layers": layers, "not_applicable": None, **ends("tau", tau, tau - 0.1, tau + 0.1)}
        for reading, layers, tau in (("dim_tau", 5, 0.3), ("group_tau", 6, 0.75), ("position_tau", 6, 0.4))
    ]
    by_layer = [{"layer": layer, **ends("group_tau", tau, 0.5, 0.9)} for layer, tau in ((1, 0.1), (0, 0.7))]
    found = settings("C3", variance_through_output_mean=means, variance_through_output=by_layer)
    mean = "mean over 6 layers"
    assert told(found) == [
        ("", 0.75, 0.65, 0.85, mean), ("threshold 0", 0.75, 0.65, 0.85, mean), ("threshold 0.32", 0.75, 0.65, 0.85, mean),
        ("threshold 0.7", 0.75, 0.65, 0.85, mean), ("layer 0 alone", 0.7, 0.5, 0.9, None),
        ("single positions", 0.4, 0.30000000000000004, 0.5, "not corrected for sampling error that both sides share"),
        ("τ over dims", 0.3, 0.19999999999999998, 0.4, "mean over 5 layers"),
    ]  # fmt: skip
    assert [one.tables for one in found] == [
        ("variance_through_output" if "alone" in one.what else "variance_through_output_mean",) for one in found
    ]
    quantities = {what: (quantity, threshold) for what, (quantity, _, threshold, _) in other_tests("C3", found).items()}
    own = CLAIMS["C3"].test.quantity
    assert quantities == {
        "threshold 0": (own, 0.0), "threshold 0.32": (own, 0.32), "threshold 0.7": (own, 0.7),
        "single positions": ("Kendall's τ between the variances of single positions before and after W_O, mean over layers", 0.5),
        "τ over dims": (
            "Kendall's τ over dims of the value aggregation between their standard deviation and the norm of their column in W_O, mean over layers",
            0.0,
        ),
    }  # fmt: skip
    assert (
        found[-1].test.why
        == "the paper gives a mean τ of 0.32 without saying over which pairs; this is the other reading"
    )
    no_dims = settings("C3", variance_through_output_mean=[means[0] | {"tau": None}, *means[1:]])
    assert [one.what for one in no_dims] == ["", "threshold 0", "threshold 0.32", "threshold 0.7", "single positions"]
    [none] = settings(
        "C3", variance_through_output_mean=[means[0], means[1] | {"tau": None, "not_applicable": "no W_O"}, means[2]]
    )
    assert (none.what, none.value, none.reason, none.tables) == ("", None, "no W_O", ("variance_through_output_mean",))
    assert settings("C3") == []


def test_c4_holds_rises_near_a_surge_against_chance():
    frames = {"sink_mass": masses((2, 0.7), (3, 0.6)), "norm_changes": rises(1, 4), "sink_changes": rises(2, 3, 5)}
    found = settings("C4", **frames)
    seen = [(1, 4, 2, 5), (1, 4), (1, 2, 3, 4, 5)]  # layers that lie near by each distance: 1, 0, 2
    for one, near, distance in zip(found, seen, ("", "in the same layer", "within 2 layers"), strict=True):
        hits = len({2, 3, 5} & set(near))
        assert (one.what, one.value, one.low, one.high) == (distance, hits / 3, *exact_interval(hits, 3))
        assert one.reason == (
            f"the norm rises at layer 1, 4, the sink mass at 2, 3, 5; {len(near)} of 6 layers lie that near to a rise of the norm"
        )
        assert (
            one.test == replace(CLAIMS["C4"].test, threshold=len(near) / 6, level="")
            and one.test.words == f"> {len(near) / 6:.4g}"
        )
        assert one.p == two_sided_p(hits, 3, len(near) / 6) and one.tables == ("norm_changes", "sink_changes")
    none_of_the_norm = settings("C4", **frames | {"norm_changes": rises(1, sure=False)})
    assert none_of_the_norm[0].reason.startswith("the norm rises at layer none, the sink mass at 2, 3, 5; 0 of 6")
    everywhere = settings("C4", **frames | {"norm_changes": rises(0, 2, 4)})
    assert [one.value is None for one in everywhere] == [True, False, True]
    assert everywhere[0].reason == "every layer lies that near to a rise of the norm, so chance would give all of them"
    assert everywhere[2].what == "within 2 layers" and everywhere[0].tables == ("norm_changes", "sink_changes")
    [flat] = settings("C4", **frames | {"sink_changes": rises()})
    assert (flat.what, flat.value, flat.reason) == ("", None, "the sink mass rises by its threshold in no layer")
    assert flat.tables == ("norm_changes", "sink_changes")
    [without] = settings("C4", **frames | {"sink_mass": masses()})
    assert (without.what, without.value, without.reason, without.tables) == (
        "",
        None,
        NO_SINK,
        ("norm_changes", "sink_changes"),
    )
    assert all(settings("C4", **{k: v for k, v in frames.items() if k != name}) == [] for name in frames)


def surge(layer, few, value, **changed):
    row = {
        "layer": layer, "few": few, "largest": 7, "not_applicable": None, **ends("few_surge", value, value - 0.05, value + 0.05),
        **ends("few_largest", value + 0.1, value, value + 0.2), **ends("accounted", 0.5, 0.4, 0.6),
    }  # fmt: skip
    return row | changed


@pytest.mark.parametrize(("code", "shift"), [("C5", 0.0), ("C6", 0.1)])
def test_c5_and_c6_judge_the_surge_of_which_neurons_write_least(code, shift):
    frames = {"sink_mass": masses((2, 0.7)), "norm_changes": rises(1, 2, 4), "sink_changes": rises(2, 4)}
    surges = [surge(1, [90, 3], 0.8), surge(2, [4], 0.7), surge(3, [1], 0.1), surge(4, [5], 0.9, accounted=None)]
    found = settings(code, **frames, super_neuron_surge=surges)
    low, high = (0.65, 0.75) if code == "C5" else (0.7, 0.9)
    value = 0.7 + shift
    where = "layer 2, neuron 4"
    assert told(found[:3]) == [
        (what, pytest.approx(value), pytest.approx(low), pytest.approx(high), where)
        for what in ("", "threshold 0.25", "threshold 0.75")
    ]
    assert [one.test and one.test.threshold for one in found[:3]] == [None, 0.25, 0.75] and found[1].p is found[
        2
    ].p is None
    parts = found[3:6]
    assert [(one.what, one.reason) for one in parts] == [
        ("the surge in layer 1", "layer 1, neurons 90, 3"), ("the surge in layer 2", where), ("the surge in layer 4", "layer 4, neuron 5"),
    ]  # fmt: skip
    assert [one.value for one in parts] == pytest.approx([0.8 + shift, value, 0.9 + shift])
    assert found[0].p == max(CLAIMS[code].p(one) for one in parts)
    assert {one.tables for one in found} == {("super_neuron_surge",)}
    assert told(found[6:]) == (
        [(f"its largest neuron alone, layer {layer}", 0.5, 0.4, 0.6, "neuron 7") for layer in (1, 2)]
        if code == "C5"
        else []
    )
    one = settings(code, **frames | {"sink_changes": rises(2), "norm_changes": rises(2)}, super_neuron_surge=surges)
    assert [part.what for part in one][:3] == ["", "threshold 0.25", "threshold 0.75"]
    assert [part.what for part in one][3:] == (["its largest neuron alone, layer 2"] if code == "C5" else [])
    name = "few_surge" if code == "C5" else "few_largest"
    nothing = settings(
        code, **frames, super_neuron_surge=[surges[0], surge(2, [], 0.3) | ends(name, None, None, None), surges[3]]
    )
    assert told(nothing[:1]) == [("", 0.0, 0.0, pytest.approx(0.0), "layer 2, no super neuron")]
    for changed, reason in (
        ({}, "layer 2: it adds less than half of the norm"), ({"not_applicable": "experts"}, "layer 2: experts"),
    ):  # fmt: skip
        rows = [surges[0], surges[1] | ends(name, None, None, None) | changed, surges[3]]
        [none] = settings(code, **frames, super_neuron_surge=rows)
        assert (none.what, none.value, none.reason, none.tables) == ("", None, reason, ("super_neuron_surge",))
    [none] = settings(code, **frames | {"sink_changes": rises(0)}, super_neuron_surge=surges)
    assert none.reason == "no rise of the first token's norm is followed by one of the sink mass"
    [none] = settings(code, **frames | {"sink_mass": masses()}, super_neuron_surge=surges)
    assert (none.what, none.reason) == ("", NO_SINK)
    assert settings(code, **frames) == []


def test_c7_reads_the_layer_of_the_strongest_sink_and_then_the_others():
    frames = {"sink_mass": masses((4, 0.6), (2, 0.9), (1, 0.5), (5, 0.4))}
    rows = [
        {"layer": layer, "head": head, "not_applicable": None, **ends("between_sequences", layer / 10, 0.1, 0.9), **ends("one_dim", 0.8, 0.7, 0.9),
         **ends("two_dims", 0.85, 0.8, 0.9)}
        for layer, head in product(range(6), (0, None))
    ]  # fmt: skip
    rows[-1] |= {"between_sequences": None, "one_dim": None}  # the mean over heads in layer 5
    where = "layer 2, where the sink is strongest"
    fixed = settings("C7a", **frames, key_collapse=rows)
    assert told(fixed) == [
        ("", 0.2, 0.1, 0.9, where), *((f"threshold {level}", 0.2, 0.1, 0.9, where) for level in ("0.8", "0.95", "0.99")),
        ("layer 1", 0.1, 0.1, 0.9, None), ("layer 4", 0.4, 0.1, 0.9, None),
    ]  # fmt: skip
    assert [one.test and one.test.threshold for one in fixed] == [None, 0.8, 0.95, 0.99, None, None]
    one_dim = settings("C7b", **frames, key_collapse=rows)
    assert told(one_dim) == [
        ("", 0.8, 0.7, 0.9, where), ("threshold 0.8", 0.8, 0.7, 0.9, where), ("threshold 0.95", 0.8, 0.7, 0.9, where),
        ("from two dims", 0.85, 0.8, 0.9, where), ("layer 1", 0.8, 0.7, 0.9, None), ("layer 4", 0.8, 0.7, 0.9, None),
    ]  # fmt: skip
    assert {one.tables for one in fixed + one_dim} == {("key_collapse",)}
    rows[5] |= {"one_dim": None, "not_applicable": "a bias"}
    lacking = settings("C7b", **frames, key_collapse=rows)
    assert (lacking[0].what, lacking[0].value, lacking[0].reason, lacking[0].tables) == (
        "",
        None,
        "a bias",
        ("key_collapse",),
    )
    assert [one.what for one in lacking[1:]] == ["from two dims", "layer 1", "layer 4"]
    [none] = settings("C7a", sink_mass=masses(), key_collapse=rows)
    assert (none.what, none.value, none.reason, none.tables) == ("", None, NO_SINK, ("key_collapse",))
    assert settings("C7a", **frames) == []


def test_c8_compares_aligned_heads_with_the_others_under_each_pair_of_thresholds():
    row = {
        "aligned": 10, "others": 5, "p": 0.03, **ends("difference", 0.4, 0.3, 0.5), **ends("aligned_share", 0.9, 0.8, 1.0), "other_share": 0.5,
        **ends("mass_difference", 0.2, 0.1, 0.3),
    }  # fmt: skip
    rows = [
        {"alignment": 0.3, "positive_ratio": 0.9, **row}, {"alignment": 0.5, "positive_ratio": 0.95, **row},
        {"alignment": 0.5, "positive_ratio": 0.9, **row, "aligned": 0, "difference": None},
        {"alignment": 0.7, "positive_ratio": 0.95, **row, "aligned": 15, "others": 0, "difference": None},
    ]  # fmt: skip
    found = settings("C8", sink_mass=masses((2, 0.7)), aligned_heads=rows)
    reason = "90% of 10 aligned heads, 50% of 5 others"
    assert told(found) == [
        ("", 0.4, 0.3, 0.5, reason), ("their share by itself", 0.9, 0.8, 1.0, reason), ("their attention", 0.2, 0.1, 0.3, None),
        ("|cos| > 0.3, 90% of the scores", 0.4, 0.3, 0.5, reason), ("|cos| > 0.5, 90% of the scores", None, None, None, "no head is aligned"),
        ("|cos| > 0.7, 95% of the scores", None, None, None, "every head is aligned, so there is none to compare with"),
    ]  # fmt: skip
    assert {one.tables for one in found} == {("aligned_heads",)}
    assert found[0].p == 0.03 > CLAIMS["C8"].test.p(0.4, 0.3, 0.5) and found[1].p is None
    wide = settings("C8", sink_mass=masses((2, 0.7)), aligned_heads=[rows[1] | {"difference_low": 0.05}])
    assert wide[0].p == CLAIMS["C8"].test.p(0.4, 0.05, 0.5) > 0.03
    assert other_tests("C8", found) == {
        "their share by itself": ("share of the aligned heads whose scores are positive", "above", 0.9, "about all means nine of ten"),
        "their attention": ("mean sink mass of the aligned heads − that of the others", "above", 0.0, "a relation, not a level"),
    }  # fmt: skip
    [none] = settings("C8", sink_mass=masses(), aligned_heads=rows)
    assert (none.what, none.value, none.reason, none.tables) == ("", None, NO_SINK, ("aligned_heads",))
    assert settings("C8", sink_mass=masses((2, 0.7))) == []


def test_c9_begins_with_the_mask_until_the_onset_at_the_position_of_the_paper():
    row = {
        "kind": "mask", "intervention": "early mask", "layers_rule": "until_onset", "layers": [0, 1, 2], "positions": [10], "target": 10, "factor": 3.0,
        "converted": 8, "sequences": 10, "before": 1, **ends("share", 0.8, 0.5, 0.9),
    }  # fmt: skip
    rows = [
        row | {"target": 20, "positions": [20], "share": 0.6}, row | {"factor": 2.0, "share": 0.9}, row, row | {"kind": "mean_shift"},
        row | {"positions": [10, 20]}, row | {"target": 0, "positions": [0]}, row | {"layers": [0], "layers_rule": "numbers", "share": 0.3},
        row | {"layers": [3, 4], "layers_rule": "later", "share": 0.0}, row | {"intervention": "twin"}, row | {"factor": 5.0, "target": 7, "share": 0.1},
    ]  # fmt: skip
    found = settings("C9", conversions=rows)
    reason = "position {}, layers 0 to {}: 8 of 10 sequences, 1 had a sink there unedited"
    assert [(one.what, one.value, one.reason) for one in found] == [
        ("", 0.8, reason.format(10, 2)), ("twin", 0.8, reason.format(10, 2)), ("a sink from 2 × uniform on", 0.9, reason.format(10, 2)),
        ("position 7, a sink from 5 × uniform on", 0.1, reason.format(7, 2)), ("position 20", 0.6, reason.format(20, 2)),
        ("layers 0 to 0", 0.3, reason.format(10, 0)),
    ]  # fmt: skip
    assert {(one.low, one.high, one.tables) for one in found} == {(0.5, 0.9, ("conversions",))}
    numbers = [row | {"layers_rule": "numbers", "layers": [1]}]
    assert [one.what for one in settings("C9", conversions=numbers)] == [""]
    assert settings("C9", conversions=rows[3:6]) == settings("C9") == []


def test_c10_holds_amplification_against_the_norm_first():
    row = {
        "treatment_kind": "variance_amplification", "control_kind": "norm_control", "target": 10, "strengths": [1.0, 2.0, 8.0], "ever": 9, "sequences": 10,
        "control_ever": 2, "ever_p": 0.01234, **ends("converted_area", 0.5, 0.4, 0.6), **ends("area", 0.05, 0.04, 0.06),
    }  # fmt: skip
    rows = [
        row | {"control_kind": "mean_shift"}, row | {"target": 25}, row, row | {"control_kind": "shuffled_deviations"},
        row | {"treatment_kind": "mean_and_deviation"}, row | {"target": 8},
    ]  # fmt: skip
    found = settings("C10", curve_contrasts=rows)
    reason = "λ from 1 to 8: converted at any of them 9 of 10 sequences, by the control 2 (McNemar p = 0.012)"
    places = [
        "",
        "position 8, against norm control",
        "position 25, against norm control",
        "position 10, against mean shift",
    ]
    assert told(found[::2]) == [(what, 0.5, 0.4, 0.6, reason) for what in places]
    assert told(found[1::2]) == [
        (f"{what or 'position 10'}, scores", 0.05, 0.04, 0.06, "λ from 1 to 8") for what in places
    ]
    assert {one.tables for one in found} == {("curve_contrasts",)} and [one.test for one in found[::2]] == [None] * 4
    scores = ("mean over λ, evenly in log λ, of the score at the target − that under the control", "above", 0.0)
    assert set(other_tests("C10", found).values()) == {
        (*scores, "scores have no unit in which an effect is of interest")
    }
    assert settings("C10") == []


REMOVAL = {
    "removal": "super neurons by zero", "control": "random neurons by zero", "before": 9, "lost": 8, "control_lost": 1, "p": 0.0321, "moved": 2,
    "second_score": 0.0511, "second_unedited": 0.0209, **ends("difference", 0.7, 0.5, 0.9), **ends("lost_share", 0.8, 0.6, 0.95),
    **ends("gone", 0.65, 0.6, 0.7),
}  # fmt: skip


def test_c11_holds_each_removal_against_its_controls():
    rows = [
        REMOVAL | {"removal": "dominating dims by mean", "control": "random dims"}, REMOVAL | {"removal": "another"}, REMOVAL,
        REMOVAL | {"control": "other neurons"}, REMOVAL | {"removal": "super neurons by mean", "control": None},
        REMOVAL | {"removal": "super neurons by mean"}, REMOVAL | {"removal": "dominating dims by zero"},
    ]  # fmt: skip
    found = settings("C11b", removals=rows)
    end = "in 1 (McNemar p = 0.032); 65% of the attention goes; position 1 has 0.051 (unedited 0.021) and becomes a sink in 2 sequences"
    by = "against random neurons by zero"
    expected = [
        ("", "random neurons by zero"), ("against other neurons", "other neurons"), (f"set to their mean at a later position, {by}", "random neurons by zero"),
        (f"the dims that they write, set to zero, {by}", "random neurons by zero"),
        ("the dims that they write, set to their mean at a later position, against random dims", "random dims"),
    ]  # fmt: skip
    assert told(found[:5]) == [
        (what, 0.7, 0.5, 0.9, f"lost in 8 of the 9 sequences with a sink, under {control} {end}")
        for what, control in expected
    ]
    assert told(found[5:]) == [
        ("its share by itself", 0.8, 0.6, 0.95, None),
        ("attention that goes", 0.65, 0.6, 0.7, None),
    ]
    assert {one.tables for one in found} == {("removals",)} and {one.p for one in found} == {None}
    assert other_tests("C11b", found) == {
        "its share by itself": (
            "share of the sequences with a sink at position 0 that lose it",
            "above",
            0.5,
            "in most of them",
        ),
        "attention that goes": ("share of the attention on position 0 that goes", "above", 0.5, "in most of them"),
    }
    alone = settings("C11a", removals=[REMOVAL | {"removal": "aggregation by target"}, *rows])
    assert [one.what for one in alone] == ["", "its share by itself", "attention that goes"]


@pytest.mark.parametrize(
    ("code", "changed", "reason"),
    [
        (
            "C11b",
            {"before": 0, "control": None},
            "in no sequence is position 0 a sink, so there is none to lose (a sink: 3 times the uniform score)",
        ),
        (
            "C11b",
            {"p": None},
            "the sequences with a sink at position 0 come from fewer than 8 documents, so there is no interval",
        ),
        ("C11b", {"removal": "x"}, "no super neuron raises the first token's norm where it surges"),
        ("C11a", {}, "the study does not remove the aggregation"),
    ],
)
def test_c11_says_why_a_removal_is_not_judged(code, changed, reason):
    [none] = settings(code, removals=[REMOVAL | changed])
    assert (none.what, none.value, none.reason, none.tables) == ("", None, reason, ("removals",))
    assert settings(code) == []
