"""The tiny study, before and after its one run."""

import pytest

from tiny_study import Project, checkout, write_model, write_text


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
