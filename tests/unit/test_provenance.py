"""What a study calls a model, and its licence, are no part of what is fetched."""

import pytest

from scripts_by_hand import run_script
from sinkorigin import tables
from sinkorigin.models.provenance import labelled

FETCHED = {"model": "tiny", "source": "path:tiny", "quantisation": None, "weights": "pretrained"}


@pytest.mark.parametrize(
    ("label", "quantisation", "shown"),
    [
        (None, None, "tiny"),
        ("Tiny", None, "Tiny"),
        (None, "Q4_1", "tiny, dequantised from Q4_1"),
        ("Tiny", "Q4_1", "Tiny, dequantised from Q4_1"),
        ("Tiny from Q4_1", "Q4_1", "Tiny from Q4_1"),
    ],
)
def test_a_label_says_that_a_model_was_dequantised(label, quantisation, shown):
    assert labelled(FETCHED | {"quantisation": quantisation}, label=label, licence=None)["label"] == shown


def test_random_weights_have_no_licence():
    assert labelled(FETCHED, label=None, licence="MIT")["licence"] == "MIT"
    assert labelled(FETCHED | {"weights": "random"}, label=None, licence="MIT")["licence"] is None


def test_a_labelled_provenance_keeps_what_was_fetched(tmp_path):
    fetched, labelled_ = (
        tmp_path / "results/models/tiny.provenance.json",
        tmp_path / "results/study/provenance/tiny.json",
    )
    for path in (fetched, labelled_):
        path.parent.mkdir(parents=True)
    tables.write_json(fetched, FETCHED)
    run_script(
        "label_model.py", tmp_path, inputs={"provenance": fetched}, outputs={"provenance": labelled_},
        params={"label": "Tiny", "licence": "MIT"}, model="tiny",
    )  # fmt: skip
    assert tables.read_json(labelled_) == FETCHED | {"label": "Tiny", "licence": "MIT"}
    assert tables.place_of(labelled_) == "provenance/tiny.json"
