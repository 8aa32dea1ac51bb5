"""The tutorial, a notebook: all of its cells run, on a tiny model, and what it shows was written by the code that it holds."""

import ast
import json

import matplotlib
import pytest

from notebook_pages import cells_of, digest_of, with_outputs
from tiny_study import ROOT

TUTORIAL = ROOT / "docs/tutorial.ipynb"
CODE = [cell for cell in cells_of(TUTORIAL) if cell["cell_type"] == "code"]


def run(source: str, names: dict):
    """What a notebook shows below a cell: the value of its last line, if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return last and eval(compile(ast.Expression(last.value), "cell", "eval"), names)


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_the_tutorial_runs_from_beginning_to_end(tiny, tmp_path, monkeypatch, capsys):
    matplotlib.use("agg")
    monkeypatch.chdir(ROOT / "docs")
    names: dict = {}
    shown = {}
    for cell in CODE:
        shown[cell["id"]] = run(cell["source"], names)
        if cell["metadata"].get("tags") == ["parameters"]:
            assert names["MODEL"]["name"] == "smollm2-135m"
            names |= {"MODEL": {"name": "tiny", "source": f"path:{tiny}"}, "FOLDER": tmp_path / "tiny"}
            names |= {"SEQUENCES": 6, "LENGTH": 20}
    said = capsys.readouterr().out
    assert "Anatomy of the sink of tiny" in str(shown["anatomy"]) and shown["sink-mass"].height == 3
    assert len(shown["card-figure"].axes) == 3 and "mask: " in said and "after head-wise RMSNorm: " in said
    squares = names["squares"]  # (N, T, H): what the output projection gets has a mean square of 1 in every head
    assert squares.shape == (256, 32, 8) and (squares - 1).abs().max() < 1e-3


def test_what_the_tutorial_shows_was_written_by_its_code():
    notebook = json.loads(TUTORIAL.read_text())
    assert notebook["metadata"]["code_sha256"] == digest_of(cells_of(TUTORIAL)), "run make tutorial"
    assert [cell["execution_count"] for cell in CODE] == [*range(1, len(CODE) + 1)]
    drawn = [cell["id"] for cell in CODE for output in cell["outputs"] if "image/png" in output.get("data", {})]
    assert drawn == [cell["id"] for cell in CODE if "alt" in cell["metadata"]] and len(drawn) == 5
    page, figures = with_outputs(TUTORIAL)
    assert len(figures) == 5 and all(f"]({name})" in page for name in figures)
    assert "Anatomy of the sink of smollm2-135m" in page
