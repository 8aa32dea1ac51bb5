"""Prompts hold only what their model can read."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest

from sinkorigin import tables
from sinkorigin.corpora.fetching import DOCUMENTS_SCHEMA
from sinkorigin.corpora.prompts import bos_token_id, fixed_token_id, make_prompts, read_token_ids
from sinkorigin.errors import SinkoriginError
from tiny_study import take_bos_away, write_model, write_text


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

    def draw(kind, length=12, first_token="drawn", tokenizer=True, **config):
        folder = shutil.copytree(tiny / "model", tmp_path / "model", dirs_exist_ok=True)
        if not tokenizer:
            for file in folder.glob("tokenizer*"):
                file.unlink()
        values = json.loads((folder / "config.json").read_text()) | config
        (folder / "config.json").write_text(json.dumps(values))
        tables.write_manifest(folder)
        make_prompts(
            tmp_path / "long.parquet", model="tiny", directory=folder, kind=kind, sequences=4, length=length, seed=0,
            first_token=first_token, corpus=tiny / "documents.parquet",
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


# ---- the first token


def ids_of(draw, kind, **given):
    return {first: read_token_ids(draw(kind, first_token=first, **given)) for first in ("drawn", "bos", "fixed")}


def test_random_tokens_differ_at_position_0_alone(draw):
    found = ids_of(draw, "random_tokens")
    for first in ("bos", "fixed"):
        assert np.array_equal(found[first][:, 1:], found["drawn"][:, 1:])
        assert len(set(found[first][:, 0])) == 1
    assert len(set(found["drawn"][:, 0])) > 1
    assert found["bos"][0, 0] == 0 and found["fixed"][0, 0] != 0


def test_text_moves_on_by_the_first_token_and_loses_its_last(draw):
    found = ids_of(draw, "natural_text")
    for first in ("bos", "fixed"):
        assert np.array_equal(found[first][:, 1:], found["drawn"][:, :-1])
        assert len(set(found[first][:, 0])) == 1
    assert found["bos"][0, 0] == 0


def test_the_fixed_token_is_ordinary_the_same_for_text_and_follows_from_the_seed(draw):
    random, text = (read_token_ids(draw(kind, first_token="fixed"))[0, 0] for kind in ("random_tokens", "natural_text"))
    assert random == text
    ids = np.arange(5, 300)
    assert fixed_token_id(ids, 3) == fixed_token_id(ids, 3) and fixed_token_id(ids, 3) in ids
    assert len({fixed_token_id(ids, seed) for seed in range(20)}) > 10


@pytest.fixture
def without_bos(tiny, tmp_path):
    """The tiny model, of which no file names a BOS."""
    take_bos_away(shutil.copytree(tiny / "model", tmp_path / "tiny" / "model"))
    shutil.copy(tiny / "documents.parquet", tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.mark.parametrize("kind", ["random_tokens", "natural_text"])
def test_a_model_without_bos_has_no_such_prompts_and_the_others(without_bos, tmp_path, kind):
    for first_token in ("bos", "drawn", "fixed"):
        tables.write_manifest(without_bos / "model")
        make_prompts(
            tmp_path / f"{first_token}.parquet", model="tiny", directory=without_bos / "model", kind=kind, sequences=4,
            length=12, seed=0, first_token=first_token, corpus=without_bos / "documents.parquet",
        )  # fmt: skip
    reasons = {name: tables.not_applicable(tmp_path / f"{name}.parquet") for name in ("bos", "drawn", "fixed")}
    assert reasons == {"bos": "the model has no BOS token", "drawn": None, "fixed": None}
    assert len(tables.read_table(tmp_path / "bos.parquet")) == 0


class Tokenizer:
    all_special_ids, added_tokens_decoder, bos_token_id = [7], {9: "<|endoftext|>"}, None


def test_the_config_names_the_bos_where_the_tokenizer_counts_it_among_its_special_tokens():
    assert bos_token_id(Tokenizer, {"bos_token_id": 9}, 100) == 9
    assert (
        bos_token_id(Tokenizer, {"bos_token_id": 1}, 100) is None
    )  # an ordinary token: the default of the config's class
    assert bos_token_id(Tokenizer, {}, 100) is None and bos_token_id(Tokenizer, {"bos_token_id": [9]}, 100) is None
    assert bos_token_id(Tokenizer, {"bos_token_id": 9}, 9) is None  # beyond the embedding
    assert bos_token_id(None, {"bos_token_id": 1}, 100) == 1


def test_without_a_tokenizer_random_tokens_are_ids_that_the_config_gives_no_meaning(draw):
    stated = {"bos_token_id": 3, "eos_token_id": [4, 5], "image_token_index": 6, "vocab_size": 12}
    path = draw("random_tokens", tokenizer=False, length=200, **stated)
    assert set(read_token_ids(path).reshape(-1)) == set(range(12)) - {3, 4, 5, 6}
    row = tables.read_table(path).to_pylist()[0]
    assert row["tokens"] == list(map(str, row["token_ids"])) and row["text"] is None
    assert set(read_token_ids(draw("random_tokens", tokenizer=False, first_token="bos", **stated))[:, 0]) == {3}


def test_without_a_tokenizer_text_is_not_applicable(draw):
    assert (
        tables.not_applicable(draw("natural_text", tokenizer=False))
        == "the model has no tokenizer, so it reads no text"
    )
