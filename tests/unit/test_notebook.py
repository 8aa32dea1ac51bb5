"""The notebook's measurements are the workflow's, on prompts in any form, and leave the model as it was."""

import subprocess
import sys
from importlib import import_module

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from polars.testing import assert_frame_equal

import sinkorigin
from architectures import build
from harness.config.statistics import Statistics
from sinkorigin.errors import SinkoriginError
from sinkorigin.notebook.settings import SITES, Settings
from sinkorigin.notebook.token_ids import read_token_ids
from sinkorigin.sites.architecture import read_architecture
from sinkorigin.statistics.registry import STATISTICS
from sinkorigin.statistics.uniform import SINK_FACTOR
from tiny_study import ROOT

VOCABULARY = 96
# statistics of a whole study, of trainings, or of edits
OF_OTHER_THINGS = {
    "interventions",
    "mediation",
    "pretraining",
    "pretraining_comparison",
    "pretraining_timing",
    "ladder",
    "learning_rates",
    "anatomy",
}


@pytest.fixture(scope="module")
def measured():
    ids = np.random.default_rng(0).integers(3, VOCABULARY, size=(6, 12))
    return sinkorigin.measure(build("llama"), ids, replicates=40), ids


def test_every_table_of_a_model_on_a_prompt_set_is_there_with_its_columns(measured):
    tables = {
        name: schema
        for statistic in STATISTICS
        if statistic not in OF_OTHER_THINGS
        for name, schema in import_module(f"sinkorigin.statistics.{statistic}").TABLES.items()
    }
    assert len(tables) >= 20
    for name, schema in tables.items():
        assert getattr(measured[0], name).columns == schema.names, name
        assert set(measured[0].schema(name)) == set(schema.names)
    assert {"neurons", "output_projection", "architecture"} <= measured[0].tables.keys()


def test_the_settings_have_the_defaults_of_the_config():
    config = Statistics().model_dump()
    assert {**vars(Settings()), "epsilons": list(Settings().epsilons)} == config


def test_the_sites_and_positions_are_those_of_a_study_that_names_none():
    standard = yaml.safe_load((ROOT / "workflow_scripts/harness/config/standard.yaml").read_text())
    kept = {site["site"]: site.get("positions") for site in standard["activations"]["sites"]}
    assert kept == {site: None if positions is None else list(positions) for site, positions in SITES.items()}


def test_batches_workers_and_a_known_architecture_change_no_number(measured):
    expected, ids = measured
    again = sinkorigin.measure(read_architecture(build("llama")), ids, replicates=40, batch=4, workers=2)
    for name, table in expected.tables.items():
        assert_frame_equal(table, again.tables[name], rel_tol=1e-6, abs_tol=1e-6)


def state(model):
    """Whatever a measurement could leave behind."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    modules = list(model.modules())
    return (
        [{name: list(getattr(module, name)) for name in hooks} for module in modules],
        [module.training for module in modules],
        ["forward" in vars(module) for module in modules],
        model.config._attn_implementation,
        [(parameter.requires_grad, parameter.grad) for parameter in model.parameters()],
        torch.is_grad_enabled(),
        torch.get_num_threads(),
    )


def test_the_model_is_left_as_it_was(measured):
    model = build("llama")
    before = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    model.train()
    model.model.layers[1].eval()
    try:
        left = state(model)
        found = sinkorigin.measure(model, measured[1], replicates=40)
        assert state(model) == left
        assert_frame_equal(found.sink_mass, measured[0].sink_mass)  # not that of a model with dropout
    finally:
        model.eval()
        model.set_attn_implementation(before)


def test_half_precision_is_measured(measured):
    model = build("llama", seed=1).to(torch.bfloat16)
    try:
        assert sinkorigin.measure(model, measured[1], replicates=40).sink_mass.height == 3
    finally:
        model.float()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_no_number(measured, side):
    expected, ids = measured
    padding = np.zeros((len(ids), 3), dtype=int)
    mask = np.ones_like(ids)
    order = (lambda pads, real: [pads, real]) if side == "left" else (lambda pads, real: [real, pads])
    padded = {"input_ids": np.hstack(order(padding, ids)), "attention_mask": np.hstack(order(padding, mask))}
    for form in (torch.tensor, np.ndarray.tolist):
        found = sinkorigin.measure(build("llama"), {key: form(value) for key, value in padded.items()}, replicates=40)
        assert_frame_equal(found.sinks, expected.sinks)
        assert_frame_equal(found.variance, expected.variance)


def test_longer_sequences_are_cut_to_the_shortest_and_it_is_said(measured):
    _, ids = measured
    rows = [row[: len(row) - number % 2] for number, row in enumerate(ids.tolist())]
    with pytest.warns(UserWarning, match="the sequences have 11 to 12 tokens.*all are cut to the first 11"):
        found = sinkorigin.measure(build("llama"), rows, replicates=40)
    assert (found.sequences, found.length) == (6, 11)
    assert_frame_equal(found.sinks, sinkorigin.measure(build("llama"), ids[:, :11], replicates=40).sinks)


def test_one_prompt_has_sink_scores_and_no_variance(measured):
    found = sinkorigin.measure(build("llama"), measured[1][0], replicates=40)
    assert found.sink_mass.height == 3
    with pytest.raises(AttributeError, match="no table variance: a variance over sequences needs two sequences"):
        found.variance  # noqa: B018
    with pytest.raises(AttributeError, match="no table 'sink_mas'; the tables are architecture, neurons,"):
        found.sink_mas  # noqa: B018


def test_some_statistics_alone_are_computed_and_others_are_told_to_be_left_out(measured):
    found = sinkorigin.measure(build("llama"), measured[1], statistics=["sinks"], replicates=40)
    assert_frame_equal(found.sink_mass, measured[0].sink_mass)
    with pytest.raises(AttributeError, match="no table effective_rank: the statistic effective_rank was not computed"):
        found.effective_rank  # noqa: B018
    with pytest.raises(SinkoriginError, match="no statistic 'sink'; choose of sinks, first_positions,"):
        sinkorigin.measure(build("llama"), measured[1], statistics=["sink"])


def test_a_figure_of_norm_and_sink_is_drawn(measured):
    figure = measured[0].plot()
    assert any("sink mass" in ax.get_ylabel() for ax in figure.axes)


def test_a_figure_without_its_packages_is_refused_in_a_sentence(measured, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith("sinkorigin.figures.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        SinkoriginError, match=r'matplotlib, which is not installed; run pip install "sinkorigin\[figures\]"'
    ):
        measured[0].plot()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("a text", r"are texts; give what the model's tokenizer makes of them"),
        (["a text", "another"], "are texts"),
        ({"ids": [[1, 2]]}, "have no input_ids"),
        ([[1.5, 2.5]], "no sequences of whole numbers"),
        ([], "no sequences of whole numbers"),
        ([[[1, 2]], [[1, 2]]], "no sequences of whole numbers"),
        ([[1, 2, 3], [4]], "sequence 1 has 1 tokens, and a sink score needs 2 or more"),
        ([[1, 2, 3], []], "sequence 1 has 0 tokens"),
        ([[1, 2], [3, 96]], "sequence 1 has the token id 96, but the model's embedding has 96 rows"),
        ([[1, 2], [3, -1]], "sequence 1 has the token id -1"),
        ([[1, 2, 0], [3, 4, 5]], "sequence 0 ends with the model's padding token 0, and without an attention_mask"),
        ([[1, 2, 4], [0, 4, 5]], "sequence 1 begins with the model's padding token 0"),
        ({"input_ids": [[1, 2, 3]], "attention_mask": [[1, 0, 1]]}, "of sequence 0 hides tokens between others"),
        ({"input_ids": [[1, 2, 3]], "attention_mask": [[1, 1]]}, "another shape than the input_ids"),
    ],
)
def test_what_is_no_token_ids_is_told_in_one_sentence(given, sentence):
    with pytest.raises(SinkoriginError, match=sentence):
        read_token_ids(given, vocabulary=VOCABULARY, padding_id=0)


def test_token_ids_are_read_in_every_form():
    ids = [[1, 2, 3], [4, 5, 6]]
    forms = [ids, tuple(map(tuple, ids)), np.array(ids), torch.tensor(ids), [torch.tensor(row) for row in ids]]
    for form in [*forms, {"input_ids": torch.tensor(ids)}]:
        assert read_token_ids(form, vocabulary=VOCABULARY).tolist() == ids
    for one in ([1, 2, 3], np.array([1, 2, 3]), torch.tensor([1, 2, 3])):
        assert read_token_ids(one, vocabulary=VOCABULARY).tolist() == [[1, 2, 3]]
    begins_with_padding = [[0, 1, 2], [0, 3, 4]]  # all do, as with one token for BOS and padding
    assert read_token_ids(begins_with_padding, vocabulary=VOCABULARY, padding_id=0).tolist() == begins_with_padding


def test_a_setting_or_length_that_does_not_exist_is_told_in_one_sentence(measured):
    with pytest.raises(SinkoriginError, match="no setting 'replicate' of the statistics; choose of replicates,"):
        sinkorigin.measure(build("llama"), measured[1], replicate=40)
    with pytest.raises(SinkoriginError, match="length 65, but a gpt2 has learned positions and this one 64"):
        sinkorigin.measure(build("gpt2"), np.full((2, 65), 5))


# ---- the card


@pytest.fixture(scope="module")
def card():
    return sinkorigin.anatomy(build("llama"), sequences=8, length=16, replicates=40)


def test_the_card_says_what_its_tables_say(card):
    assert card.table["first_token"].to_list() == ["drawn", "bos", "fixed"]
    assert set(card.sinks) == {"drawn", "bos", "fixed"}
    for condition, measured in card.measurements.items():
        assert card.sinks[condition] == pytest.approx(measured.sink_mass["mass"].mean())
        first = measured.variance.filter(site="value_aggregation", layer=0, position=0)["variance"]
        assert first.is_null().all() == (condition != "drawn")
    drawn = card.measurements["drawn"]
    assert card.onset == drawn.sink_onset["layer"][0]
    assert card.surges == drawn.norm_changes.filter(kind="rise")["layer"].to_list()
    found = drawn.super_neurons.filter(super_neuron=True).sort("rank")
    assert [(one.layer, one.neuron, one.share) for one in card.super_neurons] == found.select(
        "layer", "neuron", "share"
    ).rows()
    [masked] = drawn.conversions.filter(kind="mask", factor=SINK_FACTOR).to_dicts()
    assert (card.mask.target, card.mask.sequences, card.mask.converted) == (8, 8, masked["converted"])
    assert card.mask.share_low <= card.mask.share <= card.mask.share_high
    assert (card.amplification.strength, card.mask.layers) == (8.0, card.amplification.layers)


def test_the_card_is_printed_shown_and_drawn(card):
    lines = str(card).splitlines()
    assert lines[0] == "Anatomy of the sink of LlamaForCausalLM"
    assert [line.split("  ")[1] for line in lines[1:]] == [
        "sink", "norm of the first token", "super neurons", "dominating dims", "sink by first token",
        "attending to itself only", "amplified variance",
    ]  # fmt: skip
    assert f"becomes a sink in {card.mask.converted} of 8 sequences" in lines[-2]
    assert "<table><caption>Anatomy of the sink of" in card._repr_html_()
    words = [text.get_text() for ax in card.plot().axes for text in ax.texts]
    assert any("super neurons:" in text for text in words)


def test_a_model_without_bos_has_a_card_that_says_so():
    model = build("opt", seed=1)
    model.config.bos_token_id = None
    card = sinkorigin.anatomy(model, sequences=4, length=8, replicates=40)
    assert set(card.sinks) == {"drawn", "fixed"}
    assert "BOS: the model has no BOS token" in str(card)


def test_prompts_too_short_for_the_card_are_refused():
    with pytest.raises(SinkoriginError, match="a position of 1 to length − 2 to edit, not 4, 8 and 7"):
        sinkorigin.anatomy(build("llama"), sequences=4, length=8, position=7)


# ---- the package


def test_the_package_is_imported_without_pytorch_and_names_what_it_has():
    code = "import sys, sinkorigin; print('torch' in sys.modules, 'polars' in sys.modules, *dir(sinkorigin))"
    environment = {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    torch_there, polars_there, *names = done.stdout.split()
    assert (torch_there, polars_there) == ("False", "False")
    assert {"measure", "anatomy", "intervene", "load_model"} <= set(names)


def test_frames_are_polars(measured):
    assert all(isinstance(table, pl.DataFrame) for table in measured[0].tables.values())


def test_documents_that_do_not_fit_the_sequences_are_refused():
    with pytest.raises(
        SinkoriginError, match="documents names 2 documents, but there are 3 sequences; give one for each"
    ):
        sinkorigin.measure(build("llama"), np.zeros((3, 12), dtype=np.int64), documents=["a", "b"])
