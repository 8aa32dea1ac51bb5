"""What the training loop promises beyond one process and one batch: splitting, precision, compilation, and bad ends."""

import errno
import json
import os
import subprocess
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.models.loading import load_model
from sinkorigin.pretraining import acceleration, loop
from sinkorigin.pretraining.acceleration import resolve_compile, resolve_dtype
from sinkorigin.pretraining.data import batch, load_tokens, tokenize_documents, validation_windows
from sinkorigin.pretraining.loop import train
from sinkorigin.pretraining.model import build_model
from sinkorigin.pretraining.optimizers import build_optimizers
from sinkorigin.pretraining.processes import train_in_processes
from sinkorigin.pretraining.settings import TrainingSettings
from sinkorigin.pretraining.tokenizer import train_tokenizer
from small_corpus import made_up_text, make_corpus
from tiny_study import ROOT

SETTINGS = TrainingSettings(
    name="tiny",
    variant="headwise_rmsnorm",
    layers=2,
    width=32,
    heads=4,
    kv_heads=2,
    ffn_width=48,
    length=16,
    batch=8,
    steps=20,
    warmup=3,
    learning_rate=1e-2,
    weight_decay=0.1,
    clip=1.0,
    evaluate_every=5,
    checkpoint_every=5,
    validation_tokens=160,
    compile=False,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A tokenizer and token files of made-up text."""
    return make_corpus(tmp_path_factory.mktemp("corpus"), [made_up_text(seed, 600) for seed in range(3)])


def places(corpus, destination):
    return {
        "tokens_directory": corpus / "tokens",
        "tokenizer_directory": corpus / "tokenizer",
        "run_directory": destination / "run",
        "state_directory": destination / "state",
    }


def run(corpus, destination, settings=SETTINGS, **arguments):
    train(settings, seed=0, **places(corpus, destination), **arguments)
    return destination / "run"


def history(directory):
    return pq.read_table(directory / "history.parquet", partitioning=None).to_pydict()


def interrupted(corpus, destination, settings, step, monkeypatch, **arguments):
    """The run, ended as if killed when it asks for the batch of ``step``."""

    def killed(tokens, **given):
        if given["step"] == step:
            raise KeyboardInterrupt
        return batch(tokens, **given)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "batch", killed)
        with pytest.raises(KeyboardInterrupt):
            run(corpus, destination, settings, **arguments)


# ---- one batch, split


def test_micro_batches_give_the_loss_and_weights_of_the_whole_batch(corpus, tmp_path):
    whole = run(corpus, tmp_path / "whole")
    split = run(corpus, tmp_path / "split", replace(SETTINGS, accumulate=4))
    for name in ("train_loss", "validation_loss", "gradient_norm"):
        assert history(split)[name] == pytest.approx(history(whole)[name], abs=1e-6 if "loss" in name else 1e-4)
    first, second = (load_file(directory / "model" / "model.safetensors") for directory in (whole, split))
    assert not all(torch.equal(first[name], second[name]) for name in first)  # it was split: sums round otherwise
    with pytest.raises(SinkoriginError, match="batch of 8 cannot be split into 3 micro-batches on each of 1 processes"):
        run(corpus, tmp_path / "odd", replace(SETTINGS, accumulate=3))


def test_two_processes_reach_the_loss_of_one_and_a_single_one_may_finish_their_run(corpus, tmp_path, capfd):
    settings = replace(SETTINGS, accumulate=2, keep=[0, 20])
    one = run(corpus, tmp_path / "one", settings)
    inputs = {"pretraining/data/text/tokens/manifest.json": "0" * 64}  # as the job has verified
    tables.record_inputs(inputs)
    train_in_processes(2, settings, seed=0, threads=2, **places(corpus, tmp_path / "results/two"))
    tables.record_inputs({})
    two = tmp_path / "results/two/run"
    assert history(two)["step"] == history(one)["step"] == [5, 10, 15, 20]
    for name in ("train_loss", "validation_loss"):
        assert history(two)[name] == pytest.approx(history(one)[name], abs=1e-4)
    assert json.loads((two / "model" / "provenance.json").read_text())["computed"]["processes"] == 2
    assert (two / "checkpoints" / "manifest.json").exists() and not (tmp_path / "results/two/state").exists()
    assert json.loads((two / "model/manifest.json").read_text())["seal"]["inputs"] == inputs
    assert "train" in capfd.readouterr().out  # the processes' progress is in the log


def test_the_sentence_of_a_process_is_that_of_the_run(corpus, tmp_path):
    with pytest.raises(
        SinkoriginError, match="^run tiny, seed 0: a batch of 9 cannot be split into 1 micro-batches on each of 2"
    ):
        train_in_processes(2, replace(SETTINGS, batch=9), seed=0, **places(corpus, tmp_path))


# ---- precision and compilation


@pytest.mark.parametrize("flag", ["amx_bf16", "avx512_bf16", None])
def test_auto_precision_follows_the_flags_of_the_cpu(flag, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {flag: True})
    dtype, why = resolve_dtype("auto", "cpu")
    assert dtype == ("bfloat16" if flag else "float32")
    assert (flag or "without avx512_bf16") in why
    assert resolve_dtype("float32", "cpu")[0] == "float32"


def test_auto_compiles_long_runs_where_there_is_a_compiler(monkeypatch):
    size = {"parameters": 1_000_000, "layers": 4}
    monkeypatch.setattr(acceleration, "compiler_of", lambda device: "g++")
    assert not resolve_compile("auto", "cpu", tokens=1_000_000, **size)[0]
    assert resolve_compile("auto", "cpu", tokens=100_000_000, **size)[0]
    assert not resolve_compile(False, "cpu", tokens=100_000_000, **size)[0]
    monkeypatch.setattr(acceleration, "compiler_of", lambda device: None)
    assert not resolve_compile("auto", "cpu", tokens=100_000_000, **size)[0]
    with pytest.raises(SinkoriginError, match="compile is true, but there is no C\\+\\+ compiler on this machine"):
        resolve_compile(True, "cpu", tokens=1, **size)


def test_the_precision_is_logged_and_stands_in_the_provenance(corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    directory = run(corpus, tmp_path, replace(SETTINGS, dtype="auto"))
    assert "bfloat16, because this is a CPU with amx_bf16; not compiled, as the config says" in capsys.readouterr().out
    provenance = json.loads((directory / "model" / "provenance.json").read_text())
    assert provenance["training"]["dtype"] == "auto"
    assert provenance["computed"]["dtype"] == "bfloat16" and provenance["computed"]["compile"] is False
    assert load_file(directory / "model" / "model.safetensors")["model.norm.weight"].dtype == torch.float32


def test_a_run_goes_on_in_the_precision_that_it_was_begun_in(corpus, tmp_path, monkeypatch):
    settings = replace(SETTINGS, dtype="auto")
    with monkeypatch.context() as patch:
        patch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
        whole = run(corpus, tmp_path / "whole", settings)
        interrupted(corpus, tmp_path / "stopped", settings, 12, monkeypatch)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    resumed = run(corpus, tmp_path / "stopped", settings)
    for name in ("model/model.safetensors", "history.parquet"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.skipif(acceleration.compiler_of("cpu") is None, reason="no C++ compiler")
def test_a_compiled_run_has_the_same_names_and_bits_when_it_is_resumed(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    settings = replace(SETTINGS, variant="softmax", layers=1, compile=True)
    eager = run(corpus, tmp_path / "eager", replace(settings, compile=False))
    whole = run(corpus, tmp_path / "whole", settings)
    interrupted(corpus, tmp_path / "stopped", settings, 12, monkeypatch)
    counters = torch._dynamo.utils.counters["inductor"]
    missed = counters["fxgraph_cache_miss"]
    torch._dynamo.reset()  # as a new process: what was compiled is in the cache only
    resumed = run(corpus, tmp_path / "stopped", settings)
    assert counters["fxgraph_cache_miss"] == missed
    for name in ("model/model.safetensors", "history.parquet"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()
    names = [set(load_file(directory / "model" / "model.safetensors")) for directory in (whole, eager)]
    assert names[0] == names[1]
    assert history(whole)["train_loss"] == pytest.approx(history(eager)["train_loss"], abs=1e-3)
    torch._dynamo.reset()


@pytest.mark.parametrize("variant", ["softmax", "headwise_rmsnorm", "sink_logits", "qk_norm", "sandwich_norm"])
def test_training_runs_through_the_fused_attention_kernel(variant):
    size = {"layers": 1, "width": 32, "heads": 2, "kv_heads": 2, "ffn_width": 32, "length": 16, "tied_embeddings": True}
    measured = loop._Loss(build_model(size, vocabulary=40, variant=variant, seed=0).train())
    ids = torch.arange(32).view(2, 16)
    with torch.profiler.profile() as profile:
        measured(ids, ids).backward()
    names = {event.key for event in profile.key_averages()}
    assert any("scaled_dot_product_flash_attention_for_cpu_backward" in name for name in names), sorted(names)


@pytest.mark.parametrize("variant", ["sink_logits", "qk_norm", "sandwich_norm"])
def test_a_trained_checkpoint_loads_and_has_the_validation_loss_that_training_ended_with(corpus, tmp_path, variant):
    directory = run(corpus, tmp_path, replace(SETTINGS, variant=variant, learning_rate=3e-2))
    tables.write_manifest(directory / "model")
    model = load_model(directory / "model").eval()
    assert model.config.model_type == f"{variant}_llama"
    added = [
        value for name, value in model.named_parameters() if name.endswith(("sinks", "scale", "output_norm.weight"))
    ]
    assert added and all(
        (value != value.flatten()[0]).any() for value in added
    )  # learned, so no longer all as at the start
    windows = validation_windows(load_tokens(corpus / "tokens").validation, count=10, length=16, first=None)
    with torch.no_grad():
        loss = loop._Loss(model)(*map(torch.from_numpy, windows)).item()
    assert loss == pytest.approx(history(directory)["validation_loss"][-1], abs=1e-5)


# ---- bad ends


def test_a_loss_that_is_no_number_keeps_the_last_good_state(corpus, tmp_path, monkeypatch):
    original = loop._Loss.forward

    def breaks(self, inputs, targets):
        breaks.calls += torch.is_grad_enabled()
        return original(self, inputs, targets) * (float("nan") if breaks.calls == 13 else 1.0)

    breaks.calls = 0
    settings = replace(SETTINGS, keep=[0, 5, 13])
    whole = run(corpus, tmp_path / "whole", settings)
    with monkeypatch.context() as patch:
        patch.setattr(loop._Loss, "forward", breaks)
        with pytest.raises(SinkoriginError) as caught:
            run(corpus, tmp_path / "broken", settings)
    assert (
        "run tiny, seed 0: the loss is nan and the gradient norm nan at step 13; the state of step 10 is kept in"
        in str(caught.value)
    )
    assert "set a lower learning_rate or a longer warmup" in str(caught.value)
    state = tmp_path / "broken" / "state"
    assert sorted(path.name for path in state.iterdir()) == ["checkpoints", "step=10"]
    assert sorted(path.name for path in (state / "checkpoints").iterdir()) == ["step=0", "step=5"]
    resumed = run(corpus, tmp_path / "broken", settings)
    assert (resumed / "history.parquet").read_bytes() == (whole / "history.parquet").read_bytes()


def test_weights_that_are_no_numbers_are_never_written(corpus, tmp_path, monkeypatch):
    """The last step before a state may break the weights, which only the next loss would show."""

    def breaks(step, settings):
        return float("inf") if step == 9 else 1e-2

    monkeypatch.setattr(loop, "learning_rate_at", breaks)
    with pytest.raises(
        SinkoriginError, match="a weight is no longer a finite number at step 10; the state of step 5 is kept"
    ):
        run(corpus, tmp_path, replace(SETTINGS, keep=[10]))
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["step=5"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"learning_rate": 2e-2, "clip": 0.5},
            "with clip 1.0 instead of 0.5, learning_rate 0.01 instead of 0.02; give",
        ),
        ({"width": 64}, "with width 32 instead of 64; give the run another state directory"),
        ({"options": {"bias": False}}, "with options {} instead of {'bias': False}"),
    ],
)
def test_a_state_of_another_configuration_is_refused_naming_the_difference(
    changes, sentence, corpus, tmp_path, monkeypatch
):
    interrupted(corpus, tmp_path, SETTINGS, 7, monkeypatch)
    with pytest.raises(SinkoriginError) as caught:
        run(corpus, tmp_path, replace(SETTINGS, **changes))
    assert "was written by another configuration" in str(caught.value) and sentence in str(caught.value)
    with pytest.raises(SinkoriginError, match="with seed 0 instead of 1"):
        train(SETTINGS, seed=1, **places(corpus, tmp_path))
    assert (tmp_path / "state" / "step=5").exists()


def test_a_state_of_another_tokenizer_is_refused(corpus, tmp_path, monkeypatch):
    interrupted(corpus, tmp_path, SETTINGS, 7, monkeypatch)
    documents = pq.read_table(corpus / "documents.parquet").to_pydict()
    for number, (vocabulary, sentence) in enumerate(
        [(280, "has a vocabulary of 300 tokens, but the tokenizer has 280"), (300, "with another tokenizer")]
    ):
        other = tmp_path / str(number)
        train_tokenizer(
            ["a quite different " * 5 + text for text in documents["text"][1:2]], vocabulary, other / "tokenizer"
        )
        tokenize_documents(corpus / "documents.parquet", other / "tokenizer", other / "tokens")
        found = {**places(other, tmp_path), "run_directory": tmp_path / "run"}
        with pytest.raises(SinkoriginError) as caught:
            train(SETTINGS, seed=0, **found)
        assert sentence in str(caught.value)


@pytest.fixture
def small_disk(tmp_path):
    """A file system with a few hundred kilobytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200k", "none", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_keeps_the_previous_state_and_says_so(corpus, small_disk, tmp_path, monkeypatch):
    whole = run(corpus, tmp_path / "whole")
    save, filler = loop.save_state, small_disk / "filler"

    def fills(*arguments):
        if arguments[3].step == 10:
            with filler.open("wb", buffering=0) as file:
                with pytest.raises(OSError) as full:
                    while True:
                        file.write(bytes(4096))
                assert full.value.errno == errno.ENOSPC
        save(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_state", fills)
        with pytest.raises(SinkoriginError, match=r"state/step=10: the disk is full; free some space and run the same"):
            run(corpus, small_disk)
    assert [path.name for path in (small_disk / "state").iterdir()] == ["step=5"]
    os.remove(filler)
    resumed = run(corpus, small_disk)
    assert (resumed / "history.parquet").read_bytes() == (whole / "history.parquet").read_bytes()


# ---- full size


def test_the_model_of_the_papers_size_makes_a_step():
    run = yaml.safe_load((ROOT / "config.paper.yaml").read_text())["pretraining"]["runs"][0]
    model = build_model(run, vocabulary=32_000, variant="softmax", seed=0).train()
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(152e6, rel=0.005)
    [optimizer], measured = build_optimizers(model, SETTINGS), loop._Loss(model)
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 32_000, size=(1, 33)))
    losses = []
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        loss = measured(ids[:, :-1], ids[:, 1:])
        losses.append(loss.item())
        if len(losses) == 1:
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), SETTINGS.clip)
            for group in optimizer.param_groups:
                group["lr"] = 1e-4
            optimizer.step()
    assert losses[0] == pytest.approx(np.log(32_000), abs=0.5) and losses[1] < losses[0] - 0.1
