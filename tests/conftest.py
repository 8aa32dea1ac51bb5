"""Fixtures of all tests."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

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


@pytest.fixture(scope="session")
def fresh(tmp_path_factory) -> Project:
    """The tiny study before its first run."""
    project = checkout(tmp_path_factory.mktemp("fresh") / "project")
    project.write_config()
    write_text(project.folder / "text")
    write_model(project.folder / "tiny_model", project.folder / "text")
    return project


@pytest.fixture(scope="session")
def finished(fresh, tmp_path_factory) -> Project:
    """The tiny study after its run. Tests only look at it; those that change something take a copy."""
    project = fresh.copy(tmp_path_factory.mktemp("finished") / "project")
    project.run()
    return project


@pytest.fixture
def study(finished, tmp_path) -> Project:
    """A copy of the finished study to change."""
    return finished.copy(tmp_path / "project")
