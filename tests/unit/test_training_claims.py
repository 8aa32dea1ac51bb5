"""Claims about trainings: each run against its baseline by seed, only where the baseline has what is to be removed."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pytest
from scipy import stats

from sinkorigin.claims.ledger import PRIMARY, TRAININGS
from sinkorigin.claims.run_pairs import Pairs, RunPair
from sinkorigin.claims.tests import CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED, decide
from sinkorigin.claims.trainings import judge_trainings
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics.pretraining_comparison import BY_SEED_SCHEMA
from sinkorigin.statistics.student import seeds_needed, two_sided_p

CLAIMS = {claim.code: claim for claim in TRAININGS}
UNIFORM = 0.05
DRAWS = 400
# claim → (quantity of the run, its value where the null is true by claim's threshold, where the claim is, where its opposite is, their
# spread over seeds), the values as ``_scaled`` takes them
CASES = {
    "C12b": ("validation_loss", 2.99, 2.85, 3.15, 0.02),
    "C13a": ("sink_mass", 3 * UNIFORM, 1 * UNIFORM, 9 * UNIFORM, 0.3 * UNIFORM),
    "C13b": ("dimension_disparity", np.log(9.0), np.log(4.0), np.log(12.0), 0.1),
    "C13c": ("effective_rank", np.log(105.0), np.log(130.0), np.log(90.0), 0.04),
    "C13d": ("variance_ratio", 0.25, 0.0, 0.8, 0.05),
    "C14a": ("sink_mass", 3 * UNIFORM, 1 * UNIFORM, 9 * UNIFORM, 0.3 * UNIFORM),
    "C14b": ("validation_loss", 3.01, 3.15, 2.85, 0.02),
}
LOGARITHMIC = ("dimension_disparity", "effective_rank", "variance_ratio")
# a baseline that has all that a variant may remove
BASELINE = {
    "train_loss": 3.0, "validation_loss": 3.0, "validation_loss_over_training": 3.5, "token_ratio": 1.0, "sink_mass": 9 * UNIFORM,
    "sink_mass_normalised": 9 * UNIFORM, "dimension_disparity": 10.0, "disparity_over_rest": 5.0, "dimension_disparity_largest": 20.0,
    "disparity_over_rest_largest": 5.0, "effective_rank": 100.0, "effective_rank_later": 150.0, "variance_ratio": 4.0,
    "variance_ratio_mean": 4.0,
}  # fmt: skip
LOSSES = ("train_loss", "validation_loss", "validation_loss_over_training", "token_ratio")


@dataclass(frozen=True)
class Simulated(RunPair):
    """A run against its baseline, of values instead of a table."""

    found: dict = field(default_factory=dict)

    def by_seed(self, run, quantity):
        return dict(enumerate(self.found[run][quantity]))

    def pairs(self, quantity, of_baseline=None):
        run, base = (np.array(self.found[name][quantity]) for name in ("new", "base"))
        return Pairs(list(range(len(run))), run, base, UNIFORM)


def simulated(code, rng, seeds, value, spread):
    """The primary setting of a claim, of seeds that scatter about a true value by as much in the baseline as in the run."""
    claim = CLAIMS[code]
    quantity = CASES[code][0]
    base = {name: np.full(seeds, level) for name, level in BASELINE.items()}
    new = {name: values.copy() for name, values in base.items()}
    new[quantity] = value + spread * rng.normal(size=seeds)
    if quantity in LOGARITHMIC:
        new[quantity] = np.exp(new[quantity])
    losses = quantity in LOSSES
    pair = Simulated(
        "new",
        "base",
        None if losses else "p",
        None if losses else "drawn",
        pl.DataFrame(),
        found={"new": new, "base": base},
    )
    return claim, next(claim.settings(pair))


@pytest.mark.parametrize("seeds", [3, 8])
@pytest.mark.parametrize("code", CASES)
def test_a_true_null_is_seldom_reproduced_and_the_claim_and_its_opposite_are_told(code, seeds):
    _, null, true, opposite, spread = CASES[code]
    rng = np.random.default_rng(0)

    def verdicts(value, draws):
        return [
            claim.verdict(setting)
            for claim, setting in (simulated(code, rng, seeds, value, spread) for _ in range(draws))
        ]

    found = verdicts(null, DRAWS)
    assert found.count(REPRODUCED) <= 0.05 * DRAWS and found.count(CONTRADICTED) <= 0.05 * DRAWS
    assert found.count(UNDECIDED) > 0.9 * DRAWS
    # with three seeds and t = 4.3 the power is less
    assert verdicts(true, 40).count(REPRODUCED) >= (38 if seeds == 8 else 25)
    assert verdicts(opposite, 40).count(CONTRADICTED) >= (38 if seeds == 8 else 25)


def test_an_equivalence_holds_on_neither_side_of_its_margin():
    rng = np.random.default_rng(1)
    for edge in (-0.25, 0.25):
        found = [simulated("C13d", rng, 8, edge, 0.05) for _ in range(DRAWS // 2)]
        assert sum(claim.verdict(setting) == REPRODUCED for claim, setting in found) <= 0.05 * DRAWS / 2


def test_seeds_that_are_faster_by_chance_are_no_faster_training():
    claim, rng = CLAIMS["C12a"], np.random.default_rng(0)

    def verdict(chance):
        ratios = [0.8 if faster else None for faster in rng.random(8) < chance]
        found = {"new": {**BASELINE, "token_ratio": ratios}, "base": {"token_ratio": [1.0] * 8}}
        setting = next(claim.settings(Simulated("new", "base", None, None, pl.DataFrame(), found=found)))
        return claim.verdict(setting)

    null = [verdict(0.5) for _ in range(DRAWS)]
    assert null.count(REPRODUCED) <= 0.05 * DRAWS and null.count(CONTRADICTED) <= 0.05 * DRAWS
    assert verdict(1.0) == REPRODUCED and verdict(0.0) == CONTRADICTED


def test_a_family_of_few_seeds_holds_together_by_students_p():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(600):
        settings = [
            simulated(code, rng, 3, *(CASES[code][i] for i in (1, 4))) for code in ("C12b", "C13a", "C13b", "C13c")
        ]
        alone = [claim.verdict(setting) for claim, setting in settings]
        kept, _ = decide(alone, [setting.p for _, setting in settings])
        wrong += any(verdict in (REPRODUCED, CONTRADICTED) for verdict in kept)
    assert wrong <= 0.065 * 600  # 5 %, and its sampling error


def test_students_p_is_scipys_and_none_for_one_seed():
    values = [0.1, 0.3, -0.2, 0.25]
    assert two_sided_p(values, 0.05) == pytest.approx(stats.ttest_1samp(values, 0.05).pvalue)
    assert two_sided_p([1.0], 0.0) is None and two_sided_p([1.0, 1.0], 1.0) == 1 and two_sided_p([1.0, 1.0], 0.0) == 0


def test_seeds_that_would_decide_are_as_many_as_students_interval_needs():
    values = np.array([0.1, 0.3, -0.2, 0.25])
    needed = seeds_needed(values, 0.0)
    halves = {n: stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n) for n in (needed - 1, needed)}
    assert halves[needed - 1] >= values.mean() > halves[needed]
    assert seeds_needed(values, values.mean()) is None and seeds_needed([1.0], 0.0) is None


def table(root, base, new, *, seeds=8, prompts=(("p", "drawn"),), rough=()):
    """``pretraining_by_seed.parquet`` of a run and its baseline; values scatter by a hundredth over seeds, and by half where rough."""
    rng = np.random.default_rng(0)
    rows = []
    for run, values in (("base", BASELINE | base), ("new", BASELINE | base | new)):
        facts = {"run": run, "variant": "v", "baseline": "base", "epsilon": None, "unit": "1"}
        for seed in range(seeds):
            for name, value in values.items():
                noise = rng.normal() / 100 if name not in rough else 0.5 * (-1) ** seed
                own = value if name in LOSSES or value is None else value * (1 + noise)
                for where in [(None, None)] if name in LOSSES else prompts:
                    uniform = UNIFORM if name.startswith("sink_mass") else None
                    rows.append({**facts, "seed": seed, "prompts": where[0], "first_token": where[1], "quantity": name,
                                 "uniform": uniform, "value": own})  # fmt: skip
    path = root / "statistics" / "pretraining_by_seed.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = {name: pl.String for name in ("prompts", "first_token")} | {"uniform": pl.Float64, "epsilon": pl.Float64}
    pl.DataFrame(rows, schema_overrides=schema).select(BY_SEED_SCHEMA.names).write_parquet(path)
    return [path]


def runs(variant="headwise_rmsnorm", baseline="base", label="new (scale shared, without offset)"):
    return [
        {"name": "base", "variant": "softmax", "baseline": baseline, "label": "base"},
        {"name": "new", "variant": variant, "baseline": baseline, "label": label},
    ]


def verdicts(root, base=None, new=None, *, variant="headwise_rmsnorm", prompts=("p",), **more):
    ledger, robustness = judge_trainings(
        table(root, base or {}, new or {}, **more), runs=runs(variant), prompts=prompts
    )
    return {row["claim"]: row for row in ledger}, robustness


BETTER = {
    "validation_loss": 2.9, "train_loss": 2.9, "validation_loss_over_training": 3.4, "token_ratio": 0.7, "sink_mass": UNIFORM,
    "sink_mass_normalised": UNIFORM, "dimension_disparity": 4.0, "effective_rank": 140.0, "variance_ratio": 1.0,
}  # fmt: skip
WORSE = {
    "validation_loss": 3.1, "train_loss": 3.1, "validation_loss_over_training": 3.6, "token_ratio": None, "sink_mass": 9 * UNIFORM,
    "sink_mass_normalised": 9 * UNIFORM, "dimension_disparity": 12.0, "effective_rank": 80.0, "variance_ratio": 3.0,
}  # fmt: skip


def test_every_verdict_turns_with_the_table(tmp_path):
    better, _ = verdicts(tmp_path, new=BETTER)
    assert {row["verdict"] for row in better.values()} == {REPRODUCED} and len(better) == 6
    worse, _ = verdicts(tmp_path, new=WORSE)
    assert {row["verdict"] for row in worse.values()} == {CONTRADICTED}
    sigmoid, _ = verdicts(tmp_path, new={**BETTER, **{name: WORSE[name] for name in LOSSES}}, variant="sigmoid")
    assert {code: row["verdict"] for code, row in sigmoid.items()} == {"C14a": REPRODUCED, "C14b": REPRODUCED}
    sigmoid, _ = verdicts(tmp_path, new={**WORSE, "validation_loss": 2.9}, variant="sigmoid")
    assert {row["verdict"] for row in sigmoid.values()} == {CONTRADICTED}


@pytest.mark.parametrize(
    ("lacks", "code", "words"),
    [
        ({"sink_mass": 2.5 * UNIFORM}, "C13a", "base has no sink"),
        ({"disparity_over_rest": 1.5}, "C13b", "base has no dimension disparity"),
        ({"effective_rank_later": 101.0}, "C13c", "position 0 does not lower the effective rank of base"),
        ({"variance_ratio": 1.1}, "C13d", "base has no more variance at position 0"),
    ],
)
def test_what_the_baseline_does_not_have_nothing_can_remove(tmp_path, lacks, code, words):
    found, _ = verdicts(tmp_path, base=lacks, new={**WORSE})
    assert found[code]["verdict"] == NOT_APPLICABLE and words in found[code]["reason"]
    assert any(character.isdigit() for character in found[code]["reason"])
    # nor where its mean lies above the level, and its interval over seeds reaches below
    found, _ = verdicts(tmp_path, base={name: 1.5 * value for name, value in lacks.items()}, new=WORSE, rough=lacks)
    assert found[code]["verdict"] == NOT_APPLICABLE


@pytest.mark.parametrize("sink", [2 * UNIFORM, 9 * UNIFORM])
def test_losses_are_judged_without_a_sink_and_the_reason_says_so(tmp_path, sink):
    found, _ = verdicts(
        tmp_path, base={"sink_mass": sink, "sink_mass_normalised": sink}, new={**WORSE, "validation_loss": 2.9}
    )
    row = found["C12b"]
    assert row["verdict"] == REPRODUCED and "× uniform attention on p (first token drawn)" in row["reason"]
    assert ("base has no sink, " in row["reason"]) == (sink < 3 * UNIFORM)
    assert ("base has a sink, " in row["reason"]) == (sink > 3 * UNIFORM)


@pytest.mark.parametrize(("variant", "code"), [("headwise_rmsnorm", "C12b"), ("sigmoid", "C14b")])
@pytest.mark.parametrize("difference", [-0.0004, 0.0004])
def test_a_verdict_does_not_turn_by_less_than_a_thousandth(tmp_path, variant, code, difference):
    found, _ = verdicts(tmp_path, new={"validation_loss": 3 + difference}, variant=variant)
    assert found[code]["verdict"] == CONTRADICTED  # smaller than the smallest effect of interest, either way


def test_a_row_names_the_reading_the_run_and_its_own_prompts(tmp_path):
    found, robustness = verdicts(tmp_path, new=BETTER)
    assert {row["model"] for row in found.values()} == {"new"} and {row["role"] for row in found.values()} == {
        "trained"
    }
    assert {row["label"] for row in found.values()} == {"new (scale shared, without offset)"}
    assert (found["C12b"]["prompts"], found["C12b"]["first_token"]) == (None, None)
    assert (found["C13a"]["prompts"], found["C13a"]["first_token"]) == ("p", "drawn")
    assert found["C13a"]["tables"] == ["statistics/pretraining_by_seed.parquet"]
    assert [row["setting"] for row in robustness if row["claim"] == "C13b"] == [
        "primary", "threshold 1", "threshold 0.5", "largest layer"
    ]  # fmt: skip


def test_parity_is_tested_where_the_first_token_is_drawn(tmp_path):
    files = table(tmp_path, {}, BETTER, prompts=(("text", "bos"), ("p", "drawn")))
    ledger, robustness = judge_trainings(files, runs=runs(), prompts=["text", "p"])
    found = {row["claim"]: row for row in ledger}
    assert (found["C13a"]["prompts"], found["C13a"]["first_token"]) == ("text", "bos")
    assert (found["C13d"]["prompts"], found["C13d"]["verdict"]) == ("p", REPRODUCED)
    read_on = [row["read_on"] for row in robustness if row["claim"] == "C13a"]
    assert set(read_on) == {"text", "p"} and read_on[0] == "text"
    files = table(tmp_path, {"variance_ratio": 0.0}, {"variance_ratio": 0.0}, prompts=(("text", "bos"),))
    found = {row["claim"]: row for row in judge_trainings(files, runs=runs(), prompts=["text"])[0]}
    assert found["C13d"]["verdict"] == NOT_APPLICABLE and "begin with one token" in found["C13d"]["reason"]


def test_a_sink_among_rows_that_do_not_sum_to_one_is_a_setting(tmp_path):
    _, robustness = verdicts(
        tmp_path, new={"sink_mass": 0.5 * UNIFORM, "sink_mass_normalised": 9 * UNIFORM}, variant="sigmoid"
    )
    found = {row["setting"]: row["verdict"] for row in robustness if row["claim"] == "C14a"}
    assert found["primary"] == REPRODUCED and found["rows that sum to one"] == CONTRADICTED


def test_few_seeds_decide_no_share_and_say_how_many_would(tmp_path):
    found, _ = verdicts(tmp_path, new=BETTER, seeds=3)
    assert found["C12a"]["verdict"] == UNDECIDED
    assert found["C12a"]["reason"].startswith("no count of 3 seeds decides it, at least 6 do; 3 of 3 seeds")
    found, _ = verdicts(tmp_path, new={"sink_mass": 3.1 * UNIFORM}, rough=["sink_mass"])
    assert found["C13a"]["verdict"] == UNDECIDED and "seeds like these would decide" in found["C13a"]["reason"]
    found, _ = verdicts(tmp_path, new=BETTER, seeds=1)
    assert found["C12b"]["verdict"] == UNDECIDED and "one seed has no interval" in found["C12b"]["reason"]


def test_what_cannot_be_compared_is_not_applicable_with_the_reason(tmp_path):
    [row, *_] = judge_trainings([], runs=runs(baseline=None), prompts=["p"])[0]
    assert row["verdict"] == NOT_APPLICABLE and "no softmax run of the same data" in row["reason"]
    missing = [
        {"model": None, "prompts": None, "what": "the training of new with seed 0", "sentence": "no space", "log": "l"}
    ]
    rows, _ = judge_trainings([], runs=runs(), prompts=["p"], missing=missing)
    assert {row["verdict"] for row in rows} == {NOT_APPLICABLE} and len(rows) == 6
    assert rows[0]["reason"] == "not measured, because a job failed: no space"
    with pytest.raises(SinkoriginError, match="has no rows of run other; delete it"):
        others = [run | {"name": "other"} if run["name"] == "new" else run for run in runs()]
        judge_trainings(table(tmp_path, {}, BETTER), runs=others, prompts=["p"])


def test_a_variant_that_the_paper_says_nothing_of_has_no_claim(tmp_path):
    assert judge_trainings(table(tmp_path, {}, BETTER), runs=runs("gated"), prompts=["p"]) == ([], [])


def test_codes_are_those_of_the_paper_once_each():
    codes = [claim.code for claim in (*PRIMARY, *TRAININGS)]
    assert len(codes) == len(set(codes)) and set(CLAIMS) == set(CASES) | {"C12a"}
