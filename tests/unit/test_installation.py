"""Another Snakemake or another library than the workflow was tried with is refused in one sentence, before any rule is read; so is a wrong registry."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from harness import installation
from harness.cluster import prepare_slurm
from harness.installation import TRIED, wrong_library, wrong_version
from sinkorigin.errors import SinkoriginError
from tiny_study import ROOT


def test_the_locked_versions_are_those_that_were_tried():
    pins = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line)
    assert {package: pins[package] in versions for package, versions in TRIED.items()} == dict.fromkeys(TRIED, True)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["workflow"]
    assert {f"{package}=={version}" for package, [version] in TRIED.items()} <= set(extras)
    assert [wrong_version(package) for package in TRIED] == [None, None]
    assert wrong_library(ROOT / "workflow_scripts") is None


@pytest.fixture
def other_versions(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "9.99.0")


REFUSED = "{package} 9.99.0 is installed, but this workflow was tried with {tried} only and reaches into its internals; run {python} -m pip install -r requirements.lock"


def test_a_version_that_was_not_tried_is_named_with_those_that_were(other_versions):
    for package, tried in (("snakemake", "9.27.1"), ("snakemake-executor-plugin-slurm", "2.8.0")):
        assert wrong_version(package) == REFUSED.format(package=package, tried=tried, python=sys.executable)


def test_the_plugin_for_slurm_is_refused_where_it_is_used(other_versions):
    with pytest.raises(SinkoriginError, match="snakemake-executor-plugin-slurm 9.99.0 is installed, but"):
        prepare_slurm(None, "cpu", "config.yaml")


def test_a_library_that_says_nothing_of_itself_is_refused(monkeypatch, tmp_path):
    monkeypatch.delattr(installation.sinkorigin, "__version__")
    monkeypatch.setattr(installation.sinkorigin, "__file__", None)
    assert "but sinkorigin of an unknown version was imported from None; uninstall" in wrong_library(tmp_path)


def dry_run(folder, path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode
    [sentence] = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("Using workflow")]
    return sentence


@pytest.fixture
def project(tmp_path):
    """A checkout without its library."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "workflow_scripts", folder / "workflow_scripts")
    for name in ("Snakefile", "config.yaml", "rules", "profiles"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def test_a_run_with_another_snakemake_ends_with_the_sentence(project, tmp_path):
    metadata = tmp_path / "other/snakemake-9.99.0.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: snakemake\nVersion: 9.99.0\n")
    (project / "src").symlink_to(ROOT / "src")
    said = dry_run(project, tmp_path / "other")
    assert said == "sinkorigin: " + REFUSED.format(package="snakemake", tried="9.27.1", python=sys.executable)


def test_a_run_that_finds_an_older_library_only_ends_with_the_sentence(project, tmp_path):
    library = tmp_path / "installed/sinkorigin"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text('__version__ = "0.0.9"\n')
    said = dry_run(project, library.parent)
    assert re.match(
        rf"sinkorigin: the workflow's scripts are in {project}/workflow_scripts and need the library of the same checkout, but "
        rf"sinkorigin 0.0.9 was imported from {library.parent}; uninstall that \(.* -m pip uninstall sinkorigin\), and get ",
        said,
    )


def test_a_run_with_a_wrong_registry_ends_with_the_sentence(project, tmp_path):
    shutil.copytree(ROOT / "src", project / "src")
    registry = project / "src/sinkorigin/variants/registry.py"
    registry.write_text(registry.read_text().replace('"softpick"', '"softpik"'))
    assert re.match(
        rf"sinkorigin: {registry}, line \d+: softpik is registered, but there is no module softpik.py in ",
        dry_run(project, ""),
    )
