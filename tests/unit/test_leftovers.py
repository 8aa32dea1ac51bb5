"""What a killed job left beside its results is gone when the next run of that job is done."""

import json
from dataclasses import asdict

import pytest

from intervention_tables import resolved
from scripts_by_hand import run_script, write_empty_manifest
from sinkorigin import tables
from sinkorigin.errors import DivergedError
from sinkorigin.interventions import folders, resolution, sweep
from sinkorigin.pretraining import loop, processes
from sinkorigin.pretraining.settings import TrainingSettings, state_key
from sinkorigin.scratch import scratch_folder

SETTINGS = TrainingSettings(
    name="tiny", variant="softmax", layers=1, width=8, heads=1, kv_heads=1, ffn_width=8, length=8, batch=2, steps=4, warmup=1,
    learning_rate=0.1, weight_decay=0.0, clip=1.0, evaluate_every=2, checkpoint_every=2, validation_tokens=8,
)  # fmt: skip


def hidden(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob(".*"))


@pytest.fixture
def data(tmp_path):
    """Manifests of tokens and of a tokenizer."""
    return {name: write_empty_manifest(tmp_path / "data" / name) for name in ("tokens", "tokenizer")}


def leave(folder, *names):
    for name in names:
        (folder / name / "inside").mkdir(parents=True)


PARAMS = {"run": asdict(SETTINGS), "threads": 1, "option": None}


def test_a_training_removes_the_states_of_settings_that_were_given_up(tmp_path, data, monkeypatch):
    runs = tmp_path / "results/run"
    leave(runs, ".state-seed=0-given_up", ".state-seed=1-another_seeds")

    def train(*_, run_directory, **__):
        leave(run_directory, "model")
        (run_directory / "model/provenance.json").write_text("{}")

    monkeypatch.setattr(processes, "train_in_processes", train)
    outputs = {
        "history": runs / "seed=0/history.parquet",
        "model_files": runs / "seed=0/model",
        "provenance": runs / "provenance.json",
    }
    run_script("pretrain.py", tmp_path, inputs=data, outputs=outputs, params=PARAMS, seed="0")
    assert hidden(runs) == [".state-seed=1-another_seeds"]


def test_a_training_of_the_sweep_empties_its_folder_and_removes_states(tmp_path, data, monkeypatch):
    rate = tmp_path / "results/learning_rate=0.1"
    goes_on = f".state-seed=0-{state_key(SETTINGS, *data.values())}"
    leave(rate, ".run-seed=0", ".state-seed=0-given_up", goes_on, ".run-seed=1")

    def diverge(*_, run_directory, state_directory, **__):
        assert not list(run_directory.iterdir()) and state_directory == rate / goes_on and state_directory.exists()
        raise DivergedError("the loss is nan")

    monkeypatch.setattr(loop, "train", diverge)
    history = rate / "seed=0/history.parquet"
    run_script(
        "pretrain_learning_rate.py", tmp_path, inputs=data, outputs={"history": history}, params=PARAMS, seed="0"
    )
    assert history.exists()
    assert hidden(rate) == [".run-seed=1"]


def test_interventions_empty_the_folder_of_unedited_passes(tmp_path, monkeypatch):
    results = tmp_path / "results"
    leave(results, ".unedited", ".edited")
    inputs = {name: write_empty_manifest(tmp_path / name) for name in ("model", "prompts")}
    inputs["resolved"] = tmp_path / "resolved.parquet"
    tables.write_table(inputs["resolved"], resolved({}), resolution.SCHEMA)
    seen = []
    monkeypatch.setattr(folders, "fill", lambda directory, keys, run, **_: run([], None) or [])
    for module, name in (
        ("models.loading", "load_model"),
        ("sites.architecture", "read_architecture"),
        ("corpora.prompts", "read_token_ids"),
    ):
        monkeypatch.setattr(f"sinkorigin.{module}.{name}", lambda *_, **__: None)
    monkeypatch.setattr(sweep, "run_sweeps", lambda *_, scratch, **__: seen.append((scratch, list(scratch.iterdir()))))
    params = dict.fromkeys(("sequences", "losses", "batch", "dtype", "trust_remote_code"), 0) | {
        "edits": [],
        "kinds": {},
        "made_elsewhere": str(results / "elsewhere"),
    }
    outputs = {"files": results / "edited"}
    run_script("intervene.py", tmp_path, inputs=inputs, outputs=outputs, params=params, model="tiny")
    assert seen == [(results / ".unedited", [])]
    assert hidden(results) == [".edited"]


def test_a_scratch_folder_goes_when_the_work_in_it_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), scratch_folder(tmp_path / "a/.work") as folder:
        (folder / "file").write_text(json.dumps(1 / 0))
    assert not hidden(tmp_path)
