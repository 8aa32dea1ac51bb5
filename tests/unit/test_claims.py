"""Every verdict can turn: the same claim is seen, undecided, not seen or not applicable as the tables say."""

import numpy as np
import polars as pl
import pytest

from claim_tables import declared_tables
from intervention_tables import resolved, write_study
from sinkorigin.claims.ledger import judge
from sinkorigin.claims.page import render_html
from sinkorigin.claims.verdicts import NOT_APPLICABLE, NOT_SEEN, SEEN, UNDECIDED, Judged, verdict
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.interventions import compute

MODEL = Judged("m", "M, dequantised from Q4_1", "pretrained")
CONTROL = Judged("r", "M, random weights", "random")


def write(root, model, name, rows):
    path = root / "statistics" / model / "p" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows).write_parquet(path)


def verdicts(root, models=(MODEL,)):
    table = judge(declared_tables(root), models=models, prompts=["p"])
    return {row["claim"]: row["verdict"] for row in table.to_pylist()}


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (2.0, 1.5, 2.5, SEEN),
        (2.0, 0.5, 3.0, UNDECIDED),
        (2.0, None, None, UNDECIDED),
        (0.9, 0.5, 3.0, NOT_SEEN),
        (None, None, None, NOT_APPLICABLE),
        (float("nan"), 0.0, 1.0, NOT_APPLICABLE),
    ],
)
def test_the_verdict_follows_from_the_interval(value, low, high, expected):
    assert verdict(value, low, high, lambda x: x > 1) == expected


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        ((5.0, 4.0, 6.0), SEEN),
        ((1.2, 0.8, 1.6), UNDECIDED),
        ((0.7, 0.5, 2.0), NOT_SEEN),
        ((None, None, None), NOT_APPLICABLE),
    ],
)
def test_variance_discrepancy_turns_with_its_table(tmp_path, ratio, expected):
    row = {"site": "value_aggregation", "layer": 0}
    row |= dict(zip(("ratio", "ratio_low", "ratio_high"), ratio, strict=True))
    row |= {"kendall_tau": -0.5, "kendall_tau_low": -0.6, "kendall_tau_high": -0.4}
    write(tmp_path, "m", "variance_trend", [row])
    found = verdicts(tmp_path)
    assert found == {"variance discrepancy": expected, "variance decay": SEEN}


@pytest.mark.parametrize(("mass", "sink", "none"), [(0.6, SEEN, NOT_SEEN), (0.08, NOT_SEEN, SEEN)])
def test_sink_and_its_absence_in_the_control_turn_with_the_mass(tmp_path, mass, sink, none):
    row = {"layer": 0, "mass": mass, "mass_low": mass * 0.9, "mass_high": mass * 1.1, "uniform": 0.074}
    for name in "mr":
        write(tmp_path, name, "sink_mass", [row])
    assert verdicts(tmp_path, [MODEL, CONTROL]) == {"sink": sink, "no sink": none}


@pytest.mark.parametrize(("first", "expected"), [(0.5, SEEN), (0.05, NOT_SEEN)])
def test_sink_rate_turns_with_the_rates(tmp_path, first, expected):
    rows = [
        {"epsilon": 0.3, "position": k, "rate": r, "rate_low": r - 0.01, "rate_high": r + 0.01}
        for k, r in enumerate([first, 0.1, 0.1, 0.0, 0.0, 0.9])  # the last position attends to itself
    ]
    write(tmp_path, "m", "sink_rate", rows)
    assert verdicts(tmp_path) == {"sink rate": expected}


@pytest.mark.parametrize(("onset", "surge", "expected"), [(3, 2, SEEN), (9, 2, NOT_SEEN), (None, 2, NOT_SEEN)])
def test_sink_with_surge_turns_with_the_layers(tmp_path, onset, surge, expected):
    for name, layer in (("sink_onset", onset), ("norm_surge", surge)):
        low = 30 if layer is None else layer
        write(tmp_path, "m", name, [{"threshold": 0.3, "layer": layer, "layer_low": low, "layer_high": low}])
    assert verdicts(tmp_path)["sink with surge"] == expected


def write_edits(
    root, model, *, amplified, scaled, masked, late=0.01, swapped=0.2, first=0.1, target=5, lacking=None, rules=None
):
    """The tables of interventions whose scores at the target, or at position 0, have these means.

    Args:
        lacking: name → reason of those that cannot be made; rules: name → rule of its layers.
    """
    rng = np.random.default_rng(0)

    def point(kind, mean, **other):
        return {"kind": kind, "target": target, "score": mean * (1 + 0.05 * rng.standard_normal((12, 4, 2))), **other}

    edits = {
        "mask": {1.0: [point("mask", masked)]},
        "late": {1.0: [point("mask", late, layers=[2])]},
        "amplify": {s: [point("variance_amplification", amplified * s / 4)] for s in (2.0, 4.0)},
        "scale": {s: [point("norm_control", scaled)] for s in (2.0, 4.0)},
        "shuffle": {s: [point("shuffled_deviations", swapped)] for s in (2.0, 4.0)},
        "grid": {
            s: [point("mean_and_deviation", amplified * s / 4 / f, mean_factor=f) for f in (1.0, 2.0)]
            for s in (2.0, 4.0)
        },
    }
    zero = {}
    for name, kind in (
        ("silent", "super_neuron_ablation"),
        ("zeroed", "dominating_dims"),
        ("meaned", "dominating_dims"),
    ):
        zero[name] = {1.0: [point(kind, first if name != "meaned" else 0.5, target=0)]}
        zero[name][1.0][0]["first"] = zero[name][1.0][0]["score"]
    baseline = [point("baseline", 0.01), point("baseline", 0.5, target=0)]
    for own in baseline:
        own["first"] = baseline[1]["score"]
    every, lacking = edits | zero, lacking or {}
    nothing = {"applicable": False, "positions": [], "layers": [], "how": None}
    facts = {"zeroed": {"to": "zero"}, "meaned": {"to": "mean"}}
    for name, reason in lacking.items():
        facts[name] = facts.get(name, {}) | nothing | {"reason": reason}
    found = compute(
        write_study(root / "made" / model, baseline, {k: v for k, v in every.items() if k not in lacking}, length=16, rules=rules),
        model=model, prompts="p", length=16, resampling=Resampling(50, 0), comparison_replicates=1000, only=None,
    )  # fmt: skip
    found["resolved_interventions"] = resolved(every, rules=rules, facts=facts)
    for name, table in found.items():
        write(root, model, name, pl.from_arrow(table))


def test_interventions_turn_with_their_scores(tmp_path):
    write_edits(tmp_path, "m", amplified=0.4, scaled=0.012, masked=0.3)
    found = verdicts(tmp_path)
    assert set(found.values()) == {SEEN}
    assert len(found) == 11
    write_edits(tmp_path, "m", amplified=0.04, scaled=0.2, masked=0.02, late=0.2, swapped=0.08, first=0.45)
    turned = verdicts(tmp_path)
    stay = {"score rises with λ", "dispersion, not variance", "attention kept without it"}
    assert {claim for claim, own in turned.items() if own == SEEN} == stay
    assert turned.keys() == found.keys()


def test_a_fall_with_the_strength_and_a_grid_that_follows_the_variance_are_told(tmp_path):
    write_edits(tmp_path, "m", amplified=0.4, scaled=0.012, masked=0.3)
    for name, columns in {
        "dose_response": ("kendall_tau", "kendall_tau_low_all", "kendall_tau_high_all"),
        "dispersion_grid": ("difference", "difference_low_all", "difference_high_all"),
    }.items():
        path = tmp_path / "statistics" / "m" / "p" / f"{name}.parquet"
        table = pl.read_parquet(path)
        table.with_columns(pl.lit(-0.5).alias(column) for column in columns).write_parquet(path)
    found = verdicts(tmp_path)
    assert found["score rises with λ"] == found["dispersion, not variance"] == NOT_SEEN


def test_what_cannot_be_told_is_not_applicable(tmp_path):
    write_edits(tmp_path, "m", amplified=0.4, scaled=0.012, masked=0.3)
    path = tmp_path / "statistics" / "m" / "p" / "interventions.parquet"
    table = pl.read_parquet(path)
    no_sink = pl.when((pl.col("kind") == "baseline") & (pl.col("target") == 0)).then(0.1).otherwise("score_low_all")
    nowhere = pl.when(pl.col("intervention") == "late").then(None).otherwise("reached_score")
    table.with_columns(no_sink.alias("score_low_all"), nowhere.alias("reached_score")).write_parquet(path)
    grid = tmp_path / "statistics" / "m" / "p" / "dispersion_grid.parquet"
    one_strength = [pl.lit(None, pl.Float64).alias(name) for name in ("variance_tau", "difference")]
    pl.read_parquet(grid).with_columns(one_strength).write_parquet(grid)
    found = verdicts(tmp_path)
    assert {claim for claim, own in found.items() if own == NOT_APPLICABLE} == {
        "attention lost without it", "attention kept without it", "late mask makes no sink", "dispersion, not variance",
    }  # fmt: skip


def test_an_amplification_of_position_0_is_said_to_keep_its_attention(tmp_path):
    write_edits(tmp_path, "m", amplified=0.4, scaled=0.012, masked=0.3)
    path = tmp_path / "statistics" / "m" / "p" / "interventions.parquet"
    table = pl.read_parquet(path)
    amplified = pl.when(pl.col("intervention") == "meaned").then(pl.lit("variance_amplification")).otherwise("kind")
    strength = pl.when(pl.col("intervention") == "meaned").then(8.0).otherwise("strength")
    table.with_columns(amplified.alias("kind"), strength.alias("strength")).write_parquet(path)
    rows = judge(declared_tables(tmp_path), models=[MODEL], prompts=["p"]).to_pylist()
    [row] = [row for row in rows if row["claim"] == "attention kept without it"]
    assert "with its deviations times 8, position 0 keeps its attention" in row["statement"] and row["verdict"] == SEEN


def test_a_control_that_answers_to_an_edit_is_told(tmp_path):
    write_edits(tmp_path, "r", amplified=0.01, scaled=0.01, masked=0.2)
    found = verdicts(tmp_path, [CONTROL])
    names = ("mask", "amplify", "scale")
    assert [found[f"no sink by {name}"] for name in names] == [NOT_SEEN, SEEN, SEEN]


def test_what_a_model_lacks_is_one_row_with_its_reason_and_the_rest_is_judged(tmp_path):
    lacking = {
        "silent": "no super neuron was found", "late": "the model has too few layers", "grid": "no grid", "amplify": "no dose",
    }  # fmt: skip
    write_edits(tmp_path, "m", amplified=0.4, scaled=0.012, masked=0.3, lacking=lacking, rules={"late": "late"})
    rows = judge(declared_tables(tmp_path), models=[MODEL], prompts=["p"]).to_pylist()
    left_out = {row["reason"]: (row["claim"], row["statement"]) for row in rows if row["verdict"] == NOT_APPLICABLE}
    assert left_out == {
        "no super neuron was found": (
            "attention lost without it", "under super neuron ablation (silent), position 0 loses most of its attention",
        ),
        "the model has too few layers": ("late mask makes no sink", "mask (late, layers late) makes no sink"),
        "no grid": ("effect of grid", "effect of mean and deviation (grid)"),
        "no dose": ("amplified variance makes a sink", "amplifying the variance makes a sink (amplify)"),
    }  # fmt: skip
    judged = {row["claim"] for row in rows if row["verdict"] == SEEN}
    assert judged == {
        "mask makes a sink", "norm control makes no sink", "shuffled deviations make a sink", "attention lost without it",
        "attention kept without it",
    }  # fmt: skip


def test_a_model_that_allows_no_edit_has_a_row_for_each(tmp_path):
    names = ("mask", "late", "amplify", "scale", "shuffle", "grid", "silent", "zeroed", "meaned")
    for model in "mr":
        lacking = {name: f"no {name}" for name in names}
        write_edits(tmp_path, model, amplified=0.4, scaled=0.012, masked=0.3, lacking=lacking)
    rows = judge(declared_tables(tmp_path), models=[MODEL, CONTROL], prompts=["p"]).to_pylist()
    assert [row["reason"] for row in rows] == [f"no {name}" for name in names] * 2
    assert {row["verdict"] for row in rows} == {NOT_APPLICABLE}
    assert all(row["claim"].startswith("no sink by ") for row in rows if row["model"] == CONTROL.label)


def test_which_mask_is_the_main_one_is_said_by_its_rule(tmp_path):
    """By numbers alone, a mask of all layers would be the one that begins earliest and goes on longest."""
    write_edits(tmp_path, "m", amplified=0.4, scaled=0.012, masked=0.3, rules={"mask": "until_onset", "late": "surges"})
    assert (
        "late mask makes no sink" not in (found := verdicts(tmp_path)) and "mask of other layers makes a sink" in found
    )
    write_edits(tmp_path, "m", amplified=0.4, scaled=0.012, masked=0.3, rules={"mask": "until_onset", "late": "late"})
    assert "late mask makes no sink" in verdicts(tmp_path)


def trained_tables(root, differences, *, variant="headwise_rmsnorm", base=None, other=None):
    """What the comparison reads, for two runs with these differences of their losses, and masses, ratios and ranks."""
    rows, models = [], []
    common = {"uniform": None, "epsilon": None, "unit": "1"}
    for run, own in (("base", "softmax"), ("new", variant)):
        for seed, difference in enumerate(differences):
            facts = {"run": run, "variant": own, "baseline": "base", "seed": seed, **common}
            loss = 3.0 + 0.1 * seed + (difference if run == "new" else 0)
            for name in ("train_loss", "validation_loss", "validation_loss_over_training"):
                rows.append({**facts, "prompts": None, "quantity": name, "value": loss})
            for name, value in ((base if run == "base" else other) or {}).items():
                uniform = 0.05 if name.startswith("sink") else None
                value *= 1 + 0.01 * seed * (1 if run == "base" else -1)  # paired differences vary
                rows.append({**facts, "prompts": "p", "quantity": name, "value": value, "uniform": uniform})
            models.append(Judged(f"{run}-seed{seed}", run, "trained", run, own, seed, None))
    (root / "statistics").mkdir(exist_ok=True)
    schema = {"prompts": pl.String, "uniform": pl.Float64, "epsilon": pl.Float64}
    pl.DataFrame(rows, schema_overrides=schema).write_parquet(root / "statistics" / "pretraining_by_seed.parquet")
    return models


def structure(mass, disparity, rank, normalised=None):
    return {
        "sink_mass": mass,
        "sink_mass_normalised": mass if normalised is None else normalised,
        "dimension_disparity": disparity,
        "disparity_over_rest": disparity / 5,
        "effective_rank": rank,
    }


@pytest.mark.parametrize(
    ("differences", "expected"),
    [([-0.05, -0.051, -0.049], SEEN), ([-0.05, 0.02], UNDECIDED), ([0.05, 0.06], NOT_SEEN), ([-0.05], UNDECIDED)],
)
def test_losses_are_compared_seed_by_seed(tmp_path, differences, expected):
    found = verdicts(tmp_path, trained_tables(tmp_path, differences))
    assert found == {"lower train loss": expected, "lower validation loss": expected}


@pytest.mark.parametrize(("difference", "expected"), [(0.05, SEEN), (-0.05, NOT_SEEN)])
def test_of_sigmoid_the_paper_claims_a_higher_loss(tmp_path, difference, expected):
    differences = [difference, 1.01 * difference, 0.99 * difference]
    found = verdicts(tmp_path, trained_tables(tmp_path, differences, variant="sigmoid"))
    assert found == {"trains more slowly": expected, "ends worse": expected}


@pytest.mark.parametrize(
    ("base", "other", "expected"),
    [
        ((0.6, 80, 300), (0.06, 30, 400), (SEEN, SEEN, SEEN, SEEN, SEEN, SEEN)),
        ((0.6, 80, 300), (0.7, 90, 200), (SEEN, SEEN, NOT_SEEN, NOT_SEEN, NOT_SEEN, NOT_SEEN)),
        # nothing can have less of what the baseline does not have
        ((0.07, 6, 300), (0.06, 5, 400), (NOT_SEEN, NOT_SEEN, NOT_APPLICABLE, NOT_APPLICABLE, NOT_APPLICABLE, SEEN)),
    ],
)
def test_structure_of_trained_models_turns_with_the_tables(tmp_path, base, other, expected):
    models = trained_tables(tmp_path, [-0.1] * 3, base=structure(*base), other=structure(*other))
    names = [
        "baseline forms a sink", "baseline has a dimension disparity", "less sink", "sink removed",
        "less dimension disparity", "higher effective rank",
    ]  # fmt: skip
    found = verdicts(tmp_path, models)
    assert tuple(found[name] for name in names) == expected


def test_a_sink_among_rows_that_do_not_sum_to_one_is_told(tmp_path):
    hidden = structure(0.04, 30, 400, normalised=0.5)
    models = trained_tables(tmp_path, [0.1] * 3, variant="sigmoid", base=structure(0.6, 80, 300), other=hidden)
    found = verdicts(tmp_path, models)
    assert found["sink removed"] == SEEN and found["sink removed, rows normalised"] == NOT_SEEN


def test_the_page_shows_each_claim_with_label_and_verdict_in_words(tmp_path):
    write_edits(tmp_path, "m", amplified=0.4, scaled=0.012, masked=0.3)
    page = render_html(judge(declared_tables(tmp_path), models=[MODEL], prompts=["p"]), "study")
    assert "M, dequantised from Q4_1" in page
    assert page.count("✓ seen") > 5
    assert "statistics/m/p/interventions.parquet" in page


def test_a_claim_reads_only_the_tables_that_it_is_given(tmp_path):
    write_edits(tmp_path, "m", amplified=0.4, scaled=0.012, masked=0.3)
    tables = declared_tables(tmp_path)
    del tables["dose_response"]
    with pytest.raises(KeyError, match="dose_response"):
        judge(tables, models=[MODEL], prompts=["p"])


def test_a_study_without_tables_claims_nothing(tmp_path):
    assert verdicts(tmp_path, [MODEL, CONTROL]) == {}


def test_what_a_failed_job_costs_is_a_row_and_stands_first_on_the_page(tmp_path):
    write_edits(tmp_path, "m", amplified=0.4, scaled=0.012, masked=0.3)
    lost = {
        "model": "r",
        "prompts": "p",
        "what": None,
        "sentence": "model r: it is <damaged>; take another",
        "log": "fetch.log",
    }
    training = {
        **lost,
        "model": None,
        "prompts": None,
        "what": "the training of softmax with seed 3",
        "log": "training.log",
    }
    missing = [lost, training, {**lost, "model": "m", "what": "super_neurons"}]
    tables = declared_tables(tmp_path)
    table = judge(tables, models=[MODEL, CONTROL], prompts=["p"], missing=missing)
    rows = [row for row in table.to_pylist() if row["claim"] == "not measured"]
    assert [(row["model"], row["prompts"], row["verdict"], row["reason"]) for row in rows] == [
        (MODEL.label, "p", NOT_APPLICABLE, lost["sentence"]),
        (CONTROL.label, "p", NOT_APPLICABLE, lost["sentence"]),
        (training["what"], None, NOT_APPLICABLE, lost["sentence"]),
    ]
    page = render_html(table, "study", missing=missing, undrawn=["necessity"])
    begin = page[: page.index("Each claim is judged")]
    assert "This is not the whole study." in begin and "figures: necessity" in begin
    assert "<b>r</b> on p; <b>m</b> on p: super_neurons<small> – model r: it is &lt;damaged&gt;; take another" in begin
    assert "the training of softmax with seed 3<small>" in begin
    whole = judge(tables, models=[MODEL], prompts=["p"])
    assert "whole study" not in render_html(whole, "study") and "not measured" not in whole.column("claim").to_pylist()
