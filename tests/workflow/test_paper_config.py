"""The paper's own study: its configuration is valid, its jobs can be planned, and it is of the size that it says."""

import re
import subprocess
import sys

import pytest
import yaml

from harness.config.merging import Layer, merge
from harness.config.reading import read_config
from sinkorigin.pretraining.cost import cost
from tiny_study import ROOT, checkout


def paper_study():
    own, paper = (
        Layer(name, yaml.safe_load((ROOT / name).read_text())) for name in ("config.yaml", "config.paper.yaml")
    )
    return read_config(merge(own, [paper], ROOT).values, "config.paper.yaml")


def test_the_paper_study_is_planned_without_network_or_gpu(tmp_path):
    project = checkout(tmp_path / "project")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--configfile", "config.paper.yaml", "--cores", "4"),
            *("--dry-run", "--quiet", "rules", "--", "all", "learning_rates"),
        ],
        cwd=project.folder, env=project.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stdout + done.stderr
    counts = dict(re.findall(r"(\w[\w ]*?) {2,}(\d+)", done.stdout + done.stderr))
    assert counts["pretrain with checkpoints"] == "12" and counts["measure training"] == "3"
    assert counts["pretrain learning rate"] == "12" and counts["intervene"] == "2"


def test_the_paper_runs_have_the_papers_size():
    study = paper_study()
    assert [(run.variant, len(run.seeds)) for run in study.pretraining.runs] == [
        ("softmax", 4), ("headwise_rmsnorm", 4), ("sigmoid", 4)
    ]  # fmt: skip
    for run in study.pretraining.runs:
        own = cost(run.model_dump(), vocabulary=32_000, options=run.options)
        assert own.parameters == pytest.approx(152e6, rel=0.005)
        assert own.tokens == pytest.approx(20e9, rel=0.001)
        assert study.pretraining.baselines[run.name] == "softmax"
