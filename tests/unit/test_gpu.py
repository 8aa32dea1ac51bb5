"""On a GPU: what is captured, edited and trained there is what a CPU gives, within the precision that was asked for."""

import os
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from architectures import build
from sinkorigin.activations.pipeline import extract
from sinkorigin.activations.writers import Kept
from sinkorigin.interventions.kinds.mask import Mask
from sinkorigin.interventions.kinds.variance_amplification import VarianceAmplification
from sinkorigin.interventions.sweep import Sweep, run_sweeps
from sinkorigin.pretraining import loop
from sinkorigin.pretraining.data import batch
from sinkorigin.pretraining.layer_statistics import SITES, layer_statistics
from sinkorigin.pretraining.loop import train
from sinkorigin.pretraining.processes import train_in_processes
from sinkorigin.pretraining.settings import TrainingSettings
from sinkorigin.sites.architecture import read_architecture
from sinkorigin.variants.registry import VARIANTS
from small_corpus import made_up_text, make_corpus

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU on this machine")

SETTINGS = TrainingSettings(
    name="tiny",
    variant="softmax",
    layers=2,
    width=64,
    heads=4,
    kv_heads=2,
    ffn_width=96,
    length=32,
    batch=8,
    steps=20,
    warmup=3,
    learning_rate=3e-3,
    weight_decay=0.1,
    clip=1.0,
    evaluate_every=5,
    checkpoint_every=5,
    validation_tokens=320,
    compile=False,
    dtype="float32",
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"), [made_up_text(seed, 600) for seed in range(3)])


def run(corpus, destination, settings=SETTINGS, trainer=train, device="cuda", **arguments):
    trainer(
        *arguments.pop("first", ()), settings, seed=0, tokens_directory=corpus / "tokens",
        tokenizer_directory=corpus / "tokenizer", run_directory=destination / "run",
        state_directory=destination / "state", device=device, **arguments,
    )  # fmt: skip
    return pq.read_table(destination / "run" / "history.parquet", partitioning=None).to_pydict()


def same_weights(first, second):
    first, second = (load_file(directory / "run" / "model" / "model.safetensors") for directory in (first, second))
    return all(torch.equal(first[name], second[name]) for name in first)


def on_gpu(name, dtype=torch.float32):
    return deepcopy(build(name)).to(dtype).to("cuda")


def columns(path):
    return {name: np.asarray(values) for name, values in pq.read_table(path, partitioning=None).to_pydict().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_statistics_of_every_architecture(any_model, token_ids, dtype):
    """Half precision changes the model's numbers, not how they are summed up."""
    near = {torch.float32: 1e-3, torch.bfloat16: 0.15}[dtype]
    values = []
    for model in (any_model, deepcopy(any_model).to(dtype).to("cuda")):
        found = layer_statistics(read_architecture(model, sites=SITES), token_ids, model="m", batch=6, epsilons=[0.3])
        values.append(np.array([one.value for one in found if one.quantity != "sink_rate"], dtype=float))
    np.testing.assert_allclose(values[1], values[0], rtol=near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extraction(token_ids, tmp_path, dtype):
    sites = {"residual": Kept(), "value_aggregation": Kept(), "key": Kept(), "attention": Kept()}
    for place, model in (("cpu", build("llama")), ("gpu", on_gpu("llama", dtype))):
        extract(
            read_architecture(model), token_ids, model="m", sites=sites, batch=4, activations=tmp_path / place,
            scores=tmp_path / f"{place}.parquet",
        )  # fmt: skip
    near = 1e-4 if dtype == torch.float32 else 5e-2
    scores = [columns(tmp_path / f"{place}.parquet")["score"] for place in ("cpu", "gpu")]
    np.testing.assert_allclose(scores[1], scores[0], atol=near)
    for layer in range(3):
        cpu, gpu = (
            np.stack(columns(tmp_path / place / "residual" / f"layer={layer}" / "part-0.parquet")["activation"])
            for place in ("cpu", "gpu")
        )
        assert np.abs(gpu - cpu).max() <= near * np.abs(cpu).max()


def test_a_sweep(token_ids, tmp_path):
    edits = {
        "mask": Mask(layers=[0, 1], positions=[5]),
        "more": VarianceAmplification(layers=[1], positions=[3, 7], strength=4.0),
    }
    for place, model in (("cpu", build("llama")), ("gpu", on_gpu("llama"))):
        sweeps = {tmp_path / place / name: Sweep("i", [edit]) for name, edit in edits.items()}
        run_sweeps(
            read_architecture(model), token_ids, sweeps, sequences=len(token_ids), model="m", batch=4, losses=True,
            scratch=tmp_path,
        )  # fmt: skip
    for name in edits:
        for table, column in (("scores", "score"), ("residuals", "norm"), ("losses", "loss")):
            cpu, gpu = (columns(tmp_path / place / name / f"{table}.parquet")[column] for place in ("cpu", "gpu"))
            np.testing.assert_allclose(gpu, cpu, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_training_in_float32_ends_as_on_a_cpu(corpus, tmp_path, variant):
    settings = replace(SETTINGS, variant=variant)
    cpu, gpu = (run(corpus, tmp_path / device, settings, device=device) for device in ("cpu", "cuda"))
    assert gpu["validation_loss"] == pytest.approx(cpu["validation_loss"], abs=2e-3)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_training_in_bfloat16_and_compiled(corpus, tmp_path, variant):
    settings = replace(SETTINGS, variant=variant, dtype="auto")
    plain = run(corpus, tmp_path / "plain", settings)
    compiled = run(corpus, tmp_path / "compiled", replace(settings, compile=True), cache_directory=tmp_path / "cache")
    full = run(corpus, tmp_path / "full", replace(settings, dtype="float32"))
    assert plain["train_loss"] != full["train_loss"]  # it did run in half precision
    for own in (plain, compiled):
        assert own["validation_loss"] == pytest.approx(full["validation_loss"], abs=3e-2)


def test_the_same_run_gives_the_same_bits_and_so_does_one_that_was_killed(corpus, tmp_path, monkeypatch):
    settings = replace(SETTINGS, dtype="bfloat16")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    whole, again = (run(corpus, tmp_path / name, settings) for name in ("whole", "again"))
    assert again == whole and same_weights(tmp_path / "whole", tmp_path / "again")
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ  # it would be parsed at every product

    def killed(tokens, **given):
        if given["step"] == 13:
            raise KeyboardInterrupt
        return batch(tokens, **given)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "batch", killed)
        with pytest.raises(KeyboardInterrupt):
            run(corpus, tmp_path / "killed", settings)
    assert run(corpus, tmp_path / "killed", settings) == whole
    assert same_weights(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs on this machine")
def test_two_gpus_reach_the_loss_of_one(corpus, tmp_path):
    one = run(corpus, tmp_path / "one")
    two = run(corpus, tmp_path / "two", trainer=train_in_processes, first=(2,))
    assert two["validation_loss"] == pytest.approx(one["validation_loss"], abs=1e-4)
