"""Fixtures of all tests."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from architectures import ARCHITECTURES, build
from tiny_study import Project, checkout, write_model, write_text


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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests of one file run in one process, one after the other, and so do all that share the Slurm of the tests."""
    for item in items:
        cluster = item.path.parent.name == "cluster"
        item.add_marker(pytest.mark.xdist_group("cluster" if cluster else str(item.path)))


def shared_study(factory: pytest.TempPathFactory, worker: str, name: str, make: Callable[[Path], Project]) -> Project:
    """This test process' copy of a study that the first process to ask for it makes."""
    folder = factory.mktemp(name) / "project"
    if worker == "master":
        return make(folder)
    shared = factory.getbasetemp().parent / name
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            make(folder).copy(shared)
            return Project(folder)
    return Project(shared).copy(folder)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory, worker_id) -> Project:
    """The tiny study before its first run."""

    def make(folder: Path) -> Project:
        project = checkout(folder)
        project.write_config()
        write_text(folder / "text")
        write_model(folder / "tiny_model", folder / "text")
        return project

    return shared_study(tmp_path_factory, worker_id, "fresh", make)


@pytest.fixture(scope="session")
def finished(fresh, tmp_path_factory, worker_id) -> Project:
    """The tiny study after its run. Tests only look at it; those that change something take a copy."""

    def make(folder: Path) -> Project:
        project = fresh.copy(folder)
        project.run()
        return project

    return shared_study(tmp_path_factory, worker_id, "finished", make)


@pytest.fixture
def study(finished, tmp_path) -> Project:
    """A copy of the finished study to change."""
    return finished.copy(tmp_path / "project")
