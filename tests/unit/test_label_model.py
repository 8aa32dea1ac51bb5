"""What a study calls a model, and its licence, are added to what was fetched."""

from scripts_by_hand import run_script
from sinkorigin import tables

FETCHED = {"model": "tiny", "source": "path:tiny", "quantisation": "Q4_K_M", "weights": "pretrained"}


def test_a_labelled_provenance_keeps_what_was_fetched(tmp_path):
    fetched = tmp_path / "results/models/tiny.provenance.json"
    named = tmp_path / "results/study/provenance/tiny.json"
    for path in (fetched, named):
        path.parent.mkdir(parents=True)
    tables.write_json(fetched, FETCHED)
    run_script(
        "label_model.py", tmp_path, inputs={"provenance": fetched}, outputs={"provenance": named},
        params={"label": "Tiny", "licence": "MIT"}, model="tiny",
    )  # fmt: skip
    assert tables.read_json(named) == FETCHED | {"label": "Tiny, dequantised from Q4_K_M", "licence": "MIT"}
    assert tables.place_of(named) == "provenance/tiny.json"
