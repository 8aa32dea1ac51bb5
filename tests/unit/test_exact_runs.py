"""Tables of trainings, of learning rates and of anatomies equal their definitions, row by row, and say so word by word."""

import json
import math
import struct

import numpy as np
import polars as pl
import pytest

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions.kind import SHOWN_STRENGTH
from sinkorigin.statistics import anatomy, ladder, learning_rates, pretraining, pretraining_comparison
from sinkorigin.statistics.pretraining_comparison import Training, by_seed_table, comparison_table, tokens_to_reach
from sinkorigin.statistics.student import paired_interval
from sinkorigin.statistics.training import Measured, training_table

# ---- trainings


def test_each_layer_then_the_largest_and_the_mean_of_the_decoder():
    measured = [
        Measured(-1, "norm_ratio", 9.0), Measured(0, "norm_ratio", 2.0), Measured(1, "norm_ratio", math.nan), Measured(2, "norm_ratio", 4.0),
        Measured(-1, "effective_rank", 5.0), Measured(0, "sink_rate", 0.2, epsilon=0.3), Measured(0, "sink_rate", 0.5, epsilon=0.1),
        Measured(0, "sink_mass", 0.7, uniform=0.1), Measured(0, "variance_ratio", math.nan),
    ]  # fmt: skip
    table = training_table(
        [(3, "p", measured), (5, "q", measured[7:8])],
        run="r",
        variant="v",
        seed=7,
        step_tokens=10,
        first_tokens={"p": "bos", "q": "drawn"},
    )
    rows = table.to_pylist()
    shared = {"run": "r", "variant": "v", "seed": 7}
    assert all(shared.items() <= row.items() for row in rows)
    told = [(row["step"], row["prompts"], row["first_token"], row["tokens"]) for row in rows]
    assert set(told[:-3]) == {(3, "p", "bos", 30)} and set(told[-3:]) == {(5, "q", "drawn", 50)}
    assert [(row["quantity"], row["epsilon"], row["over"], row["layer"], row["value"], row["uniform"]) for row in rows[:-3]] == [
        *(("norm_ratio", None, "layer", layer, value, None) for layer, value in ((-1, 9.0), (0, 2.0), (1, None), (2, 4.0))),
        ("norm_ratio", None, "largest", -1, 9.0, None), ("norm_ratio", None, "mean", None, 3.0, None),
        ("effective_rank", None, "layer", -1, 5.0, None), ("effective_rank", None, "largest", -1, 5.0, None), ("effective_rank", None, "mean", None, None, None),
        *(("sink_rate", epsilon, over, layer, value, None) for epsilon, value in ((0.3, 0.2), (0.1, 0.5)) for over, layer in (("layer", 0), ("largest", 0), ("mean", None))),
        *(("sink_mass", None, over, layer, 0.7, 0.1) for over, layer in (("layer", 0), ("largest", 0), ("mean", None))),
        ("variance_ratio", None, "layer", 0, None, None), ("variance_ratio", None, "mean", None, None, None),
    ]  # fmt: skip


def training(run, seed, losses, baseline="base", variant="softmax", prompts="p", **values):
    steps = [10, 20, 30][: len(losses)]
    history = pl.DataFrame(
        {
            "step": steps[::-1],
            "tokens": [100 * step for step in steps[::-1]],
            "train_loss": [None, *losses][: len(losses)],
            "validation_loss": losses[::-1],
        },
        schema_overrides={"train_loss": pl.Float64, "validation_loss": pl.Float64},
    )
    measured = [
        Measured(0, "dominance_ratio_first", values.get("first", 8.0)), Measured(1, "dominance_ratio_first", 20.0),
        Measured(0, "dominance_ratio_rest", 2.0), Measured(1, "dominance_ratio_rest", 4.0), Measured(0, "sink_mass", values.get("mass", 0.5), uniform=0.1),
        Measured(1, "sink_mass", 0.2, uniform=0.1), Measured(0, "variance_ratio", 3.0), Measured(1, "variance_ratio", 5.0),
    ]  # fmt: skip
    table = training_table(
        [(5, prompts, [Measured(0, "sink_mass", 0.99, uniform=0.1)]), (30, prompts, measured)], run=run, variant=variant, seed=seed, step_tokens=1,
        first_tokens={prompts: "drawn"},
    )  # fmt: skip
    return Training(run, variant, seed, baseline, 1000 + seed, history, pl.from_arrow(table))


def test_every_quantity_of_a_training_is_a_row():
    rows = by_seed_table(
        [training("base", 0, [4.0, 3.0, 2.0]), training("mine", 0, [4.0, 2.0, 1.5], variant="sigmoid")]
    ).to_pylist()
    mine = {row["quantity"]: row for row in rows if row["run"] == "mine"}
    assert [row["quantity"] for row in rows[:5]] == [
        "train_loss", "validation_loss", "validation_loss_over_training", "tokens_to_baseline_loss", "token_ratio",
    ]  # fmt: skip
    losses = {
        "train_loss": 4.0,
        "validation_loss": 1.5,
        "validation_loss_over_training": 2.5,
        "tokens_to_baseline_loss": 2000.0,
        "token_ratio": 2 / 3,
    }
    structure = {
        "dimension_disparity": 14.0, "disparity_over_rest": 14 / 3, "dimension_disparity_largest": 20.0, "disparity_over_rest_largest": 5.0,
        "sink_mass": 0.5, "sink_mass_mean": 0.35, "variance_ratio": 3.0, "variance_ratio_mean": 4.0,
    }  # fmt: skip
    assert {name: row["value"] for name, row in mine.items()} == {
        name: pytest.approx(value) for name, value in (losses | structure).items()
    }
    assert {(row["prompts"], row["first_token"]) for name, row in mine.items() if name in losses} == {(None, None)}
    assert {(row["prompts"], row["first_token"]) for name, row in mine.items() if name in structure} == {("p", "drawn")}
    assert {name: row["uniform"] for name, row in mine.items() if row["uniform"] is not None} == {
        "sink_mass": 0.1,
        "sink_mass_mean": 0.1,
    }
    shared = {"variant": "sigmoid", "baseline": "base", "seed": 0, "epsilon": None}
    assert all(shared.items() <= row.items() for row in mine.values())
    assert {name: row["unit"] for name, row in mine.items()} == {
        name: pretraining_comparison.QUANTITIES[name][1] for name in mine
    }


def test_quantities_are_compared_over_the_seeds_that_both_have():
    runs = [training("base", seed, [4.0, 3.0, 2.0 + 0.1 * seed], mass=0.5 + 0.1 * seed) for seed in range(3)]
    runs += [
        training("mine", seed, [4.0, 2.5, 1.5 + 0.3 * seed], mass=0.2 + 0.01 * seed, variant="sigmoid")
        for seed in (1, 2, 3)
    ]
    found = {(row["run"], row["quantity"]): row for row in comparison_table(runs, by_seed_table(runs)).to_pylist()}
    row = found["mine", "validation_loss"]
    differences = [1.8 - 2.1, 2.1 - 2.2]
    expected = {
        "run": "mine", "variant": "sigmoid", "baseline": "base", "prompts": None, "epsilon": None, "unit": "nats per token", "parameters": 1003, "tokens": 3000,
        "seeds": 3, "of_seeds": 3, "mean": pytest.approx(2.1), "sd": pytest.approx(0.3), "pairs": 2, "difference": pytest.approx(np.mean(differences)),
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected and (
        row["difference_low"],
        row["difference_high"],
    ) == pytest.approx(paired_interval(differences)[1:])
    base = found["base", "validation_loss"]
    assert (base["pairs"], base["difference"], base["parameters"], base["mean"]) == (0, None, 1002, pytest.approx(2.1))
    assert (
        found["mine", "sink_mass"]["difference"] == pytest.approx(np.mean([0.21 - 0.6, 0.22 - 0.7]))
        and found["mine", "sink_mass"]["uniform"] == 0.1
    )
    unreached = found["mine", "tokens_to_baseline_loss"]  # the third seed of the run has no baseline
    assert (unreached["seeds"], unreached["of_seeds"], unreached["pairs"], unreached["difference"] is None) == (
        2,
        3,
        2,
        False,
    )
    one = [training("alone", 0, [4.0, 3.0], baseline=None)]
    row = {row["quantity"]: row for row in comparison_table(one, by_seed_table(one)).to_pylist()}["validation_loss"]
    assert (row["sd"], row["mean"], row["seeds"], row["tokens"]) == (None, 3.0, 1, 2000)


@pytest.mark.parametrize(
    ("loss", "tokens"),
    [(6.0, 100.0), (5.0, 100.0), (4.5, 150.0), (4.0, 200.0), (2.0, 250.0), (0.5, None), (1.0, 275.0)],
)
def test_tokens_to_a_loss_are_linear_between_rows(loss, tokens):
    assert tokens_to_reach(loss, [100, 200, 300], [5.0, 4.0, 0.0 if loss != 0.5 else 1.0]) == tokens


def save(path, rows, schema=None):
    table = (
        pl.DataFrame(rows, infer_schema_length=None).to_arrow()
        if schema is None
        else pl.DataFrame(rows, infer_schema_length=None)
    )
    tables.write_table(
        path, table if schema is None else table.to_arrow().cast(schema), table.schema if schema is None else schema
    )
    return str(path)


def weights_file(folder, **shapes):
    folder.mkdir(parents=True)
    header = json.dumps(
        {"__metadata__": {"a": "b"}}
        | {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    )
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode() + b"\0\0")
    return str(folder / "manifest.json")


def test_a_training_ends_with_its_last_known_losses_and_its_number_of_parameters(tmp_path):
    names = {"run": "r", "variant": "v", "seed": 1}
    rows = [
        names
        | {
            "step": step,
            "tokens": 10 * step,
            "train_loss": train,
            "validation_loss": validation,
            "learning_rate": 0.1,
            "gradient_norm": 1.0,
        }
        for step, train, validation in ((30, 3.0, None), (10, 5.0, 5.5), (20, 4.0, 4.5))
    ]
    inputs = {
        "history": [save(tmp_path / "h.parquet", rows)],
        "model": [weights_file(tmp_path / "m", a=[2, 3], b=[4], c=[])],
    }
    [row] = pretraining.compute(inputs)["pretraining"].to_pylist()
    assert {name: row[name] for name in (*names, "tokens", "train_loss", "validation_loss", "parameters")} == names | {
        "tokens": 300, "train_loss": 3.0, "validation_loss": 4.5, "parameters": 11,
    }  # fmt: skip
    with pytest.raises(SinkoriginError) as error:
        pretraining.count_parameters(tmp_path)
    assert str(error.value) == f"{tmp_path} has no safetensors file; delete it and run the same command again"
    empty = save(tmp_path / "e.parquet", pl.DataFrame(rows).clear())
    with pytest.raises(SinkoriginError) as error:
        pretraining.compute(inputs | {"history": [empty]})
    assert str(error.value) == f"{empty} has no rows: the run trained for no step; raise its number of tokens"
    assert (
        pretraining.last_known(pl.Series([1.0, None])) == 1.0
        and pretraining.last_known(pl.Series([None], dtype=pl.Float64)) is None
    )


# ---- the ladder


def test_a_ladder_has_gaps_by_size_and_seed_and_their_slope(tmp_path):
    sizes = {"s": 1_000_000, "m": 4_000_000, "l": 16_000_000}
    by_seed, ends, runs = [], [], []
    gaps = {
        ("s", 0): -0.1,
        ("m", 0): -0.2,
        ("l", 0): -0.3,
        ("s", 1): -0.1,
        ("m", 1): -0.22,
        ("l", 1): -0.34,
        ("s", 2): -0.5,
    }
    for size, parameters in sizes.items():
        for run, own in (("base", 0), ("mine", 500)):
            ends += [
                {"run": f"{run}_{size}", "parameters": parameters + own, "tokens": tokens} for tokens in (100, 900)
            ]
            facts = {
                "data": "text",
                "end_of_text_first": False,
                "length": 64,
                "variant": "softmax" if run == "base" else "sigmoid",
                "reading": None,
            }
            runs.append({"run": f"{run}_{size}", "baseline": f"base_{size}", **facts})
            for seed in range(3):
                shift = gaps.get((size, seed), 0.0) if run == "mine" else 0.0
                value = None if run == "mine" and (size, seed) not in gaps else 3.0 + 0.01 * seed + shift
                by_seed.append(
                    {
                        "run": f"{run}_{size}",
                        "seed": seed,
                        "quantity": "validation_loss",
                        "prompts": None,
                        "value": value,
                        "uniform": None,
                    }
                )
                by_seed.append(
                    {
                        "run": f"{run}_{size}",
                        "seed": seed,
                        "quantity": "norm_ratio",
                        "prompts": "p",
                        "value": 1.0,
                        "uniform": None,
                    }
                )
    schema = {"prompts": pl.String, "uniform": pl.Float64, "value": pl.Float64}
    inputs = {
        "by_seed": save(tmp_path / "b.parquet", pl.DataFrame(by_seed, schema_overrides=schema)), "pretraining": save(tmp_path / "p.parquet", ends),
    }  # fmt: skip
    found = ladder.compute(inputs, runs=[*runs, runs[1] | {"run": "twin"}])
    rows = found["ladder"].to_pylist()
    assert (
        len(rows) == 18
        and {row["quantity"] for row in rows} == {"validation_loss"}
        and {row["unit"] for row in rows} == {"nats per token"}
    )
    mine = {(row["run"], row["seed"]): row for row in rows if row["variant"] == "sigmoid"}
    for (size, seed), gap in gaps.items():
        row = mine[f"mine_{size}", seed]
        assert (row["gap"], row["parameters"], row["tokens"]) == (pytest.approx(gap), sizes[size], 900)
        assert (row["value"], row["baseline"]) == (pytest.approx(3 + 0.01 * seed + gap), f"base_{size}")
    assert mine["mine_m", 2]["gap"] is None and {row["gap"] for row in rows if row["variant"] == "softmax"} == {None}
    [slope] = found["ladder_slope"].to_pylist()
    facts = {
        "data": "text", "end_of_text_first": False, "length": 64, "variant": "sigmoid", "reading": None, "quantity": "validation_loss", "prompts": None,
        "sizes": 3, "smallest": 1_000_000, "largest": 16_000_000, "seeds": 2, "answer": "falls" if slope["slope_high"] < 0 else "undecided",
    }  # fmt: skip
    assert facts.items() <= slope.items()
    slopes = [-0.1, -0.12]
    for name, values in (("gap_smallest", [-0.1, -0.1]), ("gap_largest", [-0.3, -0.34]), ("slope", slopes)):
        assert (slope[name], slope[f"{name}_low"], slope[f"{name}_high"]) == pytest.approx(paired_interval(values))
    sd = np.std(slopes, ddof=1)
    left = math.log(152e6 / 16e6) / math.log(4)
    assert slope["slope_sd"] == pytest.approx(sd) and slope["detectable"] == pytest.approx(sd * ladder.detectable(2))
    assert slope["closing"] == pytest.approx(0.32 / left) and slope["seeds_for_closing"] == ladder.seeds_needed(
        0.32 / left, sd
    )
    one = ladder.slope_row(np.array([[-0.1, -0.2]]), np.array([1e6, 4e6]))
    assert (
        one["answer"] == "undecided"
        and one["slope"] == pytest.approx(-0.1)
        and one["slope_low"] is None
        and "slope_sd" not in one
    )
    beyond = ladder.slope_row(np.array([[0.1, 0.2], [0.1, 0.21], [0.1, 0.2]]), np.array([1e6, 2e8]))
    assert beyond["closing"] is None and beyond["seeds_for_closing"] is None and beyond["answer"] == "rises"
    falling = ladder.slope_row(np.array([[0.2, 0.1], [0.21, 0.1], [0.2, 0.1]]), np.array([1e6, 152e6]))
    assert falling["answer"] == "falls" and falling["closing"] is None


# ---- learning rates


def history(run, rate, seed, losses, value=None, option=None):
    return pl.DataFrame(
        [
            {"run": run, "variant": "v", "seed": seed, "peak_learning_rate": rate, "option": option, "option_value": value, "diverged": None,
             "step": 10 * number, "tokens": 100 * number, "train_loss": loss, "validation_loss": loss and loss - 0.5}
            for number, loss in enumerate(losses, 1)
        ],
        schema_overrides={"option": pl.String, "option_value": pl.Float64, "diverged": pl.String, "train_loss": pl.Float64, "validation_loss": pl.Float64},
    ).to_arrow()  # fmt: skip


def test_a_row_of_the_sweep_has_all_of_its_facts():
    histories = [
        history("r", 0.1, 0, [4.0, 3.0, None]), history("r", 0.2, 0, [2.0]), history("r", 0.4, 1, [2.5]), history("r", 0.2, 1, [3.0]),
        history("s", 0.2, 0, [1.0], 0.5, "scale"),
    ]  # fmt: skip
    configured = {"r": {"learning_rate": 0.2, "option_value": None}, "s": {"learning_rate": 0.1, "option_value": 2.0}}
    rows = learning_rates.sweep_table(histories, configured).to_pylist()
    shared = {"run": "r", "variant": "v", "option": None, "option_value": None, "diverged": None}
    assert rows[0] == shared | {
        "seed": 0, "learning_rate": 0.1, "tokens": 300, "train_loss": 3.0, "validation_loss": 2.5, "mean_validation_loss": 2.5, "best": False,
        "at_edge": True, "configured": False, "advice": None,
    }  # fmt: skip
    assert [(row["mean_validation_loss"], row["best"], row["at_edge"], row["configured"]) for row in rows[1:4]] == [
        (2.0, True, False, True), (2.0, False, True, False), (2.0, True, False, True),
    ]  # fmt: skip
    assert rows[4]["advice"] == (
        "s: 0.2 is the lowest rate of the grid; add lower ones to the rates that the sweep tries; s: the study trains with 0.1; set its "
        "learning_rate to 0.2; s: the study trains with scale 2; set it to 0.5"
    )


def test_a_diverged_training_is_a_row_with_its_reason(tmp_path):
    lost = learning_rates.diverged_history(
        "nan at step 7", run="r", variant="v", seed=3, peak=0.5, option="scale", value=2.0
    )
    known = {
        "run": "r",
        "variant": "v",
        "seed": 3,
        "peak_learning_rate": 0.5,
        "option": "scale",
        "option_value": 2.0,
        "diverged": "nan at step 7",
    }
    assert lost.to_pylist() == [dict.fromkeys(learning_rates.HISTORY_SCHEMA.names) | known]
    [row] = learning_rates.sweep_table([lost], {"r": {"learning_rate": 0.5, "option_value": 2.0}}).to_pylist()
    assert (row["learning_rate"], row["tokens"], row["validation_loss"], row["mean_validation_loss"], row["best"]) == (
        0.5,
        None,
        None,
        None,
        False,
    )
    assert row["configured"] and row["at_edge"] and row["advice"] is None
    path = tmp_path / "h.parquet"
    tables.write_table(path, lost, learning_rates.HISTORY_SCHEMA)
    assert (
        learning_rates.compute(
            {"history": [str(path)]}, configured={"r": {"learning_rate": 1.0, "option_value": None}}
        )["learning_rates"].num_rows
        == 1
    )


# ---- the anatomy in words

ROW = {
    "not_applicable": None, "first_token": "drawn", "prompts": "p", "mass": 0.456, "mass_layer": 3, "uniform": 0.0649, "onset": 2, "onset_low": None, "onset_high": None,
    "onset_mass": 0.3, "layers": 6, "norm_ratio": 12.345, "norm_ratio_layer": 4, "surges": [2], "super_neuron_layers": [1, 2, 3, 4, 5],
    "super_neurons": [10, 20, 30, 40, 50], "super_neuron_shares": [0.5, 0.25, 0.126, 0.06, 0.05], "no_neurons": None,
    "dominating_dims": [7, 8, 9, 11], "dominating_dim_layers": [3, 1, 1, 1], "dominance_ratio": 123.456, "mean_mass": 0.3333, "top_position": 0,
    **{f"{prefix}_{name}": None for prefix in anatomy.EDITS for name in ("target", "strength", "sequences", "converted", "share", "share_low", "share_high")},
}  # fmt: skip


def card(*rows):
    return anatomy.facts(pl.DataFrame([ROW | row for row in rows], infer_schema_length=None))


def test_the_card_of_an_anatomy_tells_what_is_much_and_what_is_not_there():
    edit = {"mask_sequences": 8, "mask_target": 9, "mask_strength": 1.0, "mask_converted": 6, "mask_share": 0.75}
    assert card(
        {},
        {"first_token": "bos", "not_applicable": "no BOS"},
        {"first_token": "fixed", "mean_mass": 0.1, "top_position": 2} | edit,
    ) == {
        "sink": "begins at layer 2 of 6; mass up to 0.46, in layer 3 (uniform attention: 0.06)",
        "norm of the first token": "surges at layer 2; up to 12.3 times the others', in layer 4",
        "super neurons": "1.10 (50%), 2.20 (25%), 3.30 (13%), 4.40 (6%) and 1 more",
        "dominating dims": "7 (in 3 layers), 8 (in 1 layer), 9 (in 1 layer) and 1 more; dominance ratio up to 123",
        "sink by first token": "mean mass drawn 0.33; BOS: no BOS; one fixed token 0.10, most at position 2",
    }
    found = card(
        edit
        | {
            "super_neurons": [10],
            "super_neuron_layers": [1],
            "super_neuron_shares": [0.5],
            "dominating_dims": [7],
            "dominating_dim_layers": [1],
        }
    )
    assert found["attending to itself only"] == "position 9 becomes a sink in 6 of 8 sequences (75%)"
    assert (found["super neurons"], found["dominating dims"]) == (
        "1.10 (50%)",
        "7 (in 1 layer); dominance ratio up to 123",
    )
    amplified = {
        f"amplification_{name}": edit[f"mask_{name}"] for name in ("sequences", "target", "converted", "share")
    }
    found = card(
        amplified | {"amplification_strength": 8.0, "amplification_share_low": 0.35, "amplification_share_high": 0.968}
    )
    assert found["amplified variance"] == "position 9 by λ = 8 becomes a sink in 6 of 8 sequences (75%, 35% to 97%)"
    bare = {"super_neurons": [], "super_neuron_layers": [], "super_neuron_shares": [], "surges": [], "onset": None}
    found = card(bare)
    assert (found["super neurons"], found["sink"]) == (
        "none",
        "none begins (no layer above 0.3); mass up to 0.46, in layer 3 (uniform attention: 0.06)",
    )
    assert found["norm of the first token"] == "no surge; up to 12.3 times the others', in layer 4"
    assert card(bare | {"no_neurons": "experts"})["super neurons"] == "experts"
    assert card({"not_applicable": "no BOS", "first_token": "bos"}) == {"not applicable": "no BOS"}


def test_the_row_of_the_card_is_the_first_with_drawn_tokens_that_applies():
    rows = [
        ROW | {"prompts": prompts, "first_token": token, "not_applicable": why}
        for prompts, token, why in (("a", "drawn", "x"), ("b", "bos", None), ("c", "drawn", None), ("d", "drawn", None))
    ]
    table = pl.DataFrame(rows, infer_schema_length=None)
    assert anatomy.main_row(table)["prompts"] == "c" and anatomy.main_row(table, "a")["prompts"] == "a"
    assert anatomy.main_row(table[:2])["prompts"] == "b" and anatomy.main_row(table[:1])["prompts"] == "a"


def test_the_edit_that_stands_for_its_kind_is_nearest_to_the_paper():
    edit = {
        "site": "value_aggregation",
        "positions": [10],
        "layers": [0, 1],
        "layers_rule": "numbers",
        "intervention": "a",
        "target": 10,
        "strength": 8.0,
    }

    def main(*rows):
        return anatomy.main_edit(pl.DataFrame([edit | row for row in rows], infer_schema_length=None))

    assert main({"target": 12}, {"target": 9}, {"target": 11})["target"] == 9  # of equal distances the smaller
    assert main({"strength": 2.0}, {"strength": 16.5}, {"strength": 5.0})["strength"] == 5.0
    assert SHOWN_STRENGTH == 8.0 and main({"strength": 1.0}, {"strength": None, "target": 11})["strength"] == 1.0
    assert (
        main({"site": "attention"}, {"target": 30})["target"] == 30
        and main({"site": "attention", "target": 5})["target"] == 5
    )
    assert (
        main({"positions": [3, 10]}, {"target": 30})["target"] == 30
        and main({"positions": [3, 10], "target": 3})["target"] == 3
    )
    assert (
        main({"intervention": "b", "target": 9}, {"target": 30}, {"target": 31})["target"] == 30
    )  # the one with most positions
    assert main({"intervention": "b"}, {"intervention": "a", "target": 20})["intervention"] == "a"
    assert main({"layers": [4, 5]}, {"target": 30})["layers"] == [0, 1]
