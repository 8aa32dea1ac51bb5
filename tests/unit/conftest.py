import shutil

import pytest

from tiny_study import write_model, write_text


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A tiny Llama with its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    write_text(folder / "text")
    write_model(folder / "model", folder / "text")
    return folder / "model"


@pytest.fixture
def model(tiny, tmp_path):
    """A copy of the tiny model to damage."""
    return shutil.copytree(tiny, tmp_path / "model")
