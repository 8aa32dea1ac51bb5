"""The page on notebooks runs as it stands, on a tiny model."""

import re

import matplotlib

from tiny_study import ROOT

PAGE = (ROOT / "docs" / "notebook.md").read_text()


def test_every_snippet_of_the_page_runs_in_their_order(tiny, capsys):
    matplotlib.use("agg")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
    assert code.count("path/to/model") == 2 and code.count("sinkorigin.") >= 8
    names: dict = {}
    exec(code.replace("path/to/model", str(tiny)), names)  # the page's own code
    said = capsys.readouterr().out
    assert "Anatomy of the sink of model" in said and "Measurement of model on 2 sequences" in said
    assert set(names["norms"]) == {-1, 0, 1, 2}
