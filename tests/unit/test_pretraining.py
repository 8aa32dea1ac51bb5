"""What pretraining promises: variants that are what they say, data that follows the seed, runs that can be stopped."""

import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.models.loading import load_model
from sinkorigin.pretraining import loop
from sinkorigin.pretraining.data import batch, load_tokens, validation_windows
from sinkorigin.pretraining.loop import train
from sinkorigin.pretraining.model import build_model
from sinkorigin.pretraining.optimizers import build_optimizers, set_learning_rate
from sinkorigin.pretraining.settings import TrainingSettings, learning_rate_at, state_key
from sinkorigin.pretraining.tokenizer import END_OF_TEXT, train_tokenizer
from small_corpus import made_up_text, make_corpus

SIZE = {"layers": 2, "width": 16, "heads": 4, "kv_heads": 2, "ffn_width": 24, "length": 8, "tied_embeddings": True}
SETTINGS = TrainingSettings(
    name="tiny",
    variant="headwise_rmsnorm",
    **SIZE,
    batch=4,
    steps=12,
    warmup=3,
    learning_rate=1e-2,
    weight_decay=0.1,
    clip=1.0,
    evaluate_every=5,
    checkpoint_every=4,
    validation_tokens=128,
    keep=[0, 3, 8, 12],
)


def text(seed: int, words: int = 400) -> str:
    return made_up_text(seed, words) + " \n\té — 王"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Documents, their tokenizer and their token files."""
    return make_corpus(tmp_path_factory.mktemp("corpus"), [text(0), text(1), text(2)])


def run(corpus, destination, settings=SETTINGS, seed=0):
    """Train into ``destination``; the state is kept where pretrain.py keeps it."""
    key = state_key(settings, corpus / "tokens" / "manifest.json")
    train(
        settings,
        seed=seed,
        tokens_directory=corpus / "tokens",
        tokenizer_directory=corpus / "tokenizer",
        run_directory=destination / f"seed={seed}",
        state_directory=destination / f".state-seed={seed}-{key}",
    )
    return destination / f"seed={seed}"


def stop_at(monkeypatch, step):
    """Make the run end as if killed when it asks for the batch of ``step``."""

    def killed(tokens, **arguments):
        if arguments["step"] == step:
            raise KeyboardInterrupt
        return batch(tokens, **arguments)

    monkeypatch.setattr(loop, "batch", killed)


# ---- tokenizer and token files


def test_tokenizer_gives_back_any_text_and_the_same_bytes_each_time(corpus, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(corpus / "tokenizer")
    unseen = "Grüße, 世界!\n  two  spaces\t☃"
    assert tokenizer.decode(tokenizer(unseen)["input_ids"]) == unseen
    assert tokenizer.eos_token == END_OF_TEXT
    train_tokenizer([text(0), text(1)], 300, tmp_path / "again")
    for file in sorted((corpus / "tokenizer").iterdir()):
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


def test_vocabulary_too_small_for_the_bytes_is_refused(tmp_path):
    with pytest.raises(SinkoriginError, match="vocabulary 100 cannot hold"):
        train_tokenizer(["text"], 100, tmp_path / "tokenizer")
    assert list(tmp_path.iterdir()) == []


def test_token_files_hold_each_split_with_documents_joined_by_end_of_text(corpus):
    tokenizer = AutoTokenizer.from_pretrained(corpus / "tokenizer")
    tokens = load_tokens(corpus / "tokens")
    assert tokenizer.decode(tokens.train) == text(0) + END_OF_TEXT + text(1) + END_OF_TEXT
    assert tokenizer.decode(tokens.validation) == text(2) + END_OF_TEXT
    assert tokens.train.dtype == np.uint16 and tokens.vocabulary == len(tokenizer) and tokens.train[-1] == tokens.eos


def test_batches_follow_seed_and_step_alone():
    tokens = np.arange(1000, dtype=np.uint16)

    def drawn(**changes):
        return batch(tokens, **{"seed": 1, "step": 7, "batch": 4, "length": 16, **changes})

    inputs, targets = drawn()
    np.random.default_rng(0).random()
    torch.manual_seed(3)
    assert np.array_equal(drawn()[0], inputs)
    assert np.array_equal(targets, inputs + 1) and inputs.shape == (4, 16) and inputs.dtype == np.int64
    assert not np.array_equal(drawn(step=8)[0], inputs) and not np.array_equal(drawn(seed=2)[0], inputs)


def test_every_window_of_the_split_can_be_drawn_and_one_token_less_is_refused():
    starts = {int(batch(np.arange(10), seed=0, step=s, batch=1, length=7)[0][0, 0]) for s in range(50)}
    assert starts == {0, 1, 2}
    assert batch(np.arange(8), seed=0, step=0, batch=2, length=7)[1][0, -1] == 7
    with pytest.raises(SinkoriginError, match="7 tokens, fewer than a window of length 7"):
        batch(np.arange(7), seed=0, step=0, batch=2, length=7)


def test_validation_windows_do_not_overlap_and_span_the_split():
    inputs, targets = validation_windows(np.arange(101), count=5, length=10)
    assert inputs[:, 0].tolist() == [0, 20, 40, 60, 80] and np.array_equal(targets, inputs + 1)
    assert len(validation_windows(np.arange(101), count=50, length=10)[0]) == 10


# ---- loop


def test_learning_rate_rises_to_its_peak_and_ends_at_a_tenth():
    rates = [learning_rate_at(step, SETTINGS) for step in range(SETTINGS.steps)]
    assert rates[0] == pytest.approx(1e-2 / 3) and max(rates) == rates[2] == rates[3] == 1e-2
    assert rates[-1] == pytest.approx(1e-3) and rates[3:] == sorted(rates[3:], reverse=True)


def test_training_learns_and_exports_an_ordinary_model(corpus, tmp_path):
    settings = replace(SETTINGS, variant="softmax", steps=60, warmup=5, evaluate_every=20, checkpoint_every=100)
    directory = run(corpus, tmp_path, settings)
    history = pq.read_table(directory / "history.parquet", partitioning=None).to_pylist()
    assert [row["step"] for row in history] == [20, 40, 60] and history[-1]["tokens"] == 60 * 4 * 8
    assert history[-1]["validation_loss"] < history[0]["validation_loss"] < math.log(300)

    model = AutoModelForCausalLM.from_pretrained(directory / "model")
    assert type(model) is LlamaForCausalLM
    inputs, targets = validation_windows(load_tokens(corpus / "tokens").validation, count=16, length=8)
    logits = model(torch.from_numpy(inputs)).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(targets).flatten())
    assert loss.item() == pytest.approx(history[-1]["validation_loss"], rel=1e-5)

    sample = text(9)
    exported, trained = (
        AutoTokenizer.from_pretrained(path)(sample)["input_ids"] for path in (directory / "model", corpus / "tokenizer")
    )
    assert exported == trained
    provenance = json.loads((directory / "model" / "provenance.json").read_text())
    assert provenance["weights"] == "trained here" and provenance["label"] == "tiny, seed 0"
    assert [path.name for path in tmp_path.iterdir()] == ["seed=0"]  # the state is gone
    timing = pq.read_table(directory / "timing.parquet", partitioning=None).to_pylist()
    assert [row["step"] for row in timing] == [20, 40, 60] and all(row["tokens_per_second"] > 0 for row in timing)


def test_a_row_holds_the_means_over_the_steps_since_the_row_before(corpus, tmp_path):
    def columns(settings):
        directory = run(corpus, tmp_path / str(settings.evaluate_every), settings)
        return pq.read_table(directory / "history.parquet", partitioning=None).to_pydict()

    rare, every = columns(SETTINGS), columns(replace(SETTINGS, evaluate_every=1))
    assert rare["step"] == [5, 10, 12]
    for name in ("train_loss", "gradient_norm"):
        means = [np.mean(every[name][start:end]) for start, end in ((0, 5), (5, 10), (10, 12))]
        assert rare[name] == pytest.approx(means)
    assert rare["validation_loss"] == [every["validation_loss"][step - 1] for step in rare["step"]]


@pytest.mark.parametrize(("step", "optimizer"), [(2, "adamw"), (6, "adamw"), (11, "adamw"), (6, "muon")])
def test_a_run_stopped_at_any_step_ends_with_the_bits_of_one_that_was_not(
    step, optimizer, corpus, tmp_path, monkeypatch
):
    settings = replace(SETTINGS, optimizer=optimizer)
    whole = run(corpus, tmp_path / "whole", settings)
    stop_at(monkeypatch, step)
    with pytest.raises(KeyboardInterrupt):
        run(corpus, tmp_path / "stopped", settings)
    assert not (tmp_path / "stopped" / "seed=0").exists()
    steps_read = []
    monkeypatch.setattr(loop, "batch", lambda *a, **k: steps_read.append(k["step"]) or batch(*a, **k))
    resumed = run(corpus, tmp_path / "stopped", settings)
    assert steps_read[0] == step // 4 * 4
    kept = [f"checkpoints/step={step}/model.safetensors" for step in SETTINGS.keep]
    for name in (
        "model/model.safetensors",
        "model/manifest.json",
        "history.parquet",
        "checkpoints/manifest.json",
        *kept,
    ):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()


def test_kept_checkpoints_are_the_model_at_these_steps(corpus, tmp_path):
    directory = run(corpus, tmp_path)
    steps = sorted(int(path.name.split("=")[1]) for path in (directory / "checkpoints").glob("step=*"))
    assert steps == SETTINGS.keep
    listed = json.loads((directory / "checkpoints" / "manifest.json").read_text())["files"]
    assert {f"step={step}/model.safetensors" for step in steps} < set(listed)
    fresh = build_model(SIZE, vocabulary=load_tokens(corpus / "tokens").vocabulary, variant=SETTINGS.variant, seed=0)
    first = load_model(directory / "checkpoints" / "step=0")
    for name, weight in fresh.named_parameters():
        assert torch.equal(weight, first.get_parameter(name))
    weights = [(directory / "checkpoints" / f"step={step}" / "model.safetensors").read_bytes() for step in steps]
    assert len(set(weights)) == 4 and weights[-1] == (directory / "model" / "model.safetensors").read_bytes()
    assert len(AutoTokenizer.from_pretrained(directory / "checkpoints" / "step=3")) == first.config.vocab_size
    provenance = json.loads((directory / "checkpoints" / "step=3" / "provenance.json").read_text())
    assert provenance["step"] == 3 and provenance["label"] == "tiny, seed 0, step 3"
    plain = run(corpus, tmp_path / "none", replace(SETTINGS, keep=[]))
    assert not (plain / "checkpoints").exists()
    assert (plain / "model" / "model.safetensors").read_bytes() == weights[-1]


@pytest.mark.parametrize("where", ["exported", "saved", "finished"])
def test_a_run_killed_while_it_writes_loses_no_kept_checkpoint(where, corpus, tmp_path, monkeypatch):
    whole = run(corpus, tmp_path / "whole")
    # the third kept model is written and its state not; the state is saved and nothing after; all is written but not cleared
    name, number = {"exported": ("export_model", 3), "saved": ("save_state", 2), "finished": ("write_table", 2)}[where]
    original, calls = getattr(loop, name), []

    def killed(*arguments, **named):
        original(*arguments, **named)
        calls.append(name)
        if len(calls) == number:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, name, killed)
        with pytest.raises(KeyboardInterrupt):
            run(corpus, tmp_path / "stopped")
    resumed = run(corpus, tmp_path / "stopped")
    assert (resumed / "checkpoints" / "manifest.json").read_bytes() == (
        whole / "checkpoints" / "manifest.json"
    ).read_bytes()
    assert (resumed / "history.parquet").read_bytes() == (whole / "history.parquet").read_bytes()
    assert [path.name for path in (tmp_path / "stopped").iterdir()] == ["seed=0"]


def zeros(path, start=0):
    raw = path.read_bytes()
    path.write_bytes(raw[: int(start * len(raw))] + bytes(len(raw) - int(start * len(raw))))


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: zeros(state / "step=4/state.safetensors"),
        lambda state: zeros(state / "step=4/state.safetensors", 0.5),
        lambda state: zeros(state / "step=4/progress.json"),
        lambda state: zeros(state / "checkpoints/step=3/model.safetensors", 0.9),
        lambda state: (state / "step=4/manifest.json").write_text("{}"),
    ],
    ids=["all zeros", "half zeros", "progress", "a kept model", "an empty manifest"],
)
def test_a_damaged_state_is_refused_and_deleting_it_trains_again(damage, corpus, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            run(corpus, tmp_path)
    [state] = [path for path in tmp_path.iterdir() if path.name != "seed=0"]
    monkeypatch.setattr(tables, "_verified", set())  # as in another process
    damage(state)
    with pytest.raises(SinkoriginError, match="what was trained so far cannot be used: .*; delete .* and run") as error:
        run(corpus, tmp_path)
    [path] = re.findall(r"delete (\S+) and run the same command again", str(error.value))
    shutil.rmtree(path)
    assert (run(corpus, tmp_path) / "model/model.safetensors").is_file()


def test_a_changed_setting_or_corpus_trains_afresh(corpus, tmp_path, monkeypatch):
    stop_at(monkeypatch, 6)
    with pytest.raises(KeyboardInterrupt):
        run(corpus, tmp_path)
    steps_read = []
    monkeypatch.setattr(loop, "batch", lambda *a, **k: steps_read.append(k["step"]) or batch(*a, **k))
    run(corpus, tmp_path, replace(SETTINGS, learning_rate=2e-2))
    assert steps_read[0] == 0
    manifest = tmp_path / "manifest.json"
    manifest.write_text("{}")
    assert state_key(SETTINGS, manifest) != state_key(SETTINGS, corpus / "tokens" / "manifest.json")


def test_the_settings_of_the_headwise_norm_reach_the_model(corpus, tmp_path):
    directory = run(corpus, tmp_path, replace(SETTINGS, options={"scale": "shared", "bias": False}))
    projection = load_model(directory / "model").model.layers[1].self_attn.o_proj
    assert projection.scale.shape == (4,) and projection.offset is None
    assert not torch.all(projection.scale == 1)  # it was trained


def test_norms_scales_and_offsets_are_not_decayed():
    model = build_model(SIZE, vocabulary=40, variant="headwise_rmsnorm", seed=0)
    [optimizer] = build_optimizers(model, SETTINGS)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        plain = name.endswith(("scale", "offset", "norm.weight", "layernorm.weight"))
        assert decay[id(parameter)] == (0.0 if plain else SETTINGS.weight_decay)


def test_muon_has_the_matrices_of_the_layers_at_its_own_rate_and_adamw_the_rest(corpus, tmp_path):
    settings = replace(SETTINGS, optimizer="muon", learning_rate=4e-3, muon_learning_rate=1e-3)
    model = build_model({**SIZE, "tied_embeddings": False}, vocabulary=40, variant="headwise_rmsnorm", seed=0)
    adamw, muon = build_optimizers(model, settings)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    by_muon, by_adamw = (
        {names[id(parameter)] for group in one.param_groups for parameter in group["params"]} for one in (muon, adamw)
    )
    assert by_muon == {name for name in names.values() if name.endswith("_proj.weight")} and by_muon
    assert by_adamw == set(names.values()) - by_muon  # embedding, head, norms, scales and offsets
    set_learning_rate([adamw, muon], 2e-3)
    assert [group["lr"] for one in (adamw, muon) for group in one.param_groups] == [2e-3, 2e-3, 5e-4]


def test_a_run_with_muon_learns(corpus, tmp_path):
    settings = replace(SETTINGS, optimizer="muon")
    losses = pq.read_table(run(corpus, tmp_path, settings) / "history.parquet", partitioning=None)["validation_loss"]
    assert losses[-1].as_py() < losses[0].as_py() - 0.1


def test_a_loss_that_is_no_number_stops_the_run_naming_it(corpus, tmp_path):
    with pytest.raises(SinkoriginError, match=r"run tiny, seed 3: .* at step \d+; set a lower learning_rate"):
        run(corpus, tmp_path, replace(SETTINGS, learning_rate=1e30, warmup=0), seed=3)
    assert not (tmp_path / "seed=3").exists()


def test_a_corpus_smaller_than_a_batch_and_foreign_tokens_are_refused(corpus, tmp_path):
    with pytest.raises(SinkoriginError, match="not more than one batch of 1000 × 8"):
        run(corpus, tmp_path, replace(SETTINGS, batch=1000))
    train_tokenizer([text(5)], 280, tmp_path / "tokenizer")
    with pytest.raises(SinkoriginError, match="was not made with the tokenizer"):
        train(
            SETTINGS,
            seed=0,
            tokens_directory=corpus / "tokens",
            tokenizer_directory=tmp_path / "tokenizer",
            run_directory=tmp_path / "run",
            state_directory=tmp_path / "state",
        )
