"""The whole study of a model by one line, from any directory."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from harness.config.merging import Layer, merge
from planned_jobs import planned_jobs
from tiny_study import ROOT, TINY, Project

CORES = ["--cores", "4"]
STANDARD_PROMPTS = ["random_tokens", "random_tokens_bos", "random_tokens_fixed", "natural_text"]


@pytest.fixture
def folder(fresh, tmp_path):
    """A working directory with a model in a folder whose name has a space, and with no config."""
    shutil.copytree(fresh.folder / "tiny_model", tmp_path / "here/Tiny Model")
    shutil.copytree(fresh.folder / "text", tmp_path / "here/text")
    return tmp_path / "here"


def by_rule(jobs):
    found = {}
    for job in jobs:
        rule, wildcards = re.fullmatch(r"(\w+)\((.*)\)", job).groups()
        found.setdefault(rule, set()).add(wildcards)
    return found


def test_one_line_and_three_lines_plan_the_full_study_of_a_model(folder):
    anywhere = ["-s", str(ROOT / "Snakefile"), *CORES]
    jobs = planned_jobs(folder, [*anywhere, "--config", "model=Tiny Model"])
    rules = by_rule(jobs)
    both = ["tiny-model", "tiny-model-random"]
    assert rules["fetch_model"] == {f"model={model}" for model in both}
    pairs = {f"model={model}, prompts={prompts}" for model in both for prompts in STANDARD_PROMPTS}
    assert rules["extract_activations"] == rules["compute_sinks"] == pairs
    # the random-weight control is edited on random tokens, under the three conditions
    assert rules["intervene"] == pairs - {"model=tiny-model-random, prompts=natural_text"}
    assert {"judge_claims", "plot_necessity", "plot_variance_by_position", "fetch_corpus"} <= rules.keys()
    assert not [rule for rule in rules if "pretrain" in rule or "training" in rule or "data" in rule]
    (folder / "mine.yaml").write_text("study: mine\nmodels:\n- source: path:Tiny Model\n")
    assert planned_jobs(folder, [*anywhere, "--configfile", "mine.yaml"]) == jobs
    # jobs on a cluster read what their run merged, whatever became of its files
    own = Layer("config.yaml", yaml.safe_load((ROOT / "config.yaml").read_text()))
    merged = merge(own, [Layer("--config", {"model": "Tiny Model"}, is_file=False)], folder)
    (folder / "snapshot.json").write_text(json.dumps({"snapshot": True, **merged.values}))
    (folder / "config.yaml").write_text("}")
    assert planned_jobs(folder, [*anywhere, "--configfile", "snapshot.json"]) == jobs
    # a config.yaml in the working directory is a file over the workflow's own
    (folder / "mine.yaml").rename(folder / "config.yaml")
    assert planned_jobs(folder, anywhere) == jobs


def said(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *CORES, *arguments], cwd=folder, env=Project(folder).environment(),
        capture_output=True, text=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


def test_a_study_runs_in_another_directory_and_its_jobs_see_the_same_study(folder):
    target = "results/tiny-model/prompts/tiny-model/random_tokens.parquet"
    code, text = said(
        folder.parent, "-s", str(ROOT / "Snakefile"), "--directory", str(folder), target, "--config", "model=./Tiny Model",
        "prompts=[{name: random_tokens, kind: random_tokens, sequences: 8, length: 16}]",
    )  # fmt: skip
    assert not code, text
    assert (folder / target).is_file() and not (folder.parent / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config", "model=nothing"], "sinkorigin: --config: model is nothing, but there is no {folder}/nothing, and it"),
        (["--config", "model=Tiny Model", "--configfile", "m.yaml"], "--config: model is Tiny Model, but m.yaml has models"),
        (["--config", "model=Tiny Model", "statistics={replicates: 5}"], "sinkorigin: --config: statistics.replicates is 5: i"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_told_before_any_job(folder, arguments, sentence):
    (folder / "m.yaml").write_text("models: [{source: 'path:Tiny Model'}]\n")
    code, text = said(folder, "-s", str(ROOT / "Snakefile"), "--dry-run", *arguments)
    assert code and sentence.format(folder=folder) in text, text


def test_a_study_of_pretraining_alone_is_planned(fresh, tmp_path):
    project = fresh.copy(tmp_path / "project")
    project.write_config({key: value for key, value in TINY.items() if key != "interventions"} | {"models": []})
    rules = by_rule(project.planned_jobs())
    assert {
        "pretrain",
        "measure_training",
        "compare_pretraining",
        "judge_claims",
        "extract_activations",
    } <= rules.keys()
    assert not [rule for rule in rules if rule in ("fetch_model", "intervene", "measure_baseline", "tokenize_prompts")]
    assert yaml.safe_load((project.folder / "tiny.yaml").read_text())["models"] == []
