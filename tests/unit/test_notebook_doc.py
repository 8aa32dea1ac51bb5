"""The page on notebooks runs as it stands, on a tiny model."""

import re

import matplotlib
import pytest

from tiny_study import ROOT, write_model, write_text

PAGE = (ROOT / "docs" / "notebook.md").read_text()


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_text(folder / "text")
    write_model(folder / "model", folder / "text")
    return folder / "model"


def test_every_snippet_of_the_page_runs_in_their_order(model_folder, capsys):
    matplotlib.use("agg")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
    assert code.count("path/to/model") == 2 and code.count("sinkorigin.") >= 8
    names: dict = {}
    exec(code.replace("path/to/model", str(model_folder)), names)  # the page's own code
    said = capsys.readouterr().out
    assert "Anatomy of the sink of model" in said and "Measurement of model on 2 sequences" in said
    assert set(names["norms"]) == {-1, 0, 1, 2}
