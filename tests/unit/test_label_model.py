"""What a study calls a model says what it was dequantised from, by its provenance: in its own, on figures and in claims."""

import sys
from types import SimpleNamespace

import pyarrow as pa
import pytest

from scripts_by_hand import run_script
from sinkorigin import tables
from sinkorigin.figures import style

FETCHED = {"model": "tiny", "source": "path:tiny", "quantisation": "Q4_K_M", "weights": "pretrained"}


@pytest.fixture
def fetched(tmp_path):
    """Provenance of a fetched model."""
    path = tmp_path / "results/models/tiny.provenance.json"
    path.parent.mkdir(parents=True)
    tables.record_inputs({})  # of the job of another test
    tables.write_json(path, FETCHED)
    return path


def test_a_labelled_provenance_keeps_what_was_fetched(fetched, tmp_path):
    named = tmp_path / "results/study/provenance/tiny.json"
    named.parent.mkdir(parents=True)
    run_script(
        "label_model.py", tmp_path, inputs={"provenance": fetched}, outputs={"provenance": named},
        params={"label": "Tiny", "licence": "MIT"}, model="tiny",
    )  # fmt: skip
    assert tables.read_json(named) == FETCHED | {"label": "Tiny, dequantised from Q4_K_M", "licence": "MIT"}
    assert tables.place_of(named) == "provenance/tiny.json"


def test_a_figure_shows_what_a_model_was_dequantised_from(fetched, tmp_path, monkeypatch):
    seen: dict = {}
    figure = SimpleNamespace(draw=lambda norms, labels: seen.update(labels) or style.without_data("nothing"))
    monkeypatch.setitem(sys.modules, "sinkorigin.figures.some", figure)
    norms = tmp_path / "results/study/statistics/tiny/p/norms.parquet"
    tables.write_table(norms, {"layer": [0]}, tables.schema(layer=(pa.int32(), "")))
    run_script(
        "plot.py", tmp_path, inputs={"norms": [norms], "provenance": [fetched]},
        outputs={"figure": tmp_path / "results/study/figures/some.svg"},
        params={"figure": "some", "keywords": {"labels": {"tiny": "Tiny", "trained": "trained"}}, "sample": "", "lacks": []},
    )  # fmt: skip
    assert seen == {"tiny": "Tiny, dequantised from Q4_K_M", "trained": "trained"}
