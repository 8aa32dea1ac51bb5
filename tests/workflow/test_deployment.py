"""The study as a module of another workflow, deployed from a repository, and as the workflow catalogue runs it: docs/deployment.md."""

import re
import runpy
import shutil
import subprocess
import sys

import pytest
import yaml

from blocks import run_by
from planned_jobs import planned_jobs
from tiny_study import ROOT, Project, checkout

HERE = "tests/workflow/test_deployment.py"
CORES = ["--cores", "2"]


def documented(test: str) -> str:
    [block] = run_by(f"{HERE}::{test}")
    return block.text


def rules_of(jobs: set[str]) -> set[str]:
    return {job.partition("(")[0] for job in jobs}


def run(folder, *arguments, **environment) -> str:
    """What Snakemake says; its jobs run."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *CORES, *arguments], cwd=folder, env=Project(folder).environment() | environment,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_workflow_imports_the_study_as_a_module(fresh, tmp_path):
    shutil.copytree(fresh.folder / "tiny_model", tmp_path / "my-model")
    code = documented("test_a_workflow_imports_the_study_as_a_module")
    assert "path/to/sinkorigin/Snakefile" in code
    ours = "\nrule ours:\n    default_target: True\n    input: rules.sinks_all.input\n"
    (tmp_path / "Snakefile").write_text(code.replace("path/to/sinkorigin", str(ROOT)) + ours)
    jobs = planned_jobs(tmp_path, CORES)
    both = {f"sinks_compute_sinks(model=my-model{of}, prompts=random_tokens)" for of in ("", "-random")}
    assert both | {"sinks_judge_claims()", "sinks_plot_variance_by_position()"} < jobs
    target = "sinks/results/my-model/prompts/my-model/random_tokens.parquet"
    said = run(tmp_path, target)
    assert re.search(
        r"^\[2/2\] [\d:]{8}  sinks_tokenize_prompts model=my-model prompts=random_tokens \(", said, re.MULTILINE
    )
    assert (tmp_path / target).is_file() and not (tmp_path / "results").exists()


@pytest.fixture
def repository(tmp_path):
    """A repository that Snakemake takes for one of GitHub, with a tag; and the variables that make it so."""
    folder = checkout(tmp_path / "host/OWNER/sinkorigin").folder
    git = ["git", "-C", str(folder), "-c", "user.name=nobody", "-c", "user.email=nobody"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "all"], ["tag", "v0.1.0"]):
        subprocess.run([*git, *command], check=True)
    environment = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{tmp_path}/host/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    return folder, environment


def test_a_deployment_runs_from_a_repository(repository, fresh, tmp_path):
    """The Snakefile that snakedeploy writes, beside the config that it copies; the study is that of the config."""
    folder, environment = repository
    deployed = tmp_path / "my-project"
    shutil.copytree(folder / "config", deployed / "config")
    shutil.copytree(fresh.folder / "text", deployed / "text")
    (deployed / "workflow").mkdir()
    (deployed / "workflow/Snakefile").write_text(documented("test_a_deployment_runs_from_a_repository"))
    with (deployed / "config/config.yaml").open("a") as config:
        config.write("corpus: {source: 'path:text', validation_share: 0.4}\n")
    # of all that the study needs, the corpus alone
    said = run(deployed, "--until", "fetch_corpus", **environment)
    results = deployed / "results/my-study"
    assert (results / "corpus/documents.parquet").is_file(), said
    # the job ran in what was unpacked once, and a second run finds all in place
    log = (results / "logs/fetch_corpus.log").read_text()
    [root] = (tmp_path / "cache").rglob("sinkorigin/*/workflow_scripts")
    assert str(root) in log
    commit = subprocess.run(["git", "-C", str(folder), "rev-parse", "v0.1.0"], capture_output=True, text=True)
    assert root.parent.name == commit.stdout.strip()
    shutil.rmtree(folder)
    jobs = planned_jobs(deployed, CORES, **environment)
    assert {"fetch_model", "pretrain_with_checkpoints", "judge_claims", "plot_chain"} < rules_of(jobs)
    assert "fetch_corpus" not in rules_of(jobs)


def test_the_test_study_is_planned_as_the_catalogue_runs_it(fresh, tmp_path):
    project = fresh.copy(tmp_path / "project")
    [command] = documented("test_the_test_study_is_planned_as_the_catalogue_runs_it").splitlines()
    program, *arguments = command.split()
    assert program == "snakemake"
    jobs = planned_jobs(project.folder, arguments)
    assert {"fetch_model(model=model)", "intervene(model=model, prompts=random_tokens)", "judge_claims()"} < jobs
    assert {"pretrain_with_checkpoints", "follow_edits", "plot_removals"} < rules_of(jobs)
    assert not (project.folder / ".snakemake/parsed_code.json").exists()  # all of it happens in .test


def test_the_test_study_needs_no_network_and_its_inputs_are_those_of_its_script(tmp_path):
    config = yaml.safe_load((ROOT / ".test/config.yaml").read_text())
    sources = [config["corpus"]["source"], *(model["source"] for model in config["models"])]
    assert sources == ["path:text", "path:model"]
    script = runpy.run_path(str(ROOT / ".test/make_inputs.py"))
    script["write_inputs"](tmp_path)
    for name in ("text/play_0.txt", "text/play_4.txt", "model/model.safetensors", "model/tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (ROOT / ".test" / name).read_bytes(), name
