"""Fixtures of all tests."""

import os
import shutil

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from architectures import ARCHITECTURES, build
from forks import Server
from tiny_study import Project, checkout, write_model, write_text

# Generated examples are the same in every run, few by default; HYPOTHESIS_PROFILE=deep tries many, other ones each time.
_PROPERTIES = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=50, derandomize=True, **_PROPERTIES)
settings.register_profile("deep", max_examples=1000, print_blob=True, **_PROPERTIES)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(params=sorted(ARCHITECTURES))
def any_model(request):
    return build(request.param)


@pytest.fixture
def llama():
    return build("llama")


@pytest.fixture
def token_ids():
    import numpy as np

    return np.random.default_rng(0).integers(3, 96, size=(6, 12))


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # the process that starts all others
        config.add_cleanup(Server().end)


# Files that take minutes begin first, so that no process is left with one at the end. One process runs all of a file
# (--dist loadfile), since its tests share what it sets up.
_LONGEST = [
    "test_reruns",
    "test_declared",
    "test_cluster_run",
    "test_sharing",
    "test_plan",
    "test_incremental",
    "test_training",
    "test_failures",
    "test_engines",
    "test_faults",
    "test_interruption",
    "test_deployment",
    "test_variants",
    "test_one_line",
    "test_bad_input",
    "test_first_look",
    "test_capture",
    "test_end_to_end",
    "test_pretraining_cost",
    "test_figures_structure",
    "test_code_version",
    "test_extending",
    "test_readme",
]


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: _LONGEST.index(item.path.stem) if item.path.stem in _LONGEST else len(_LONGEST))


def made_once(tmp_path_factory, name: str, make) -> Project:
    """A project that the first process to need it makes, for all processes of the tests."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    done = folder / name / "done"
    with FileLock(folder / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(done.parent, ignore_errors=True)
            done.parent.mkdir()
            make(done.parent / "project")
            done.touch()
    return Project(done.parent / "project")


@pytest.fixture(scope="session")
def fresh(tmp_path_factory) -> Project:
    """The tiny study before its first run."""

    def make(folder: Path) -> None:
        project = checkout(folder)
        project.write_config()
        write_text(project.folder / "text")
        write_model(project.folder / "tiny_model", project.folder / "text")

    return made_once(tmp_path_factory, "fresh", make)


@pytest.fixture(scope="session")
def finished(fresh, tmp_path_factory) -> Project:
    """The tiny study after its run. Tests only look at it; those that change something take a copy."""
    return made_once(tmp_path_factory, "finished", lambda folder: fresh.copy(folder).run())


@pytest.fixture
def study(finished, tmp_path) -> Project:
    """A copy of the finished study to change."""
    return finished.copy(tmp_path / "project")
