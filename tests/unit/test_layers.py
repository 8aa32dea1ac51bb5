"""A rule finds layers in a model's own measured structure, with a stated fallback, and says what a model lacks."""

import numpy as np
import polars as pl
import pytest

from harness.config.interventions import Intervention
from sinkorigin.errors import NotApplicableError
from sinkorigin.interventions.entries import applicable, edits_of
from sinkorigin.interventions.kind import kind_named
from sinkorigin.interventions.layers import RULES, Structure, is_later, layers_of, main_layers
from sinkorigin.interventions.resolution import Known, missing_sites, resolve, structure_of
from sinkorigin.tables import write_table
from tiny_study import ROOT

SMOLLM = Structure(30, onset=3, surges=(2, 11))
WITHOUT = Structure(30)


@pytest.mark.parametrize(
    ("rule", "layers", "how"),
    [
        ("until_onset", [0, 1, 2, 3], "sink onset at layer 3"),
        ("surges", [2, 11], "norm surges at layers 2, 11"),
        ("first", [0], "the first layer"),
        ("middle", [10, 11, 12, 13], "from a third of the depth on, as many as until_onset: sink onset at layer 3"),
        ("late", [20, 21, 22, 23], "from two thirds of the depth on, as many as until_onset: sink onset at layer 3"),
        ("all", list(range(30)), "all layers"),
    ],
)
def test_smollm_has_the_layers_that_the_default_study_named_by_number(rule, layers, how):
    found = layers_of(rule, SMOLLM)
    assert (found.layers, found.how) == (layers, how)


def test_every_rule_is_tested_documented_and_a_word_of_the_config():
    page = (ROOT / "docs" / "science.md").read_text()
    for word, rule in RULES.items():
        assert f"| `{word}` | " in page and rule.description
        entry = {"name": "x", "kind": "norm_control", "positions": [5], "layers": word}
        assert Intervention.model_validate(entry).layers == word


@pytest.mark.parametrize(("depth", "count"), [(30, 4), (18, 2), (12, 2), (4, 1), (1, 1)])
def test_without_an_onset_the_first_eighth_is_early(depth, count):
    found = layers_of("until_onset", Structure(depth))
    assert found.layers == list(range(count))
    assert found.how == f"no sink onset: the first eighth of the {depth} layers"


def test_middle_and_late_are_as_many_and_overlap_nothing():
    assert layers_of("middle", WITHOUT).layers == [10, 11, 12, 13]
    assert layers_of("late", Structure(3, onset=0)).layers == [2]
    assert layers_of("middle", Structure(3, onset=0)).layers == [1]


@pytest.mark.parametrize(
    ("rule", "model", "reason"),
    [
        ("surges", WITHOUT, "the first token's norm rises in no layer"),
        ("middle", Structure(6, onset=2), "too few layers: a third of its depth is layer 2, but until_onset ends at layer 2"),
        ("middle", Structure(1), "too few layers: a third of its depth is layer 0, but until_onset ends at layer 0"),
        ("late", Structure(9, onset=5), "too few layers: as many as until_onset, from layer 6 on, would end at layer 11 of 9"),
        ([20, 23], Structure(18), "layer 23 of a model of 18 layers"),
    ],
)  # fmt: skip
def test_what_a_model_lacks_is_said(rule, model, reason):
    with pytest.raises(NotApplicableError, match=reason):
        layers_of(rule, model)


def test_numbers_stay_as_they_are():
    assert layers_of([3, 1], SMOLLM).layers == [1, 3]


def test_the_main_edit_is_that_of_the_early_rule_and_else_the_earliest_and_longest():
    assert main_layers([("all", range(30)), ("until_onset", [0, 1]), ("numbers", [0, 1, 2])]) == [0, 1]
    assert main_layers([("numbers", [0]), ("numbers", [0, 1, 2]), ("numbers", [4])]) == [0, 1, 2]
    assert main_layers([("all", range(3)), ("numbers", [1])]) == [1]
    assert is_later("late", [20, 21], [0, 1]) and is_later("numbers", [2], [0, 1])
    assert not is_later("numbers", [1, 2], [0, 1]) and not is_later("surges", [2, 11], [0, 1])


# ---- from entries of the config to what they are in a model

DEPTH, LENGTH = 6, 12
VARIED = np.random.default_rng(0).integers(3, 96, size=(8, LENGTH))
SAME_FIRST = np.concatenate([np.full((8, 1), 7), VARIED[:, 1:]], axis=1)
DEFAULTS = {"layers": "until_onset", "positions": [5], "strengths": [1.0], "mean_factors": None, "calibration": 0}
DEFAULTS |= {"site": "value_aggregation", "to": None}


def architecture(lacking=()):
    parts = ("attention", "value_aggregation", "attention_output", "ffn_activation", "residual")
    rows = [
        {"layer": layer, "part": part, "found": None if (layer, part) in lacking else "x", "reason": "it is another kind of layer"}
        for layer in range(DEPTH)
        for part in parts
    ]  # fmt: skip
    return pl.DataFrame(rows)


@pytest.fixture
def statistics(tmp_path):
    """Tables of a model with an onset at layer 1, surges at 1 and 4, and super neurons in layer 4 that raise the norm and lower it."""
    tables = {
        "sink_onset": {"layer": [1]},
        "norm_changes": {"kind": ["rise", "fall", "rise"], "layer": [1, 2, 4]},
        "super_neurons": {
            "layer": [4, 4, 4], "neuron": [9, 8, 2], "super_neuron": [True, False, True], "norm_change": [50.0, 1.0, -30.0],
            "dim_1": [7, 1, 3], "dim_2": [5, 2, 6], "dim_2_share": [0.3, 0.4, 0.5], "not_applicable": [None] * 3,
        },
        "variance": {
            "site": ["value_aggregation"] * 4, "layer": [0, 0, 1, 1], "position": [0, 1] * 2, "variance": [4.0, 1.0] * 2,
        },
    }  # fmt: skip
    paths = {}
    for name, columns in tables.items():
        table = pl.DataFrame(columns).to_arrow()
        paths[name] = tmp_path / f"{name}.parquet"
        write_table(paths[name], table, table.schema)
    return paths


def resolved(statistics, entries, *, token_ids=VARIED, like=None, lacking=()):
    entries = [{**DEFAULTS, "name": f"e{i}", **entry} for i, entry in enumerate(entries)]
    known = architecture(lacking)
    known = Known(structure_of(known, statistics), missing_sites(known), statistics, token_ids, like)
    table = resolve(entries, known, model="m", prompts="p")
    return table.to_pylist(), applicable(entries, table.to_pylist())


def test_an_entry_has_its_layers_in_numbers_and_says_how_they_were_found(statistics):
    kinds = [
        {"kind": "mask"},
        {"kind": "mask", "layers": [0, 3]},
        {"kind": "super_neuron_ablation", "layers": None, "positions": [0]},
        {"kind": "dominating_dims", "layers": "surges", "positions": [0], "to": "zero"},
        {"kind": "mask", "positions": [5, [3, 6]]},
    ]
    rows, entries = resolved(statistics, kinds)
    assert [(row["layers_rule"], row["layers"], row["how"]) for row in rows[:4]] == [
        ("until_onset", [0, 1], "sink onset at layer 1"),
        ("numbers", [0, 3], "numbers of the config"),
        ("found", [4], "every layer that the table super_neurons names: neurons 4.9"),
        ("surges", [4], "norm surges at layers 1, 4: dims 5, 7 in layer 4"),
    ]
    assert all(row["applicable"] and row["reason"] is None for row in rows)
    assert entries["e0"]["layers"] == [0, 1] and entries["e0"]["strengths"] == [1.0]
    assert entries["e4"]["positions"] == rows[4]["positions"] == [[5], [3, 6]]


def test_a_control_takes_the_layers_of_the_model_whose_architecture_it_has(statistics):
    rows, _ = resolved(statistics, [{"kind": "mask"}, {"kind": "mask", "layers": [2]}], like="other")
    assert [row["how"] for row in rows] == ["as in other: sink onset at layer 1", "numbers of the config"]


@pytest.mark.parametrize(
    ("entry", "tables", "reason"),
    [
        ({"kind": "mask", "layers": [DEPTH]}, {}, "layer 6 of a model of 6 layers"),
        ({"kind": "mask", "layers": "late"}, {"sink_onset": {"layer": [3]}}, "the model has too few layers: as many as until_onset, from layer 4 on"),
        ({"kind": "super_neuron_ablation", "layers": None, "positions": [0]}, {"super_neurons": {"super_neuron": [False] * 3}},
         "no super neuron raises the first token's norm"),
        ({"kind": "super_neuron_ablation", "layers": None, "positions": [0]}, {"super_neurons": {"norm_change": [-1.0] * 3}},
         "no super neuron raises the first token's norm"),
        ({"kind": "super_neuron_ablation", "layers": None, "positions": [0]},
         {"super_neurons": {"super_neuron": pl.Series([None] * 3, dtype=pl.Boolean), "not_applicable": ["it has none"] * 3}}, "it has none"),
        ({"kind": "dominating_dims", "layers": "surges", "positions": [0]}, {"norm_changes": {"kind": ["fall"] * 3}},
         "the first token's norm rises in no layer"),
        ({"kind": "dominating_dims", "layers": [3], "positions": [0]}, {}, "no super neuron raises the first token's norm in layer 3"),
        ({"kind": "variance_matching", "positions": [0]}, {"variance": {"variance": [None, 1.0] * 2}}, "has no variance over"),
        ({"kind": "variance_matching", "positions": [0]}, {"variance": {"variance": [0.0, 1.0] * 2}}, "has no variance over"),
        ({"kind": "variance_matching", "positions": [0]}, {"variance": {"variance": [1.0, 4.0] * 2}},
         "is not above that of later positions in any edited layer (λ would be 2.00 in layer 0, 2.00 in layer 1)"),
        ({"kind": "mask", "positions": [11, [3, 20]]}, {},
         "position 11 has no later query in prompts of 12 tokens; position 20 has no later query in prompts of 12 tokens"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_a_row_with_its_reason_and_the_others_go_on(statistics, entry, tables, reason):
    for name, columns in tables.items():
        table = pl.read_parquet(statistics[name])
        table = table.head(1) if name == "sink_onset" else table
        table = table.with_columns(pl.Series(column, values) for column, values in columns.items()).to_arrow()
        write_table(statistics[name], table, table.schema)
    rows, entries = resolved(statistics, [entry, {"kind": "norm_control", "strengths": [2.0]}])
    assert not rows[0]["applicable"] and reason in rows[0]["reason"] and rows[0]["positions"] == []
    assert rows[1]["applicable"] and entries.keys() == {"e1"}


@pytest.mark.parametrize(
    ("entry", "changes"),
    [
        ({"kind": "value_averaging", "strengths": [2.0, 4.0]}, False),
        ({"kind": "variance_amplification", "strengths": [1.0, 4.0]}, False),
        ({"kind": "shuffled_deviations", "strengths": [1.0]}, False),
        ({"kind": "mean_and_deviation", "strengths": [2.0], "mean_factors": [1.0]}, False),
        ({"kind": "mean_and_deviation", "strengths": [2.0], "mean_factors": [1.0, 2.0]}, True),
        ({"kind": "dominating_dims", "layers": [4], "to": "mean"}, False),
        ({"kind": "dominating_dims", "layers": [4], "to": "zero"}, True),
        ({"kind": "norm_control", "strengths": [2.0]}, True),
        ({"kind": "super_neuron_ablation", "layers": None}, True),
    ],
)
def test_what_compares_sequences_changes_nothing_at_a_token_that_all_have(statistics, entry, changes):
    rows, _ = resolved(statistics, [{**entry, "positions": [0]}], token_ids=SAME_FIRST)
    assert rows[0]["applicable"] == changes
    label = kind_named(entry["kind"]).label
    said = f"every sequence begins with the same token, so {label} changes nothing at position 0"
    assert rows[0]["reason"] == (None if changes else said)
    varied, _ = resolved(statistics, [{**entry, "positions": [0]}])
    assert varied[0]["applicable"]


def test_a_position_that_cannot_be_edited_is_left_out_and_the_others_stay(statistics):
    entry = {"kind": "variance_amplification", "strengths": [2.0], "positions": [0, 5, [0, 3], 11]}
    [row], entries = resolved(statistics, [entry], token_ids=SAME_FIRST)
    assert row["applicable"] and row["positions"] == entries["e0"]["positions"] == [[5], [0, 3]]
    assert "same token" in row["reason"] and "position 11 has no later query" in row["reason"]
    assert [edit.positions for edit in edits_of(entries["e0"], 2.0)] == [(5,), (0, 3)]


def test_layers_without_the_site_are_left_out_of_a_rule_and_refuse_numbers(statistics):
    lacking = {(0, "attention"), (2, "attention_output")}
    entries = [
        {"kind": "mask"},
        {"kind": "mask", "layers": [0, 1]},
        {"kind": "mask", "layers": "first"},
        {"kind": "norm_control", "layers": [0, 2], "strengths": [2.0]},
        {"kind": "norm_control", "layers": [0, 2], "strengths": [2.0], "site": "attention_output"},
    ]
    rows, _ = resolved(statistics, entries, lacking=lacking)
    assert (rows[0]["layers"], rows[0]["how"]) == (
        [1],
        "sink onset at layer 1; without layers 0, where there is no attention",
    )
    assert [row["reason"] for row in rows[1:]] == [
        "layer 0 has no attention: it is another kind of layer", "layer 0 has no attention: it is another kind of layer",
        None, "layer 2 has no attention_output: it is another kind of layer",
    ]  # fmt: skip
