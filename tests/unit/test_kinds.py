"""A kind of intervention is declared once: one module, and one line of the registry."""

import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from test_config import DEFAULT

import sinkorigin
from harness.config.interventions import intervention_figures, kinds_of, tables_needed
from harness.config.reading import read_config
from intervention_tables import write_study
from sinkorigin.claims.primary import c10_variance_not_norm
from sinkorigin.claims.tests import REPRODUCED
from sinkorigin.claims.verdicts import Judged, StudyTables
from sinkorigin.errors import NotApplicableError, SinkoriginError
from sinkorigin.figures import intervention_contrasts, sink_by_intervention
from sinkorigin.interventions import kinds
from sinkorigin.interventions.chain import structure
from sinkorigin.interventions.entries import edits_of, table_facts
from sinkorigin.interventions.folders import key_of
from sinkorigin.interventions.kind import kind_named
from sinkorigin.interventions.registry import KINDS
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.interventions import compute
from sinkorigin.tables import write_table
from tiny_study import ROOT

ALL = [kind_named(name) for name in KINDS]


def test_every_module_of_a_kind_is_registered_once():
    modules = {path.stem for path in (ROOT / "src/sinkorigin/interventions/kinds").glob("*.py")} - {"__init__"}
    assert modules == set(KINDS) and len(KINDS) == len(modules)


def test_every_kind_declares_what_the_study_asks_of_it():
    for kind in ALL:
        assert kind.formula and kind.label and kind.__doc__, kind
        assert (kind.role == "control") == (kind.control_of is not None), kind
        assert kind.control_of is None or kind_named(kind.control_of).compared_at == "strength", kind
        assert kind.compared_at is None or kind.role == "treatment", kind
        assert (kind.adds_variance is not None) == (kind.role == "control" and kind.has_doses()), kind
        assert kind.needs is None or kind.takes(kind.needs.parameter), kind
    looks = [kind.look for kind in ALL if kind.look is not None]
    assert len({look.colour for look in looks}) == len(looks)


def test_the_documentation_has_a_row_for_every_kind():
    page = (ROOT / "docs" / "science.md").read_text()
    assert all(f"| `{name}` | " in page for name in KINDS)


def test_kinds_need_no_pytorch():
    names = ", ".join(map(repr, KINDS))
    code = (
        "import sys\nfrom sinkorigin.interventions.kind import kind_named\n"
        f"for name in ({names}): kind_named(name)\n"
        "assert not {'torch', 'polars', 'pyarrow', 'matplotlib'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT / "src")})


def test_the_package_gives_every_kind_by_the_name_of_its_class():
    assert [getattr(sinkorigin, kind.__name__) for kind in ALL] == ALL
    with pytest.raises(AttributeError, match="module 'sinkorigin' has no attribute 'NoSuchKind'"):
        _ = sinkorigin.NoSuchKind


def test_a_kind_without_a_module_or_class_is_named_in_one_sentence():
    with pytest.raises(
        SinkoriginError, match="kind no_such: there is no class NoSuch in a module .*kinds.no_such; correct"
    ):
        kind_named("no_such")


def test_a_control_that_cannot_be_shown_is_refused_in_one_sentence(tmp_path, monkeypatch):
    module = NEW_KIND.replace('    look = Look(colour=7, marker="P")\n', "").replace("SignFlip", "SignLess")
    (tmp_path / "sign_less.py").write_text(module)
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(tmp_path)])
    with pytest.raises(
        SinkoriginError,
        match="kind sign_less: a control .* but SignLess has no look or does not say adds_variance; add both",
    ):
        kind_named("sign_less")


def test_an_entry_becomes_one_edit_for_each_factor_and_place():
    grid = {"kind": "mean_and_deviation", "layers": [1, 0], "positions": [5, [3, 6]], "mean_factors": [0.0, 2.0]}
    edits = edits_of(grid, 4.0)
    assert [(edit.mean_factor, edit.positions) for edit in edits] == [
        (0.0, (5,)), (0.0, (3, 6)), (2.0, (5,)), (2.0, (3, 6)),
    ]  # fmt: skip
    assert {(edit.layers, edit.strength, edit.site) for edit in edits} == {((0, 1), 4.0, "value_aggregation")}
    [after] = edits_of({"kind": "norm_control", "layers": [0], "positions": [5], "site": "attention_output"}, 2.0)
    assert after.site == "attention_output"
    [zeroed] = edits_of({"kind": "dominating_dims", "layers": [1], "positions": [0], "to": "zero"}, 1.0, {1: [7]})
    assert (zeroed.layers, zeroed.site, zeroed.to, zeroed.dims) == ((1,), "residual", "zero", {1: [7]})


def test_edits_that_differ_in_anything_have_keys_that_differ():
    entry = {"kind": "norm_control", "layers": [0], "positions": [5]}
    others = [{"layers": [1]}, {"positions": [6]}, {"site": "attention_output"}, {"kind": "mean_shift"}]
    keys = [key_of(edits_of(entry | other, 2.0)) for other in ({}, *others)] + [key_of(edits_of(entry, 3.0))]
    assert len(set(keys)) == len(keys) and keys[0] == key_of(edits_of(entry, 2.0))


def table(path, **columns):
    frame = pl.DataFrame(columns)
    write_table(path, frame.to_arrow(), frame.to_arrow().schema)
    return path


def test_variance_matching_shrinks_and_never_amplifies(tmp_path):
    variance = table(
        tmp_path / "variance.parquet", site=["value_aggregation"] * 5 + ["residual"], layer=[0, 0, 0, 2, 2, 0],
        position=[0, 1, 2, 0, 1, 1], variance=[8.0, 1.0, 3.0, 1.0, 4.0, 99.0],
    )  # fmt: skip
    entry = {"kind": "variance_matching", "name": "matched", "layers": [0, 2], "positions": [0]}
    assert table_facts(entry, {"variance": variance}) == {0: 0.5}
    assert kind_named("variance_matching").described({0: 0.5, 1: 0.25}) == "λ = 0.5 in layer 0, 0.25 in layer 1"
    with pytest.raises(NotApplicableError, match="not above that of later positions .* 2.00 in layer 2"):
        table_facts(entry | {"layers": [2]}, {"variance": variance})
    with pytest.raises(NotApplicableError, match="value aggregation of layer 1 has no variance .* at position 0"):
        table_facts(entry | {"layers": [1]}, {"variance": variance})


def test_neurons_and_dims_that_are_removed_are_those_that_the_chain_goes_through(tmp_path):
    """Of the super neurons those that raise the norm, and of the dims all that these write, in the edited layer or below."""
    rows = {
        "layer": [1, 1, 2, 4, 4], "neuron": [9, 3, 4, 8, 6], "super_neuron": [True, None, True, True, True],
        "norm_change": [20.0, 90.0, -5.0, 30.0, 8.0], "gate_norm": [1.0] * 5, "up_norm": [1.0] * 5, "dim_1": [7, 0, 1, 7, 3],
        "dim_2": [5, 0, 2, 6, 4], "dim_2_share": [0.4, 0.4, 0.4, 0.009, 0.01], "not_applicable": [None] * 5,
    }  # fmt: skip
    tables = {"super_neurons": table(tmp_path / "super_neurons.parquet", **rows)}
    silent = {"kind": "super_neuron_ablation", "name": "silent", "layers": None, "positions": [0]}
    assert table_facts(silent, tables) == {1: [9], 4: [6, 8]}
    zeroed = {"kind": "dominating_dims", "name": "zeroed", "layers": [1, 4], "positions": [0]}
    assert table_facts(zeroed, tables) == {1: [5, 7], 4: [3, 4, 5, 7]}
    for entry in (silent, zeroed):
        with pytest.raises(NotApplicableError, match="no super neuron raises the first token's norm in layers 2, 5"):
            table_facts(entry | {"layers": [2, 5]}, tables)
    rows = {name: values + values[1:2] * 3 for name, values in rows.items()}  # ordinary neurons to choose controls from
    rows |= {"layer": [1, 1, 2, 4, 4, 1, 4, 4], "neuron": [9, 3, 4, 8, 6, 2, 1, 0]}
    rows["super_neuron"][5:] = [False] * 3
    found = structure(pl.DataFrame(rows), [1, 4], edited=[0], layers=6, attending=range(6), width=16, seed=0)
    assert found.neurons == table_facts(silent, tables)
    assert {layer: found.dims[layer] for layer in (1, 4)} == table_facts(zeroed, tables)


def test_kinds_say_which_tables_and_figures_a_study_needs():
    config = read_config(DEFAULT)
    assert kinds_of(config.interventions) == list(KINDS)
    assert tables_needed(config.interventions) == ["variance", "super_neurons"]
    masks = [edit for edit in config.interventions if edit.kind == "mask"]
    assert intervention_figures(masks) == ["sink_by_intervention", "mask_by_layers_and_position", "edited_layers"]
    controls = [edit for edit in config.interventions if edit.kind in ("norm_control", "variance_amplification")]
    assert "intervention_contrasts" in intervention_figures(controls)
    first = [edit for edit in config.interventions if edit.kind == "value_averaging"]
    assert intervention_figures(first) == ["necessity"] and intervention_figures([]) == []


NEW_KIND = '''
from dataclasses import dataclass

from sinkorigin.interventions.kind import Look, VectorEdit


@dataclass(kw_only=True, eq=False)
class SignFlip(VectorEdit):
    """Control: o'_k = −λ o_k."""

    strength: float

    formula = "−λ o_k"
    role = "control"
    control_of = "variance_amplification"
    look = Look(colour=7, marker="P")
    adds_variance = False

    def edited(self, vectors, at):
        return -self.strength * vectors
'''


def test_a_new_kind_in_one_module_is_compared_judged_and_drawn(tmp_path, monkeypatch):
    (tmp_path / "kinds").mkdir()
    (tmp_path / "kinds/sign_flip.py").write_text(NEW_KIND)
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(tmp_path / "kinds")])
    rng = np.random.default_rng(0)

    def point(kind, mean, **other):
        return {"kind": kind, "target": 5, "score": mean * (1 + 0.05 * rng.standard_normal((12, 4, 2))), **other}

    edits = {
        kind: {strength: [point(kind, score)] for strength in (2.0, 4.0)}
        for kind, score in (("variance_amplification", 0.4), ("sign_flip", 0.012))
    }
    inputs = write_study(tmp_path, [point("baseline", 0.02)], edits, length=16)
    found = compute(
        inputs,
        model="m",
        prompts="p",
        length=16,
        resampling=Resampling(50, 0),
        comparison_replicates=1000,
        only=None,
    )
    contrasts = pl.from_arrow(found["intervention_contrasts"])
    assert contrasts.select("control_kind", "strength").rows() == [("sign_flip", 2.0), ("sign_flip", 4.0)]
    for name, rows in found.items():
        write_table(tmp_path / f"statistics/m/p/{name}.parquet", rows, rows.schema)
    places = {name: {("m", "p"): tmp_path / f"statistics/m/p/{name}.parquet"} for name in found}
    study = StudyTables(places, Judged("m", "M", "pretrained"), "p")
    settings = list(c10_variance_not_norm.CLAIM.settings(study))
    assert settings and c10_variance_not_norm.CLAIM.verdict(settings[0]) == REPRODUCED
    order = ["variance_amplification", "sign_flip"]
    drawn = sink_by_intervention.draw(
        interventions=pl.from_arrow(found["interventions"]), labels={"m": "M"}, kinds=order
    )
    assert [text.get_text() for text in drawn.legends[0].get_texts()][:2] == [
        "variance amplification, layers 0–1", "sign flip, layers 0–1",
    ]  # fmt: skip
    drawn = intervention_contrasts.draw(intervention_contrasts=contrasts, labels={"m": "M"}, kinds=order)
    assert "− sign flip" in [label.get_text() for label in drawn.axes[0].get_yticklabels()]


def test_no_module_of_the_library_reads_the_registry():
    library = ROOT / "src" / "sinkorigin"
    assert not [path for path in library.rglob("*.py") if "interventions.registry" in path.read_text()]
