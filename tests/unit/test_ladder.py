"""The ladder: gaps to the baseline by size, their slope with its interval over seeds, and how many seeds would find one."""

import copy
import re
from importlib import import_module
from itertools import pairwise, product

import numpy as np
import pyarrow as pa
import pytest
import yaml

from harness.config.merging import Layer, merge
from harness.config.reading import read_config
from harness.figures import FIGURES
from harness.study import Study
from sinkorigin.figures import ladder as figure
from sinkorigin.statistics import ladder
from sinkorigin.statistics.grids import from_rows
from sinkorigin.statistics.learning_rates import SCHEMA as SWEEP_SCHEMA
from sinkorigin.statistics.pretraining import SCHEMA as ENDS_SCHEMA
from sinkorigin.statistics.pretraining_comparison import BY_SEED_SCHEMA, QUANTITIES
from sinkorigin.tables import write_table
from tiny_study import ROOT, TINY

SIZES = {"small": 40_000, "medium": 170_000, "large": 660_000}
SHARED = {"data": "text", "end_of_text_first": True, "length": 128}


def facts(name, size, *, variant="softmax", reading=None):
    return {"run": name, "baseline": f"base_{size}", **SHARED, "variant": variant, "reading": reading}


def runs_of(prefix, **what):
    return [facts(f"{prefix}_{size}", size, **what) for size in SIZES]


NORMED = {"variant": "headwise_rmsnorm", "reading": "scale shared, without offset"}
RUNS = [*runs_of("base"), *runs_of("normed", **NORMED)]


@pytest.fixture
def laddered(tmp_path):
    """A function of the gap of each size and seed: the tables of a ladder whose losses of the baseline are random."""

    def make(gaps, runs=RUNS, *, quantities=("validation_loss",), name="tables"):
        rows, ends = [], []
        losses = {(size, seed): np.random.default_rng(seed).normal(3, 1) for size, seed in gaps}
        for run, (size, seed) in product(runs, gaps):
            if run["baseline"] != f"base_{size}":
                continue
            value = losses[size, seed] + (gaps[size, seed] if run["run"] != run["baseline"] else 0)
            shared = {**dict.fromkeys(BY_SEED_SCHEMA.names), "run": run["run"], "variant": run["variant"], "seed": seed}
            rows += [
                {**shared, "baseline": run["baseline"], "quantity": one, "unit": QUANTITIES[one][1], "value": value}
                for one in (*quantities, "effective_rank")
            ]
            # a variant adds some parameters of its own
            own = SIZES[size] + (0 if run["run"] == run["baseline"] else 999)
            ends.append(
                {**shared, "parameters": own, "tokens": 8 * SIZES[size], "train_loss": 0.0, "validation_loss": 0.0}
            )
        inputs = {}
        for table, found, schema in (("by_seed", rows, BY_SEED_SCHEMA), ("pretraining", ends, ENDS_SCHEMA)):
            known = [{key: row.get(key) for key in schema.names} for row in found]
            inputs[table] = tmp_path / name / f"{table}.parquet"
            write_table(inputs[table], from_rows(schema, known), schema)
        return ladder.compute(inputs, runs=runs)

    return make


def random_gaps(seeds=5, slope=-0.03, sd=0.02):
    noise = np.random.default_rng(7).normal(0, sd, (len(SIZES), seeds))
    return {
        (size, seed): 0.2 + slope * place + noise[place, seed]
        for (place, size), seed in product(enumerate(SIZES), range(seeds))
    }


def test_gaps_are_to_the_baseline_of_the_same_size_and_seed(laddered):
    gaps = random_gaps()
    rows = laddered(gaps)["ladder"].to_pylist()
    assert {row["quantity"] for row in rows} == {"validation_loss"} and len(rows) == 2 * 3 * 5
    for row in rows:
        size = row["run"].split("_")[1]
        assert row["parameters"] == SIZES[size] and row["tokens"] == 8 * SIZES[size]  # the baseline's, for all variants
        if row["run"] == row["baseline"]:
            assert row["gap"] is None
        else:
            assert row["gap"] == pytest.approx(gaps[size, row["seed"]], abs=1e-12)


def test_the_slope_is_the_mean_over_seeds_of_straight_lines_through_each_seeds_gaps(laddered):
    gaps = random_gaps()
    [row] = laddered(gaps)["ladder_slope"].to_pylist()
    x = np.log(list(SIZES.values())) / np.log(4)
    slopes = np.array([np.polyfit(x, [gaps[size, seed] for size in SIZES], 1)[0] for seed in range(5)])
    half = 2.776445105 * slopes.std(ddof=1) / np.sqrt(5)  # Student's t of 4 degrees of freedom, 97.5 %
    assert row["slope"] == pytest.approx(slopes.mean(), abs=1e-10)
    assert [row["slope_low"], row["slope_high"]] == pytest.approx(
        [slopes.mean() - half, slopes.mean() + half], abs=1e-8
    )
    assert row["slope_sd"] == pytest.approx(slopes.std(ddof=1), abs=1e-10)
    largest = np.mean([gaps["large", seed] for seed in range(5)])
    assert row["gap_largest"] == pytest.approx(largest, abs=1e-10) and row["gap_largest_low"] < largest
    # so much for a factor 4 takes the gap of the largest to 0 at 152 M parameters
    left = np.log2(152e6 / SIZES["large"]) / 2
    assert row["gap_largest"] + row["closing"] * left == pytest.approx(0, abs=1e-12)
    assert (row["sizes"], row["seeds"], row["smallest"], row["largest"]) == (3, 5, 40_000, 660_000)


@pytest.mark.parametrize(("slope", "answer"), [(-0.2, "falls"), (0.2, "rises"), (0.0, "undecided")])
def test_the_answer_needs_the_whole_interval_on_one_side(laddered, slope, answer):
    [row] = laddered(random_gaps(slope=slope))["ladder_slope"].to_pylist()
    assert row["answer"] == answer


def test_a_seed_that_lacks_a_size_does_not_count_and_one_seed_has_no_interval(laddered):
    gaps = random_gaps()
    del gaps["large", 4]
    [row] = laddered(gaps, name="less")["ladder_slope"].to_pylist()
    assert row["seeds"] == 4
    [row] = laddered(random_gaps(seeds=1, slope=-1.0), name="one")["ladder_slope"].to_pylist()
    assert row["answer"] == "undecided" and row["slope"] == pytest.approx(-1.0, abs=0.1)
    assert all(row[name] is None for name in ("slope_low", "slope_high", "slope_sd", "detectable", "seeds_for_closing"))


def test_of_two_runs_of_one_family_and_size_the_first_counts(laddered):
    again = facts("other_large", "large", **NORMED)
    rows = laddered(random_gaps(), [*RUNS, again])["ladder"].to_pylist()
    assert "normed_large" in {row["run"] for row in rows} and "other_large" not in {row["run"] for row in rows}


def test_readings_of_a_variant_and_quantities_have_slopes_of_their_own(laddered):
    runs = [*RUNS, *runs_of("offset", **NORMED | {"reading": "scale per_head, with offset"})]
    table = laddered(random_gaps(), runs, quantities=("validation_loss", "sink_mass"))["ladder_slope"]
    assert {(row["reading"], row["quantity"]) for row in table.to_pylist()} == set(
        product([NORMED["reading"], "scale per_head, with offset"], ["validation_loss", "sink_mass"])
    )


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (1.0, 10), (2.0, 5)])
def test_seeds_needed_are_those_of_a_t_test(effect, seeds):
    """Sample sizes of one-sample t tests, two-sided 5 %, power 80 %, as G*Power gives them."""
    assert ladder.seeds_needed(effect, 1.0) == ladder.seeds_needed(3 * effect, 3.0) == seeds


def test_a_detectable_slope_is_found_in_four_of_five_simulated_ladders():
    generator, seeds = np.random.default_rng(0), 4
    found = generator.normal(ladder.detectable(seeds), 1, (20_000, seeds))
    half = 3.182446305 * found.std(axis=1, ddof=1) / 2  # Student's t of 3 degrees of freedom, 97.5 %
    assert np.mean(found.mean(axis=1) - half > 0) == pytest.approx(0.8, abs=0.01)
    assert ladder.seeds_needed(1e-9, 1.0) is None


def test_the_figure_shows_every_seed_and_tells_the_slope(laddered):
    import polars as pl

    tables = laddered(random_gaps(), quantities=("validation_loss", "sink_mass"))
    drawn = figure.draw(**{name: pl.DataFrame(table) for name, table in tables.items()})
    assert len(drawn.axes) == 4
    values, gaps = drawn.axes[:2]
    dots = [line for line in gaps.lines if line.get_marker() == "o"]
    assert [len(line.get_xdata()) for line in dots] == [0, 15]  # baselines have none
    assert [len(line.get_xdata()) for line in values.lines if line.get_marker() == "o"] == [15, 15]
    assert figure.MARKERS[1] in {line.get_marker() for line in gaps.lines}
    texts = " ".join(text.get_text() for text in drawn.legends[0].get_texts()).replace("\n", " ")
    [slope] = [row["slope"] for row in tables["ladder_slope"].to_pylist() if row["quantity"] == "validation_loss"]
    assert f"gap of the validation loss {slope:+.3f} [".replace("-", "−") in texts


def test_the_page_is_written_from_the_tables(laddered, tmp_path, monkeypatch):
    page = import_module("update_ladder")
    monkeypatch.setattr(page, "STUDY", tmp_path)
    found = laddered(random_gaps())
    ends = {0.001: 3.5, 0.002: None, 0.004: 3.25}
    row = dict.fromkeys(SWEEP_SCHEMA.names) | {"run": "base_small", "variant": "softmax"}
    found["learning_rates"] = from_rows(
        SWEEP_SCHEMA,
        [
            row | {"learning_rate": rate, "mean_validation_loss": loss, "best": loss == 3.25}
            for rate, loss in ends.items()
        ],
    )
    for name, schema in {**ladder.TABLES, "learning_rates": SWEEP_SCHEMA}.items():
        write_table(tmp_path / "statistics" / f"{name}.parquet", found[name], schema)
    text = page.result()
    [slope] = found["ladder_slope"].to_pylist()
    row = f"{slope['slope']:+.4f} [{slope['slope_low']:+.4f}, {slope['slope_high']:+.4f}] | **{slope['answer']}**"
    assert row.replace("-", "−") in text
    assert "| `base_small` | – | 0.001: 3.5000; 0.002: diverged; **0.004: 3.2500** |" in text
    # the first of the longer ladders is this one, as near as one spread for all sizes is to the measured one of the slopes
    [seeds] = re.findall(r"\| 3 \| 0.66 M \| 5 M \| (\d+) \|", text)
    assert int(seeds) == pytest.approx(slope["seeds_for_closing"], rel=0.5)
    assert "| 7 | 168.96 M |" in text and "| 8 |" not in text


# ---- which study has one

SMALL = {"layers": 1, "width": 16, "heads": 2, "kv_heads": 2, "ffn_width": 24}
FIGURE = next(one for one in FIGURES if one.name == "ladder")


def study(runs):
    config = copy.deepcopy(TINY)
    first = next(run for run in config["pretraining"]["runs"] if run["variant"] == "softmax")
    base = {name: value for name, value in first.items() if name not in ("name", "variant")} | {"keep": []}
    config["pretraining"]["runs"] = [{**base, "name": name, "variant": variant, **rest} for name, variant, rest in runs]
    return Study(read_config(config | {"interventions": []}), "cpu")


def test_a_variant_at_two_sizes_is_a_ladder_whatever_its_runs_are_called():
    runs = [("a", "softmax", {}), ("b", "softmax", SMALL), ("c", "sigmoid", {}), ("d", "sigmoid", SMALL)]
    found = study(runs)
    assert [(one["run"], one["baseline"], one["variant"]) for one in found.ladder()] == [
        ("a", "a", "softmax"), ("b", "b", "softmax"), ("c", "a", "sigmoid"), ("d", "b", "sigmoid")
    ]  # fmt: skip
    assert FIGURE.when(found) and found.jobs([])["compute_ladder"] == [{}]


@pytest.mark.parametrize(
    "last",
    [
        ("d", "gated", SMALL),  # another variant
        ("d", "sigmoid", SMALL | {"steps": 7}),  # of other tokens than its size's baseline, so without one
        ("d", "sigmoid", SMALL | {"sigmoid": {"bias": "log_visible"}}),  # another reading
        ("d", "sigmoid", {"learning_rate": 0.5}),  # of the same size
    ],
    ids=["variant", "no baseline", "reading", "size"],
)
def test_runs_of_one_size_each_are_no_ladder(last):
    found = study([("a", "softmax", {}), ("b", "softmax", SMALL), ("c", "sigmoid", {}), last])
    assert found.ladder() == [] and not FIGURE.when(found) and found.jobs([])["compute_ladder"] == []


def test_the_ladder_of_the_repository_is_tuned_alike_and_its_sizes_are_a_factor_4_apart():
    from sinkorigin.pretraining.cost import cost

    own, overlay = (
        Layer(name, yaml.safe_load((ROOT / name).read_text())) for name in ("config.yaml", "config.ladder.yaml")
    )
    config = read_config(merge(own, [overlay], ROOT).values, "config.ladder.yaml").pretraining
    of_size: dict[str, dict] = {}
    trained: dict[str, set[int]] = {}
    for run in config.runs:
        variant = (run.variant, run.options.get("scale"))
        of_size.setdefault(run.name.rsplit("_", 1)[1], {})[variant] = cost(
            run.model_dump(), vocabulary=512, options=run.options
        )
        assert len(run.seeds) >= 4 and not set(run.seeds) & set(config.learning_rates.seeds)
        trials = config.trials(run)
        trained.setdefault(run.name.rsplit("_", 1)[1], set()).add(len(trials))
        tried = {(trial.learning_rate, trial.value) for trial in trials}
        scale_init = None if tried == {(rate, None) for rate, _ in tried} else run.options.get("scale_init")
        assert (run.learning_rate, scale_init) in tried
    assert trained == {"small": {8}, "medium": {8}, "large": {5}}
    assert [len(variants) for variants in of_size.values()] == [3, 3, 3]
    parameters = [found["softmax", None].parameters for found in of_size.values()]
    assert [big / small for small, big in pairwise(parameters)] == pytest.approx([4, 4], rel=0.03)
    for variants in of_size.values():
        for found in variants.values():
            assert found.tokens / found.parameters == pytest.approx(8, rel=0.01)


def test_tables_have_their_schemas(laddered):
    tables = laddered(random_gaps())
    assert {name: table.schema for name, table in tables.items()} == dict(ladder.TABLES)
    assert all(isinstance(schema, pa.Schema) for schema in ladder.TABLES.values())
