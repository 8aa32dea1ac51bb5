"""What each claim about trainings, and each account, reads out of seeds and tables of known numbers: words, numbers, thresholds."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ledger_simulations import InMemory
from sinkorigin.claims.accounts import ACCOUNTS, with_account
from sinkorigin.claims.ledger import TRAININGS
from sinkorigin.claims.run_pairs import RunPair, over_seeds
from sinkorigin.claims.tests import Test
from sinkorigin.statistics.binomial import exact_interval
from sinkorigin.statistics.binomial import two_sided_p as share_p
from sinkorigin.statistics.layer_permutations import layer_orders
from sinkorigin.statistics.rank_correlation import permuted_p
from sinkorigin.statistics.student import paired_interval, seeds_needed, two_sided_p

CLAIMS = {claim.code: claim for claim in TRAININGS} | {
    prediction.code: prediction for account in ACCOUNTS for prediction in account.predictions
}
TABLE = ("pretraining_by_seed",)
UNIFORM = 0.05


def pair(prompts="p", first_token="drawn", sink="base has a sink", drawn=True, **quantities):
    """A run beside its baseline: quantity → (values of the run, of the baseline), one a seed, of seeds 0, 1, …"""
    rows = [
        {"run": run, "quantity": name, "seed": seed, "value": value, "uniform": UNIFORM if name.startswith("sink_mass") else None}
        for name, both in quantities.items()
        for run, values in zip(("mine", "base"), both, strict=True)
        for seed, value in enumerate(values)
    ]  # fmt: skip
    schema = {"run": pl.String, "quantity": pl.String, "seed": pl.Int32, "value": pl.Float64, "uniform": pl.Float64}
    return RunPair("mine", "base", prompts, first_token, pl.DataFrame(rows, schema=schema), sink, drawn)


def settings(code, *args, **kwargs):
    return list(CLAIMS[code].settings(pair(*args, **kwargs)))


def mean(values, log=False):
    """Mean and ends of Student's interval, of ratios by their logarithms."""
    found = paired_interval(np.log(values) if log else np.asarray(values))
    return tuple(pytest.approx(float(np.exp(end)) if log else end) for end in found)


def told(one):
    return one.what, one.value, one.low, one.high


MINE, BASE = (2.70, 2.71, 2.69, 2.70), (2.80, 2.82, 2.79, 2.80)
LOSSES = {"validation_loss": (MINE, BASE), "train_loss": (BASE, MINE), "validation_loss_over_training": (MINE, MINE)}
PAIRS = "2.7 against 2.8; 2.71 against 2.82; 2.69 against 2.79; 2.7 against 2.8"


@pytest.mark.parametrize(
    ("code", "sign", "thresholds"), [("C12b", 1, (0.0, -0.005, -0.02)), ("C14b", -1, (0.0, 0.005, 0.02))]
)
def test_losses_are_held_against_several_effects_of_interest(code, sign, thresholds):
    mine, base = (MINE, BASE) if sign > 0 else (BASE, MINE)
    losses = {
        "validation_loss": (mine, base),
        "train_loss": (base, mine),
        "validation_loss_over_training": (mine, mine),
    }
    found = settings(code, None, None, **losses, token_ratio=([0.9, None, 1.0, 1.1], [1.0, 1.0, 1.0, 1.0]))
    difference = np.array(mine) - base
    assert [told(one) for one in found[:4]] == [
        (what, *mean(difference)) for what in ("", *(f"threshold {level:g}" for level in thresholds))
    ]
    own = CLAIMS[code].test
    assert [one.test for one in found[:4]] == [own, *(replace(own, threshold=level) for level in thresholds)]
    assert [one.p for one in found[:4]] == [two_sided_p(difference, one.test.threshold) for one in found[:4]]
    assert (
        found[0].reason
        == "; ".join(f"{a:.4g} against {b:.4g}" for a, b in zip(mine, base, strict=True)) + "; base has a sink"
    )
    assert told(found[4]) == ("training loss", *mean(-difference))
    assert found[4].test == replace(own, quantity=own.quantity.replace("last validation", "last training"))
    assert told(found[5]) == ("mean over the training", 0.0, 0.0, 0.0)
    over = "validation loss, mean over the rows of the history, − the baseline's, mean over seeds (nats per token)"
    assert found[5].test == replace(own, quantity=over)
    assert {one.tables for one in found} == {TABLE}
    if code == "C14b":
        assert told(found[6]) == ("tokens", 0.5, *exact_interval(2, 4)) and found[6].p == share_p(2, 4, 0.5)
        quantity = (
            "share of the seeds that do not reach the baseline's last validation loss with the tokens that the baseline takes to it, exact "
            "binomial interval"
        )
        assert found[6].test == replace(own, quantity=quantity, threshold=0.5, why="in most seeds")
        assert found[6].reason == (
            "no count of 4 seeds decides it, at least 6 do; 2 of 4 seeds; tokens over the baseline's by seed: 0.9, not reached, 1, 1.1; base has a sink"
        )
    assert len(found) == 6 + (code == "C14b")
    nothing = settings(code, None, None, token_ratio=([], []))
    assert [one.what for one in nothing] == [
        "",
        "training loss",
        "mean over the training",
        *(["tokens"] if code == "C14b" else []),
    ]
    assert [one.reason for one in nothing[:3]] == ["run and baseline share no seed that has a value"] * 3 and {
        one.tables for one in nothing
    } == {TABLE}
    assert settings(code, **losses) == []  # on prompts there are no losses


def test_c12a_counts_seeds_that_need_fewer_tokens():
    mine = [0.95, 0.9, 0.8, 1.0, 0.7, 0.6, 0.5]
    found = settings("C12a", None, None, token_ratio=(mine, [1.0] * 7))
    own = CLAIMS["C12a"].test
    tokens = "tokens over the baseline's by seed: 0.95, 0.9, 0.8, 1, 0.7, 0.6, 0.5; base has a sink"
    for one, (level, count) in zip(found[:4], ((0.95, 6), (1.0, 7), (0.9, 5), (0.8, 4)), strict=True):
        assert told(one) == (
            "" if level == 0.95 else f"at most {level:g} of its tokens",
            count / 7,
            *exact_interval(count, 7),
        )
        assert one.reason == f"{count} of 7 seeds; {tokens}" and one.p == share_p(count, 7, 0.5) and one.tables == TABLE
        assert one.test == replace(own, quantity=own.quantity.replace("at most 0.95", f"at most {level:g}"))
    assert told(found[4]) == ("ratio of tokens", *mean(mine, log=True)) and len(found) == 5
    assert found[4].test == replace(
        own,
        quantity="tokens to the baseline's last loss / the baseline's, geometric mean over seeds",
        side="below",
        threshold=0.95,
    )
    needed = f"; some {seeds_needed(np.log(mine), np.log(0.95))} seeds like these would decide"
    assert (
        found[4].reason == "; ".join(f"{value:.4g} against 1" for value in mine) + needed and found[4].tables == TABLE
    )
    missed = settings("C12a", None, None, token_ratio=([None, 0.9, 0.8, None], [1.0, 1.0, 1.0, None]))
    assert (missed[0].value, missed[4].value, missed[4].reason) == (2 / 3, None, "not reached by seed 0, 3")
    assert (missed[4].what, missed[4].tables) == ("ratio of tokens", TABLE)
    none = settings("C12a", None, None, token_ratio=([0.9], []))
    assert [(one.what, one.value, one.reason) for one in none[:2]] == [
        ("", None, "run and baseline share no seed"), ("at most 1 of its tokens", None, "run and baseline share no seed"),
    ]  # fmt: skip
    assert none[0].tables == TABLE and settings("C12a", token_ratio=(mine, mine)) == []


SINK = [0.6, 0.62, 0.61, 0.59]
NO_SINK = [0.06, 0.07, 0.05, 0.06]


@pytest.mark.parametrize("code", ["C13a", "C14a"])
def test_a_sink_is_removed_where_the_baseline_has_one_by_each_factor(code):
    base = [0.2, 0.21, 0.19, 0.2]  # about 4 times uniform attention
    found = settings(code, sink_mass=(NO_SINK, base), sink_mass_normalised=(NO_SINK, base))
    ratios = np.array(NO_SINK) / UNIFORM
    text = f"{ratios.mean():.3g} [{paired_interval(ratios)[1]:.3g}, {paired_interval(ratios)[2]:.3g}] × uniform attention, base 4 [3.74, 4.26]"
    assert [told(one) for one in found[:2]] == [("", *mean(ratios)), ("a sink from 2 × uniform on", *mean(ratios))]
    assert [one.reason for one in found[:2]] == [text] * 2 and {one.tables for one in found} == {TABLE}
    assert [one.test.threshold for one in found[:2]] == [3.0, 2.0] and found[1].p == two_sided_p(ratios, 2.0)
    assert found[0].test == CLAIMS[code].test
    assert (found[2].what, found[2].value) == ("a sink from 5 × uniform on", None) and len(found) == 3
    assert found[2].reason == f"base has no sink that could be removed, with its whole interval: {text}"
    normalised = settings(code, sink_mass=(NO_SINK, base), sink_mass_normalised=([4 * mass for mass in NO_SINK], SINK))
    assert [one.what for one in normalised] == [
        "",
        "rows that sum to one",
        "a sink from 2 × uniform on",
        "a sink from 5 × uniform on",
    ]
    assert told(normalised[1]) == ("rows that sum to one", *mean(4 * ratios)) and normalised[1].test.threshold == 3.0
    close = settings(code, sink_mass=(NO_SINK, base), sink_mass_normalised=([1.0009 * mass for mass in NO_SINK], base))
    apart = settings(code, sink_mass=(NO_SINK, base), sink_mass_normalised=([1.0012 * mass for mass in NO_SINK], base))
    assert (len(close), len(apart)) == (3, 4)
    assert settings(code, train_loss=(MINE, BASE)) == []


def test_the_disparity_is_lowered_where_the_first_token_has_one():
    mine, base = np.array([40.0, 42.0, 38.0]), np.array([80.0, 82.0, 81.0])
    over = [9.0, 9.5, 9.2]
    found = settings(
        "C13b", dimension_disparity=(mine, base), disparity_over_rest=(over, over),
        dimension_disparity_largest=(2 * mine, base), disparity_over_rest_largest=(over, over),
    )  # fmt: skip
    assert [told(one) for one in found] == [
        *((what, *mean(mine / base, log=True)) for what in ("", "threshold 1", "threshold 0.5")), ("largest layer", *mean(2 * mine / base, log=True)),
    ]  # fmt: skip
    own = CLAIMS["C13b"].test
    largest = replace(own, quantity=own.quantity.replace("mean over layers", "largest layer"))
    assert [one.test for one in found] == [own, replace(own, threshold=1.0), replace(own, threshold=0.5), largest]
    assert found[0].reason == "40 against 80; 42 against 82; 38 against 81" and {one.tables for one in found} == {TABLE}
    assert found[1].p == two_sided_p(np.log(mine / base), 0.0)
    none = settings(
        "C13b", dimension_disparity=(mine, base), disparity_over_rest=(over, [1.9, 2.1, 2.0]),
        dimension_disparity_largest=(mine, base), disparity_over_rest_largest=(over, [1.9, 2.1, 2.0]),
    )  # fmt: skip
    reason = (
        "base has no dimension disparity that could be lowered: its first token's dominance ratio is 2 [1.75, 2.25] times the others', and "
        "would have to be 2; 40 against 80; 42 against 82; 38 against 81"
    )
    assert [(one.what, one.value, one.reason, one.tables) for one in none] == [
        ("", None, reason, TABLE),
        ("largest layer", None, reason, TABLE),
    ]
    assert (
        settings("C13b") == []
        and len(settings("C13b", dimension_disparity=(mine, base), disparity_over_rest=(over, over))) == 3
    )


def test_the_rank_is_raised_where_position_0_costs_some():
    mine, base = np.array([450.0, 440.0, 445.0]), np.array([340.0, 350.0, 345.0])
    found = settings("C13c", effective_rank=(mine, base), effective_rank_later=(mine + 10, 1.3 * base))
    assert [told(one) for one in found] == [
        *((what, *mean(mine / base, log=True)) for what in ("", "threshold 1", "threshold 1.2")),
        ("without position 0", *mean((mine + 10) / (1.3 * base), log=True)),
    ]  # fmt: skip
    own = CLAIMS["C13c"].test
    assert [one.test for one in found] == [
        own, replace(own, threshold=1.0), replace(own, threshold=1.2), replace(own, quantity=f"{own.quantity}, without position 0"),
    ]  # fmt: skip
    assert found[0].reason == "450 against 340; 440 against 350; 445 against 345" and {one.tables for one in found} == {
        TABLE
    }
    assert (
        found[3].reason == "460 against 442; 450 against 455; 455 against 448.5; some 5 seeds like these would decide"
    )
    [none] = settings("C13c", effective_rank=(mine, base), effective_rank_later=(mine, 1.05 * base))
    assert (none.what, none.value, none.tables) == ("", None, TABLE)
    assert none.reason == (
        "position 0 does not lower the effective rank of base, so that nothing is to be raised: without it the rank is 1.05 [1.05, 1.05] "
        "times that with it, and would have to be 1.05; 450 against 340; 440 against 350; 445 against 345"
    )
    assert settings("C13c") == []


def test_parity_is_an_equivalence_of_logarithms():
    mine, base = np.array([1.0, 1.1, 0.95]), np.array([5.0, 5.5, 4.8])
    found = settings("C13d", variance_ratio=(mine, base), variance_ratio_mean=(2 * mine, base))
    own = CLAIMS["C13d"].test
    assert [told(one) for one in found] == [
        *((what, *mean(np.log(mine))) for what in ("", "margin 0.1", "margin 0.5")), ("mean over layers", *mean(np.log(2 * mine))),
    ]  # fmt: skip
    assert [one.test for one in found] == [
        own, replace(own, threshold=0.1), replace(own, threshold=0.5), replace(own, quantity=own.quantity.replace("layer 0", "mean over layers")),
    ]  # fmt: skip
    assert found[0].reason.startswith("ratios 1 against 5; 1.1 against 5.5; 0.95 against 4.8") and {
        one.tables for one in found
    } == {TABLE}
    assert found[2].p == two_sided_p(np.log(mine), 0.5) and found[3].p == two_sided_p(np.log(2 * mine), 0.25)
    flat = np.exp([0.2, 0.3, 0.25])
    none = settings("C13d", variance_ratio=(mine, flat), variance_ratio_mean=(mine, base))
    assert (none[0].what, none[0].value, none[0].tables, none[1].what, none[1].value) == (
        "",
        None,
        TABLE,
        "mean over layers",
        mean(np.log(mine))[0],
    )
    assert none[0].reason == (
        "base has no more variance at position 0 than elsewhere, ln ratio 0.25 [0.126, 0.374], and would have to have 0.25; ratios 1 against "
        "1.221; 1.1 against 1.35; 0.95 against 1.284"
    )
    [alike] = settings("C13d", "p", "bos", drawn=False, variance_ratio=(mine, base))
    assert (alike.what, alike.value, alike.tables) == ("", None, TABLE)
    assert (
        alike.reason
        == "all sequences begin with one token, so position 0 has no variance; measure prompts whose first token is drawn"
    )
    assert settings("C13d", "p", "bos", variance_ratio=(mine, base)) == settings("C13d") == []
    assert len(settings("C13d", variance_ratio=(mine, base))) == 3


def test_a_mean_over_seeds_says_how_many_would_decide_it():
    test = Test("q", "within", 0.25, "w", "c")
    one = over_seeds("w", [0.3], test, "r")
    assert (one.value, one.low, one.high, one.p) == (
        0.3,
        None,
        None,
        None,
    ) and one.reason == "r; one seed has no interval: train more"
    some = over_seeds("w", [0.1, 0.35, 0.2], test, "r")
    assert some.p == two_sided_p(np.array([0.1, 0.35, 0.2]), 0.25) and some.reason.startswith("r; some ") and some.reason.endswith(
        " seeds like these would decide"
    )  # fmt: skip
    below = over_seeds("w", [-0.1, -0.35, -0.2], test, "r")
    assert below.p == two_sided_p(np.array([-0.1, -0.35, -0.2]), -0.25)
    on_it = over_seeds("w", [0.15, 0.35, 0.2501], test, "r")
    assert on_it.reason == "r; more than 100 seeds like these would decide"
    far = over_seeds("w", [1.1, 1.2, 1.15], Test("q", "above", 1.0, "w", "c"), "r", log=True)
    assert far.reason == "r" and far.p == two_sided_p(np.log([1.1, 1.2, 1.15]), 0.0) and far.tables == TABLE
    at_the_end = over_seeds("w", [0.25, 0.25], Test("q", "above", 0.25, "w", "c"), "r")
    assert at_the_end.reason == "r; more than 100 seeds like these would decide"


# ---- accounts


def of_tables(code, **frames):
    return list(
        CLAIMS[code].settings(
            InMemory({name: pl.DataFrame(rows, infer_schema_length=None) for name, rows in frames.items()})
        )
    )


def ends(name, value, low, high):
    return {name: value, f"{name}_low": low, f"{name}_high": high}


CONVERSION = {
    "factor": 3.0,
    "strength": 1.0,
    "layers_rule": "until_onset",
    "target": 10,
    "converted": 1,
    "sequences": 8,
    **ends("share", 0.1, 0.0, 0.4),
}


@pytest.mark.parametrize(
    ("code", "kind"),
    [("structural-2", "shuffled_deviations"), ("structural-3", "other_token_only"), ("structural-4", "blind_to_first")],
)
def test_a_share_of_conversions_is_that_of_the_early_layers_nearest_to_the_position_of_the_paper(code, kind):
    row = CONVERSION | {"kind": kind}
    rows = [
        row | {"target": 12, "share": 0.2}, row | {"layers_rule": "numbers", "share": 0.3}, row | {"factor": 2.0, "share": 0.4},
        row | {"kind": "mask", "share": 0.5}, row | {"target": 9},
    ]  # fmt: skip
    [one] = of_tables(code, conversions=rows)
    assert (one.what, one.value, one.low, one.high, one.tables) == ("", 0.1, 0.0, 0.4, ("conversions",))
    assert one.reason == "position 9: 1 of 8 sequences"
    stronger = [row | {"strength": 4.0}]
    assert len(of_tables(code, conversions=stronger)) == (code != "structural-2")
    assert of_tables(code, conversions=rows[3:4]) == of_tables(code) == []


def test_what_the_structural_account_reads_of_contrasts_keys_and_removals():
    contrast = {
        "treatment_kind": "variance_amplification",
        "control_kind": "shuffled_deviations",
        "target": 12,
        **ends("converted_area", 0.05, 0.0, 0.1),
    }
    rows = [
        contrast | {"target": 3},
        contrast,
        contrast | {"control_kind": "norm_control", "target": 10},
        contrast | {"treatment_kind": "x", "target": 10},
    ]
    [one] = of_tables("structural-1", curve_contrasts=rows)
    assert (one.what, one.value, one.low, one.high, one.reason, one.tables) == (
        "",
        0.05,
        0.0,
        0.1,
        "position 12",
        ("curve_contrasts",),
    )
    assert of_tables("structural-1", curve_contrasts=rows[2:]) == of_tables("structural-1") == []
    edit = {
        "kind": "variance_amplification", "site": "value_aggregation", "strength": 8.0, "target": 12, "peak_layer": 4, "key_cosine": 0.8765,
        "baseline_key_cosine": 0.3333, **ends("key_cosine_change", 0.5, 0.4, 0.6),
    }  # fmt: skip
    rows = [
        edit | {"target": 25},
        edit,
        *(edit | {"target": 10} | other for other in ({"kind": "mask"}, {"site": "residual"}, {"strength": 4.0})),
    ]
    [one] = of_tables("structural-6", interventions=rows)
    assert (one.what, one.value, one.low, one.high, one.tables) == ("", 0.5, 0.4, 0.6, ("interventions",))
    assert one.reason == "0.88 against 0.33 in layer 4, position 12"
    assert of_tables("structural-6", interventions=rows[2:]) == of_tables("structural-6") == []
    removal = {"removal": "dominating dims by zero", "lost": 7, "before": 9, **ends("lost_share", 0.7, 0.5, 0.9)}
    rows = [removal | {"removal": "another"}, removal, removal | {"lost": 2}]
    [one] = of_tables("structural-5", removals=rows)
    assert (one.what, one.value, one.low, one.high, one.tables) == ("", 0.7, 0.5, 0.9, ("removals",))
    assert one.reason == "lost in 7 of the 9 sequences with a sink"
    [none] = of_tables("structural-5", removals=[removal | {"lost_share": None}])
    assert (none.what, none.value, none.tables) == ("", None, ("removals",))
    assert none.reason == "in no sequence is position 0 a sink, so there is none to lose"
    assert of_tables("structural-5", removals=rows[:1]) == of_tables("structural-5") == []


@pytest.mark.parametrize(
    ("code", "table", "name", "where"),
    [
        ("drain-1", "value_drain_and_sink", "with_sink", None), ("drain-2", "value_drain_and_sink", "correlation", None),
        ("valley-1", "entropy_valley", "first_token", "layer 7"), ("weight-1", "super_weight", "share", "layer 7"),
    ],
)  # fmt: skip
def test_an_account_reads_a_column_with_its_interval_or_says_why_not(code, table, name, where):
    row = {"not_applicable": None, "p": None, "place": 1, **ends(name, -0.5, -0.7, -0.3)} | (
        {"layer": 7} if where else {}
    )
    rows = [row | {"place": 2, name: 5.0}, row] if code == "weight-1" else [row]
    [one] = of_tables(code, **{table: rows})
    assert (one.what, one.value, one.low, one.high, one.reason, one.tables, one.p) == (
        "",
        -0.5,
        -0.7,
        -0.3,
        where,
        (table,),
        None,
    )
    [none] = of_tables(code, **{table: [row | {name: None, "not_applicable": "experts"}]})
    assert (none.what, none.value, none.reason, none.tables) == ("", None, "experts", (table,))
    [none] = of_tables(code, **{table: [row | {name: None}]})
    assert none.reason == f"{name} is not defined there"
    assert of_tables(code) == []
    if code == "weight-1":
        [none] = of_tables(code, super_weight=[row | {"place": 2, "not_applicable": "no spike"}])
        assert (none.value, none.reason) == (None, "no spike")
        [none] = of_tables(code, super_weight=pl.DataFrame([row]).clear())
        assert none.reason == "share is not defined there"


def test_a_correlation_must_exceed_what_permutations_give():
    row = {"not_applicable": None, "p": 0.02, **ends("correlation", -0.5, -0.7, -0.3)}
    [one] = of_tables("drain-2", value_drain_and_sink=[row])
    assert (one.p, one.reason) == (0.02, "permutations of layers p = 0.02")
    [one] = of_tables("drain-2", value_drain_and_sink=[row | {"p": 1e-9}])
    assert (
        one.p == CLAIMS["drain-2"].test.p(-0.5, -0.7, -0.3) > 1e-9 and one.reason == "permutations of layers p = 1e-09"
    )
    [one] = of_tables("drain-2", value_drain_and_sink=[row | {"correlation_low": None}])
    assert (one.p, one.reason) == (None, None)


def test_entropy_and_sink_are_permuted_over_layers_that_read_the_residual_before_them():
    rng = np.random.default_rng(0)
    mass, entropy = rng.random(8), rng.random(9)
    valley = [{"not_applicable": None, "layer": 3, **ends("correlation", -0.5, -0.7, -0.3)}]
    frames = {
        "entropy_valley": valley, "sink_mass": [{"layer": layer, "mass": value} for layer, value in enumerate(mass)][::-1],
        "matrix_entropy": [
            {"layer": layer - 1, "positions": positions, "over": over, "normalised": value}
            for positions, over, shift in (("later", "sequence", 0), ("all", "tokens", 3), ("all", "sequence", 0))
            for layer, value in enumerate(np.roll(entropy, shift) if positions == "all" else entropy[::-1])
        ],
    }  # fmt: skip
    [one] = of_tables("valley-2", **frames)
    chance = permuted_p(mass, entropy[:8], layer_orders(np.arange(8), seed=0))
    assert one.p == max(chance, CLAIMS["valley-2"].test.p(-0.5, -0.7, -0.3))
    assert one.reason == f"layer 3; permutations of layers p = {chance:.2g}" and one.tables == (
        "entropy_valley",
        "sink_mass",
        "matrix_entropy",
    )
    for name in ("sink_mass", "matrix_entropy"):
        [alone] = of_tables("valley-2", **{key: rows for key, rows in frames.items() if key != name})
        assert (alone.value, alone.p, alone.reason, alone.tables) == (-0.5, None, "layer 3", ("entropy_valley",))
    [none] = of_tables(
        "valley-2", **frames | {"entropy_valley": [valley[0] | {"correlation": None, "not_applicable": "one layer"}]}
    )
    assert (none.value, none.reason) == (None, "one layer") and of_tables("valley-2") == []


def test_variants_that_part_spikes_from_sinks_are_held_against_the_baseline():
    base, mine = np.array(SINK), np.array([0.3, 0.31, 0.29, 0.3])
    [stays] = settings("spike-2", sink_mass=(mine, base))
    assert (
        told(stays) == ("", *mean(mine / UNIFORM, log=True))
        and stays.reason == "base 12.1 [11.7, 12.5]"
        and stays.test == CLAIMS["spike-2"].test
    )
    assert stays.tables == TABLE
    [goes] = settings("drain-3", sink_mass=(mine, base))
    assert goes.test == CLAIMS["drain-3"].test and goes.test.side == "below" and goes.value == stays.value
    for code in ("spike-2", "drain-3"):
        [none] = settings(code, sink_mass=(mine, NO_SINK))
        assert (none.what, none.value, none.tables) == ("", None, TABLE) and none.reason.startswith(
            "base has no sink: 1.2 ["
        )
        assert none.reason.endswith("] × uniform attention") and settings(code) == []
    assert [CLAIMS[f"spike-{number}"].variant for number in range(2, 6)] == [
        "sandwich_norm",
        "sandwich_norm",
        "qk_norm",
        "qk_norm",
    ]


def test_rows_of_predictions_come_in_the_order_of_the_accounts():
    rows = [
        {"claim": "weight-1", "verdict": "a"},
        {"claim": "spike-1", "verdict": "b"},
        {"claim": "C1"},
        {"claim": "structural-2", "verdict": "c"},
    ]
    assert with_account(rows) == [
        {"account": "variance, super neurons and dims", "source": "Li et al. 2026, arXiv 2605.06611", "claim": "structural-2", "verdict": "c"},
        {"account": "norm placement and QK-norm", "source": "Sun et al. 2026, arXiv 2603.05498", "claim": "spike-1", "verdict": "b"},
        {"account": "one super weight", "source": "Yu et al. 2024, arXiv 2411.07191", "claim": "weight-1", "verdict": "a"},
    ]  # fmt: skip
