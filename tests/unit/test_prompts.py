"""Prompts hold only what their model can read."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest

from sinkorigin import tables
from sinkorigin.corpora.fetching import DOCUMENTS_SCHEMA
from sinkorigin.corpora.prompts import make_prompts, read_token_ids
from sinkorigin.errors import SinkoriginError
from tiny_study import write_model, write_text


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny model directory and a corpus whose every document is held out."""
    folder = tmp_path_factory.mktemp("tiny")
    write_text(folder / "text")
    write_model(folder / "model", folder / "text")
    texts = [path.read_text() for path in sorted((folder / "text").iterdir())]
    names = [f"play_{number}" for number in range(len(texts))]
    documents = pa.table({"document": names, "split": ["validation"] * len(texts), "text": texts})
    tables.write_table(folder / "documents.parquet", documents, DOCUMENTS_SCHEMA)
    return folder


@pytest.fixture
def draw(tiny, tmp_path):
    """Change the model's config.json and draw prompts named long for it; the path of the table."""

    def draw(kind, length=12, **config):
        folder = shutil.copytree(tiny / "model", tmp_path / "model")
        values = json.loads((folder / "config.json").read_text()) | config
        (folder / "config.json").write_text(json.dumps(values))
        tables.write_manifest(folder)
        make_prompts(
            tmp_path / "long.parquet", model="tiny", directory=folder, kind=kind, sequences=4, length=length, seed=0,
            bos=False, corpus=tiny / "documents.parquet",
        )  # fmt: skip
        return tmp_path / "long.parquet"

    return draw


def test_random_tokens_are_rows_of_a_smaller_embedding(draw):
    assert read_token_ids(draw("random_tokens", vocab_size=260)).max() < 260


def test_text_with_tokens_beyond_the_embedding_is_refused(draw, tmp_path):
    with pytest.raises(
        SinkoriginError,
        match=r"model tiny: its tokenizer gives '.*' the id \d+, but its embedding has 260 rows; take the",
    ):
        draw("natural_text", vocab_size=260)
    assert not (tmp_path / "long.parquet").exists()


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"model_type": "gpt2", "n_positions": 10}, 10),
        ({"model_type": "opt", "max_position_embeddings": 11}, 11),
        ({"model_type": "llama", "max_position_embeddings": 10}, None),
    ],
)
@pytest.mark.parametrize("kind", ["random_tokens", "natural_text"])
def test_prompts_longer_than_learned_positions_are_refused(draw, kind, config, limit):
    if limit is None:
        assert np.shape(read_token_ids(draw(kind, **config))) == (4, 12)
    else:
        sentence = (
            f"prompts long have length 12, but a {config['model_type']} .* {limit} of them; lower length to {limit}"
        )
        with pytest.raises(SinkoriginError, match=sentence):
            draw(kind, **config)


@pytest.mark.parametrize(
    "config", [{"vocab_size": "many"}, {"text_config": []}, {"model_type": ["llama"], "vocab_size": None}]
)
def test_a_config_without_a_number_of_tokens_is_refused(draw, config):
    with pytest.raises(SinkoriginError, match=r"its config.json|in its config.json"):
        draw("random_tokens", **config)
