"""Every decoder class is measured as it is, or refused with a reason; the survey of them all loses no more than a row."""

import os
import re
import time

import numpy as np
import polars as pl
import pytest
import torch
import transformers

from scripts_by_hand import run_script
from sinkorigin.activations.capture import watch_sites
from sinkorigin.activations.pipeline import extract
from sinkorigin.activations.writers import Kept
from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions.context import applied
from sinkorigin.interventions.kind import kind_named
from sinkorigin.interventions.kinds.mask import Mask
from sinkorigin.interventions.kinds.variance_amplification import VarianceAmplification
from sinkorigin.interventions.sweep import Sweep, measure_baseline, run_sweeps
from sinkorigin.models.loading import load_model
from sinkorigin.sites.architecture import read_architecture
from sinkorigin.sites.attention import Tap
from sinkorigin.statistics import (
    disparity,
    effective_rank,
    interventions,
    keys,
    matrix_entropy,
    norms,
    row_sinks,
    secondary_sinks,
    sinks,
    super_neurons,
    super_weight,
    value_drain,
    variance,
    variance_through_output,
)
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.weights import weight_tables
from sinkorigin.support import checks
from sinkorigin.support import survey as surveying
from sinkorigin.support.page import BUT, REFUSED, SCHEMA, SUPPORTED, UNTRIED, counts, page, summary
from sinkorigin.support.survey import Row, survey
from sinkorigin.support.tiny import LAYERS, VOCABULARY, WIDTH, tiny_model
from sinkorigin.tables import atomic_directory, write_table
from tiny_study import ROOT

# classes whose attention is only in their own modules: alibi, a fused product, fused projections, a flattened batch of heads
OUTSIDE = ["bloom", "falcon", "mpt", "gptj", "codegen", "gpt_neo", "xglm", "rembert"]
N, T = 8, 10


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize("model_type", OUTSIDE)
def test_a_class_outside_the_attention_interface_is_measured_in_its_own_eager_attention(model_type):
    trial = checks.try_model(tiny_model(model_type), model_type)
    assert trial.eager and trial.partial and not trial.lacking


class Seen(Tap):
    def __init__(self):
        self.weights, self.queries, self.keys = {}, {}, {}

    def observe(self, layer, query, key, weights, aggregation):
        self.weights[layer], self.queries[layer], self.keys[layer] = weights, query, key


@pytest.mark.parametrize("model_type", ["bloom", "gptj", "mpt"])
def test_what_is_seen_in_eager_attention_is_what_the_class_returns(model_type):
    model, seen = tiny_model(model_type), Seen()
    ids = torch.arange(3, 3 + 2 * T).reshape(2, T)
    with torch.no_grad():
        returned = model(ids, output_attentions=True).attentions
        with read_architecture(model).tapped(seen):
            model(ids)
    for layer, weights in enumerate(returned):
        assert torch.equal(seen.weights[layer], weights)
        if model_type == "gptj":  # the others add a bias by distance
            width = seen.queries[layer].shape[-1]
            logits = seen.queries[layer] @ seen.keys[layer].transpose(2, 3) / width**0.5
            hidden = torch.full((T, T), -torch.inf).triu(1)
            torch.testing.assert_close(torch.softmax(logits + hidden, dim=-1), weights)


class SeenValues(Seen):
    def observe_values(self, layer, values):
        self.values = {**getattr(self, "values", {}), layer: values}

    def observe(self, layer, query, key, weights, aggregation):
        super().observe(layer, query, key, weights, aggregation)
        values = self.values[layer]
        values = values.repeat_interleave(weights.shape[1] // values.shape[1], dim=1)
        torch.testing.assert_close(weights @ values, aggregation)


@pytest.mark.parametrize("model_type", OUTSIDE)
def test_the_values_of_eager_attention_are_those_that_it_aggregates(model_type):
    architecture, seen = read_architecture(tiny_model(model_type)), SeenValues()
    with architecture.tapped(seen):
        architecture.forward(torch.arange(3, 3 + 2 * T).reshape(2, T))
    assert sorted(seen.values) == sorted(architecture.attention)


def test_leaving_a_block_leaves_the_modules_as_they_were():
    model = tiny_model("bloom")
    architecture = read_architecture(model)
    with applied(architecture, Mask(layers=[0], positions=[3])), architecture.tapped(Tap()):
        assert "forward" in vars(architecture.attention[0])
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_pass_that_attends_in_another_way_than_the_probe_is_refused(monkeypatch):
    def fused(self, query, key, value, *args):
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True), None

    architecture = read_architecture(tiny_model("gptj"))
    monkeypatch.setattr(type(architecture.attention[0]), "_attn", fused)
    ids = torch.arange(3, 3 + T).reshape(1, T)
    architecture.forward(ids)
    with (
        architecture.tapped(Tap()),
        pytest.raises(SinkoriginError, match="GPTJAttention attends in this pass in another"),
    ):
        architecture.forward(ids)


def test_the_interface_is_taken_where_a_class_has_it():
    assert not checks.try_model(tiny_model("llama"), "m").eager


@pytest.mark.parametrize("model_type", ["bert", "openai-gpt"])
def test_a_block_whose_norms_are_behind_its_sums_is_read(model_type):
    model = tiny_model(model_type)
    assert not checks.try_model(model, model_type).lacking
    architecture = read_architecture(model)
    assert all(len(made.norms) == 2 for made in architecture.sums)
    assert all("rescales" in missing["contribution"] for missing in architecture.missing)


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory):
    """A model with and without attention in its layers, its extraction, and the folder."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("hybrid")
    architecture = read_architecture(tiny_model("jamba"), "m")
    ids = np.random.default_rng(0).integers(3, VOCABULARY, size=(N, T))
    kept = {site: Kept() for site in ("residual", "value_aggregation", "output_projection_output")}
    extract(architecture, ids, model="m", sites=kept, batch=4, activations=folder, scores=folder / "scores.parquet")
    return architecture, ids, folder


def test_tables_of_a_hybrid_have_rows_where_there_is_attention_and_say_why_not_elsewhere(hybrid):
    architecture, _, folder = hybrid
    attends = sorted(architecture.attention)
    assert 0 < len(attends) < architecture.layers == LAYERS
    for table in ("scores", "first_token_keys", "query_gram"):
        assert sorted(pl.read_parquet(folder / f"{table}.parquet")["layer"].unique()) == attends
    residual = pl.read_parquet(folder / "magnitudes.parquet").filter(site="residual")
    assert sorted(residual["layer"].unique()) == list(range(-1, LAYERS))
    found = pl.read_parquet(folder / "architecture.parquet")
    for part in ("attention", "key", "attention_input", "attention_output", "output"):
        lacking = found.filter(pl.col("part") == part, pl.col("found").is_null())
        assert sorted(lacking["layer"]) == [layer for layer in range(LAYERS) if layer not in attends]
        assert set(lacking["reason"]) == {"the layer has no softmax attention"}
    assert set(found.filter(part="ffn_output")["found"].is_null()) == {False}


def test_every_statistic_takes_a_hybrid(hybrid):
    architecture, ids, folder = hybrid
    attends = sorted(architecture.attention)
    for name, table in weight_tables(architecture, model="m").items():
        write_table(folder / f"{name}.parquet", table, table.schema)
    tokens = {"sequence": np.arange(N, dtype=np.int32), "token_ids": ids.tolist()}
    tokens["tokens"] = [list(map(str, row)) for row in ids]
    pl.DataFrame(tokens).write_parquet(folder / "prompts.parquet")
    inputs = {path.stem: str(path) for path in folder.glob("*.parquet")}
    sites = {name: str(folder / name / "manifest.json") for name in ("value_aggregation", "output_projection_output")}
    names = {"model": "m", "prompts": "p"}
    drawn = {"resampling": Resampling(20, 0)}
    tables = {
        **sinks.compute(inputs, **names, length=ids.shape[1], epsilons=[0.3], onset_mass=0.1, change_mass=0.1, **drawn),
        **keys.compute(inputs, **names, **drawn),
        **secondary_sinks.compute(inputs, **names, **drawn),
        **norms.compute(inputs, **names, surge_ratio=2.0, change_factor=2.0, **drawn),
        **disparity.compute(inputs, **names, **drawn),
        **effective_rank.compute(inputs, **names),
        **super_neurons.compute(inputs, **names, share=0.1, ratio=2.0, **drawn),
        **variance.compute({"sites": [sites["value_aggregation"]]}, **names, sites=["value_aggregation"], **drawn),
        **variance_through_output.compute({**inputs, **sites}, **names, **drawn),
        **value_drain.compute(inputs, **names, onset_mass=0.1, **drawn),
        **matrix_entropy.compute(inputs, **names, **drawn),
        **super_weight.compute(inputs, **names, **drawn),
        **row_sinks.compute(inputs, **names, epsilons=[0.3], **drawn),
    }
    layers = {name: sorted({layer for layer in pl.DataFrame(table)["layer"] if layer is not None and layer >= 0})
              for name, table in tables.items() if "layer" in table.column_names}  # fmt: skip
    for name in (
        "sink_mass", "sinks", "key_collapse", "query_alignment", "variance", "variance_through_output", "value_norms",
    ):  # fmt: skip
        assert layers[name] == attends, name
    for name in (
        "norm_ratio", "disparity_by_layer", "effective_rank", "super_neuron_surge", "matrix_entropy", "super_weight",
        "value_drain", "row_sinks", "row_sink_rate",
    ):  # fmt: skip
        assert layers[name] == list(range(LAYERS)), name
    for name, value in (("value_drain", "ratio"), ("row_sinks", "largest"), ("row_sink_rate", "rate")):
        lacking = pl.DataFrame(tables[name]).filter(pl.col("not_applicable").is_not_null())
        assert lacking["layer"].to_list() == [layer for layer in range(LAYERS) if layer not in attends], name
        assert set(lacking["not_applicable"]) == {"the layer has no softmax attention"}
        assert lacking[value].null_count() == len(lacking)


def test_interventions_of_a_hybrid_change_the_layers_with_attention(hybrid, tmp_path):
    architecture, ids, _ = hybrid
    attends = sorted(architecture.attention)
    every = list(range(LAYERS))
    edits = [Mask(layers=every, positions=[5]), VarianceAmplification(layers=every, positions=[5], strength=2.0)]
    with atomic_directory(tmp_path / "baseline") as baseline:
        measure_baseline(architecture, ids, baseline, targets=[5], model="m", batch=4, losses=True)
    sweeps = {tmp_path / "edited" / edit.kind / "all": Sweep(edit.kind, [edit]) for edit in edits}
    (tmp_path / "scratch").mkdir()
    run_sweeps(
        architecture, ids, sweeps, sequences=N, model="m", batch=4, losses=True, scratch=tmp_path / "scratch",
        folder_of=atomic_directory,
    )  # fmt: skip
    folder = tmp_path / "edited" / "mask" / "all"
    assert sorted(pl.read_parquet(folder / "scores.parquet")["layer"].unique()) == attends
    residuals = pl.read_parquet(folder / "residuals.parquet")
    assert sorted(residuals["layer"].unique()) == every
    assert sorted(residuals.filter(pl.col("key_cosine").is_null())["layer"].unique()) == [
        layer for layer in every if layer not in attends
    ]
    pl.DataFrame(
        {"intervention": [edit.kind for edit in edits], "layers_rule": ["all"] * 2, "applicable": [True] * 2}
    ).write_parquet(tmp_path / "resolved.parquet")
    inputs = {name: str(tmp_path / name / "manifest.json") for name in ("baseline", "edited")}
    effects = interventions.compute(
        {**inputs, "resolved": str(tmp_path / "resolved.parquet")},
        model="m", prompts="p", length=T, resampling=Resampling(20, 0), comparison_replicates=20, only=None,
    )  # fmt: skip
    assert set(pl.DataFrame(effects["intervention_layers"])["layer"]) == set(attends)
    assert set(pl.DataFrame(effects["interventions"])["peak_layer"]) <= set(attends)
    # against a full pass
    seen, ids = Seen(), torch.from_numpy(ids)
    with applied(architecture, edits[0]), architecture.tapped(seen):
        architecture.forward(ids)
    for layer in attends:
        scores = pl.read_parquet(folder / "scores.parquet").filter(layer=layer).sort("sequence", "head")["score"]
        expected = seen.weights[layer][:, :, 6:, 5].mean(dim=2).flatten().numpy()
        np.testing.assert_allclose(scores.to_numpy(), expected, rtol=1e-4, atol=1e-7)


def test_a_site_of_a_layer_below_the_first_attention_is_edited(hybrid):
    architecture, ids, _ = hybrid
    assert 0 not in architecture.attention
    edit = kind_named("dominating_dims")(dims={0: [3]}, positions=[5], to="zero")
    residuals = {}
    with applied(architecture, edit):
        with watch_sites(architecture, ["residual"], lambda layer, _, x: residuals.__setitem__(layer, x.clone())):
            architecture.forward(torch.from_numpy(ids))
    assert (residuals[0][:, 5, 3] == 0).all() and (residuals[0][:, :5, 3] != 0).all()


def test_an_edit_of_the_attention_in_layers_without_attention_is_refused_with_those_that_have_it(hybrid):
    architecture, *_ = hybrid
    without = [layer for layer in range(LAYERS) if layer not in architecture.attention]
    with pytest.raises(
        SinkoriginError, match=f"none of the layers {without[0]}, .* has attention, .* choose from layers"
    ):
        with applied(architecture, Mask(layers=without, positions=[3])):
            pass


def test_a_layer_that_selects_its_keys_lets_no_mask_choose_one_that_it_hides():
    model = tiny_model("deepseek_v32")
    architecture = read_architecture(model)
    ids = torch.arange(3, 3 + 4 * T).reshape(4, T)
    with applied(architecture, Mask(layers=[0], positions=[T - 1])), torch.no_grad():
        with pytest.raises(SinkoriginError, match="mask lets position 9 attend to 9 only, but layer 0 hides that"):
            model(ids)


def test_a_class_older_than_the_attention_interface_is_read_as_it_is_loaded_from_its_files(tmp_path):
    ids = torch.arange(3, 3 + 2 * T).reshape(2, T)
    tiny_model("falcon").save_pretrained(tmp_path / "falcon")
    model = load_model(tmp_path / "falcon")
    assert model.config._attn_implementation == "sdpa"
    with torch.no_grad():
        plain = model(ids).logits
        architecture = read_architecture(model)
        assert architecture.eager and len(architecture.attention) == LAYERS
        architecture.check_against_eager(ids, "m")
        with applied(architecture, Mask(layers=[0], positions=[T - 1])):
            masked = model(ids).logits
        assert model.config._attn_implementation == "sdpa" and torch.equal(model(ids).logits, plain)
        torch.testing.assert_close(masked[:, : T - 1], plain[:, : T - 1])  # by the eager function
    assert not torch.allclose(masked[:, T - 1], plain[:, T - 1], atol=1e-3)


@pytest.mark.parametrize(
    ("model_type", "sentence"),
    [
        ("mamba", "takes its attention neither from transformers' AttentionInterface nor as a softmax"),
        ("gemma3n_text", "its blocks carry several residual streams"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_what_is_unusual(model_type, sentence):
    with pytest.raises(SinkoriginError, match=sentence):
        checks.try_model(tiny_model(model_type), model_type)


@pytest.mark.parametrize(
    ("breaking", "sentence"),
    [
        ("attention_output", "the sites of layer 0 do not add up"),
        ("residual", "the sites of layer 0 do not add up"),
    ],
)
def test_a_site_that_is_not_the_models_own_is_found_out(breaking, sentence, monkeypatch):
    def captured(*args):
        seen, logits = original(*args)
        seen[0, breaking] = seen[0, breaking] * 1.001
        return seen, logits

    original = checks._captured
    monkeypatch.setattr(checks, "_captured", captured)
    with pytest.raises(SinkoriginError, match=sentence):
        checks.try_model(tiny_model("llama"), "m")


def test_an_edit_that_moves_earlier_positions_is_found_out(monkeypatch):
    def captured(architecture, ids, *edits):
        seen, logits = original(architecture, ids, *edits)
        if edits:
            seen[2, "residual"] = seen[2, "residual"].roll(-1, dims=1)
        return seen, logits

    original = checks._captured
    monkeypatch.setattr(checks, "_captured", captured)
    with pytest.raises(SinkoriginError, match="the mask of position 5 moves earlier positions in layer 2"):
        checks.try_model(tiny_model("llama"), "m")


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "qwen3_next", "gemma3", "deepseek_v3", "zamba2"])
def test_a_tiny_instance_is_tiny_and_keeps_each_kind_of_layer(model_type):
    config = tiny_model(model_type).config.get_text_config(decoder=True)
    default = transformers.AutoConfig.for_model(model_type).get_text_config(decoder=True)
    assert (config.num_hidden_layers, config.hidden_size, config.vocab_size) == (LAYERS, WIDTH, VOCABULARY)
    kinds = getattr(config, "layer_types", None)
    assert kinds is None or set(kinds) == set(default.layer_types)


def test_a_class_that_crashes_or_hangs_costs_its_row_only(monkeypatch):
    def tried(model_type, model_class):
        if model_type == "dies":
            os._exit(3)
        if model_type == "hangs":
            time.sleep(60)
        if model_type == "fails":
            raise ZeroDivisionError("no")
        return Row(model_type, model_class, SUPPORTED)

    monkeypatch.setattr(surveying, "tried", tried)
    types = [(name, name.title()) for name in ("hangs", "dies", "fails", "works", "too")]
    began = time.monotonic()
    rows = {row["model_type"]: row for row in survey(types, workers=2, seconds=1.5).to_pylist()}
    assert time.monotonic() - began < 20
    assert [rows[name]["outcome"] for name, _ in types] == [REFUSED, REFUSED, REFUSED, SUPPORTED, SUPPORTED]
    assert "after 1.5 s" in rows["hangs"]["reason"]
    assert "ended with code 3" in rows["dies"]["reason"]
    assert "unexpected ZeroDivisionError: no" in rows["fails"]["reason"]


def test_a_row_says_what_is_lacking_and_why():
    row = surveying.tried("mixtral", "MixtralForCausalLM")
    assert row.outcome == BUT and row.attention_layers == row.layers == LAYERS
    assert row.reason == (
        "ffn_activation in 4 of 4 layers (no single projection makes the FFN's output, as in a mixture of experts)"
    )
    assert surveying.tried("mamba", "MambaForCausalLM").outcome == REFUSED


def test_the_script_writes_a_row_for_each_type(tmp_path):
    types = {"llama": "LlamaForCausalLM", "mamba": "MambaForCausalLM"}
    run_script(
        "survey_support.py",
        tmp_path,
        inputs={},
        outputs={"table": tmp_path / "support.parquet"},
        params={"types": types},
    )
    rows = pl.read_parquet(tmp_path / "support.parquet").sort("model_type")
    assert dict(zip(rows["model_type"], rows["outcome"], strict=True)) == {"llama": SUPPORTED, "mamba": REFUSED}
    assert set(rows["transformers"]) == {transformers.__version__}


def test_the_page_and_the_readme_have_the_counts_of_the_same_table():
    text = (ROOT / "docs" / "support.md").read_text()
    sections = {
        title: int(number)
        for title, number in re.findall(r"^## (Supported but for|\w+)\b.*\((\d+)\)$", text, re.MULTILINE)
    }
    rows = len(re.findall(r"^\| `", text, re.MULTILINE))
    said = next(part for part in text.split("\n\n") if part.startswith("Of the "))
    numbers = list(map(int, re.findall(r"(?<![\d.])\d+(?![\d.])", said)))
    total, measured, whole, part, refused, untried = numbers
    assert total == rows == sum(sections.values()) and measured == whole + part
    assert list(sections.values()) == [whole, part, refused, untried]
    assert measured >= 0.8 * total
    assert said in (ROOT / "README.md").read_text()


def test_counts_and_page_are_those_of_the_table():
    rows = [
        Row("a", "A", SUPPORTED, None, 4, 4, False, True),
        Row("b", "B", BUT, "x in 1 of 4 layers (y | z)", 3, 4, True, False),
        Row("c", "C", REFUSED, "no attention"),
        Row("d", "D", UNTRIED, "too large"),
    ]
    import pyarrow as pa

    table = pa.Table.from_pylist([vars(row) | {"transformers": "5"} for row in rows], schema=SCHEMA)
    assert counts(table) == {SUPPORTED: 1, BUT: 1, REFUSED: 1, UNTRIED: 1}
    assert "Of the 4 types" in summary(table) and "2 are supported (1 with every site" in summary(table)
    assert "| `b` | `B` | eager | full | x in 1 of 4 layers (y \\| z) |" in page(table)
    assert "| `a` | `A` | interface | partial |\n" in page(table)
