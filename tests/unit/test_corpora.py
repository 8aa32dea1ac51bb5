"""Corpora of every kind become one table of documents, in bounded memory, or one sentence says why not."""

import bz2
import gzip
import io
import json
import os
import tracemalloc
from types import SimpleNamespace

import huggingface_hub
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sinkorigin import corpora
from sinkorigin.corpora import check_local_corpus, chosen, fetch_corpus
from sinkorigin.errors import SinkoriginError
from tiny_study import write_text

TEXTS = [f"Document {i}.\n\nIt says {'é' * i}." for i in range(10)]


def fetched(path, source, **changes):
    settings = {"members": None, "sha256": None, "validation_share": 0.4, "seed": 0, **changes}
    fetch_corpus(path / "documents.parquet", source=str(source), **settings)
    return pl.read_parquet(path / "documents.parquet")


def write_lines(path, texts, key="text"):
    content = "".join(json.dumps({"id": i, key: text}) + "\n" for i, text in enumerate(texts)).encode()
    open_ = {".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix, open)
    with open_(path, "wb") as file:
        file.write(content)
    return path


def write_parquet(path, texts, column="text"):
    pq.write_table(pa.table({"id": list(range(len(texts))), column: texts}), path, row_group_size=3)
    return path


# ---- the kinds of files


def test_a_corpus_is_split_by_document(tmp_path):
    write_text(tmp_path / "text")
    table = fetched(tmp_path, f"path:{tmp_path / 'text'}")
    assert sorted(table["split"]) == ["train"] * 3 + ["validation"] * 2
    assert table["document"].n_unique() == 5
    first = (tmp_path / "documents.parquet").read_bytes()
    assert fetched(tmp_path, f"path:{tmp_path / 'text'}").height == 5
    assert (tmp_path / "documents.parquet").read_bytes() == first
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.bz2", "a.parquet", "a.json"])
def test_json_lines_and_parquet_give_a_document_a_row(name, tmp_path):
    file = tmp_path / name
    (write_parquet if name.endswith("parquet") else write_lines)(file, [*TEXTS, "", " \n"])
    table = fetched(tmp_path, f"path:{file}")
    assert table["text"].to_list() == TEXTS
    assert table["document"][0] == f"{name}, row 1"
    assert table["split"].to_list().count("validation") == 4


def test_a_folder_is_read_file_by_file_by_name_and_a_column_may_be_named(tmp_path):
    folder = tmp_path / "data"
    (folder / "more").mkdir(parents=True)
    write_parquet(folder / "b.parquet", TEXTS[:4], "body")
    write_parquet(folder / "more" / "c.parquet", TEXTS[4:], "body")
    (folder / "README.txt").write_text("not a document")
    assert fetched(tmp_path, f"path:{folder}", column="body")["text"].to_list() == TEXTS
    some = fetched(tmp_path, f"path:{folder}", column="body", members=["*.parquet", "!more/*"])
    assert some["text"].to_list() == TEXTS[:4]
    assert fetched(tmp_path, f"path:{folder}", column="body", documents=6)["text"].to_list() == TEXTS[:6]


def test_without_members_one_kind_of_file_is_read():
    assert chosen(["b.parquet", "a.parquet", "c.jsonl", "README.md", "x.txt"], None) == ["a.parquet", "b.parquet"]
    assert chosen(["c.jsonl.gz", "x.txt", "script.py"], None) == ["c.jsonl.gz"]
    assert chosen(["x.txt", "script.py"], None) == ["x.txt"]


def test_a_single_document_is_cut_at_a_paragraph(tmp_path):
    (tmp_path / "one.txt").write_text("\n\n".join(f"paragraph {i}" for i in range(20)))
    train, validation = fetched(tmp_path, f"path:{tmp_path / 'one.txt'}", validation_share=0.2)["text"]
    assert validation.startswith("paragraph 1")
    assert 0.7 < len(train) / (len(train) + len(validation)) < 0.9


def test_a_long_text_file_becomes_pieces_that_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "PIECE", 100)
    text = "\n\n".join(f"paragraph {i}: " + "é" * (1 + i % 30) for i in range(60))
    (tmp_path / "one.txt").write_text(text)
    table = fetched(tmp_path, f"path:{tmp_path / 'one.txt'}")
    assert table["document"].to_list()[:2] == ["one.txt", "one.txt, part 2"]
    assert max(len(part.encode()) for part in table["text"]) <= 101  # a line end is added
    assert "\n\n".join(part.strip() for part in table["text"]) == text.strip()
    unbroken = "é" * 500
    pieces = list(corpora._pieces(io.BytesIO(unbroken.encode())))
    assert len(pieces) > 4 and b"".join(pieces).decode() == unbroken and all(piece.decode() for piece in pieces)


def test_memory_does_not_grow_with_the_corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "_GROUP", 100_000)

    def peak(documents):
        write_lines(tmp_path / "many.jsonl", (f"{i} " * 2_000 for i in range(documents)))
        tracemalloc.start()
        assert fetched(tmp_path, f"path:{tmp_path / 'many.jsonl'}").height == documents
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(50)
    assert peak(1_000) < 3 * peak(100)


# ---- the hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A data set hub in a folder: the folder of owner/set, and the names that were downloaded."""
    folder = tmp_path / "hub"
    folder.mkdir()
    asked = []

    def dataset_info(self, repository, revision):
        if (repository, revision) != ("owner/set", "v1"):
            response = SimpleNamespace(headers={}, request=None, status_code=404)
            raise huggingface_hub.errors.RepositoryNotFoundError("404", response=response)
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        return SimpleNamespace(sha="abc123", siblings=[SimpleNamespace(rfilename=name) for name in names])

    def hf_hub_download(repository, name, *, repo_type, revision, local_dir):
        assert (repository, repo_type, revision) == ("owner/set", "dataset", "abc123")
        assert not [path for path in local_dir.rglob("*") if path.is_file()], "an earlier file is still on the disk"
        asked.append(name)
        target = local_dir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((folder / name).read_bytes())
        return str(target)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    return folder, asked


def test_a_data_set_is_read_shard_by_shard_at_its_commit_and_no_code_of_it(hub, tmp_path, capsys):
    folder, asked = hub
    (folder / "data").mkdir()
    write_parquet(folder / "data" / "train-0.parquet", TEXTS[:5])
    write_parquet(folder / "data" / "train-1.parquet", TEXTS[5:])
    (folder / "set.py").write_text("raise SystemExit")
    (folder / "README.md").write_text("about")
    assert fetched(tmp_path, "hub:owner/set@v1")["text"].to_list() == TEXTS
    assert asked == ["data/train-0.parquet", "data/train-1.parquet"]
    assert "owner/set at commit abc123, 2 files" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["documents.parquet", "hub"]


def test_no_more_shards_are_downloaded_than_documents_are_wanted(hub, tmp_path):
    folder, asked = hub
    for i in range(4):
        write_lines(folder / f"{i}.jsonl.gz", TEXTS[:5])
    assert fetched(tmp_path, "hub:owner/set@v1", documents=7).height == 7
    assert asked == ["0.jsonl.gz", "1.jsonl.gz"]


def test_members_choose_the_shards_of_a_data_set(hub, tmp_path):
    folder, asked = hub
    for name in ("en-0.jsonl", "en-1.jsonl", "de-0.jsonl"):
        write_lines(folder / name, TEXTS)
    fetched(tmp_path, "hub:owner/set@v1", members=["en-*", "!*-1.jsonl"])
    assert asked == ["en-0.jsonl"]
    with pytest.raises(
        SinkoriginError, match=r"hub:owner/set@v1 has no file that matches members \['fr-\*'\]; correct"
    ):
        fetched(tmp_path, "hub:owner/set@v1", members=["fr-*"])


def test_a_data_set_that_is_not_there_is_said_in_a_sentence(hub, tmp_path):
    with pytest.raises(SinkoriginError, match="corpus: the hub has no owner/other at revision v1, or it is private"):
        fetched(tmp_path, "hub:owner/other@v1")


def test_no_hub_is_said_with_the_way_round(tmp_path):
    # HF_HUB_OFFLINE is set by the tests; the hub client refuses at once
    with pytest.raises(SinkoriginError, match="corpus: .*check the network, or .*use a path: source"):
        fetched(tmp_path, "hub:owner/name@main")
    assert list(tmp_path.iterdir()) == []


# ---- bad input


def refused(tmp_path, source, sentence, **settings):
    with pytest.raises(SinkoriginError, match=sentence) as caught:
        fetched(tmp_path, source, **settings)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "documents.parquet").exists() and not (tmp_path / ".documents.parquet.work").exists()


def test_a_corpus_without_files_is_said_in_a_sentence(tmp_path):
    os.mkdir(tmp_path / "empty")
    refused(
        tmp_path, f"path:{tmp_path / 'empty'}", "corpus: path:.* has no file that is .parquet, .jsonl or .txt; correct"
    )
    refused(
        tmp_path, f"path:{tmp_path / 'empty'}", r"has no file that matches members \['\*.x'\]; correct", members=["*.x"]
    )
    refused(tmp_path, f"path:{tmp_path / 'nowhere'}", "corpus: there is no .*nowhere; correct its source in the config")


@pytest.mark.parametrize("write", [write_parquet, write_lines])
def test_a_missing_column_is_named_beside_those_that_are_there(write, tmp_path):
    file = write(tmp_path / ("a.parquet" if write is write_parquet else "a.jsonl"), TEXTS, "body")
    refused(tmp_path, f"path:{file}", r"a\.\w+ has no (column|key) text; it has id, body; set column in the config")
    with pytest.raises(SinkoriginError, match="tiny.yaml: corpus: .*has no (column|key) text; it has id, body"):
        check_local_corpus("tiny.yaml: corpus", source=f"path:{file}", members=None, column="text")
    check_local_corpus("tiny.yaml: corpus", source=f"path:{file}", members=None, column="body")


@pytest.mark.parametrize("write", [write_parquet, write_lines])
def test_a_column_of_something_else_or_of_nothing_is_refused(write, tmp_path):
    name = "a.parquet" if write is write_parquet else "a.jsonl"
    refused(tmp_path, f"path:{write(tmp_path / name, TEXTS)}", "set column in the config to", column="id")
    for empty in (["", None], [None, None]):
        refused(
            tmp_path,
            f"path:{write(tmp_path / name, empty)}",
            "has no text in its file; set column, which is text, to one",
        )


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    refused(
        tmp_path, f"path:{tmp_path / 'a.parquet'}", r"a.parquet cannot be read as Parquet \(.*\); it is damaged or mis"
    )
    pq.write_table(pa.table({"text": TEXTS * 50}), tmp_path / "b.parquet", compression="zstd")
    whole = (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[:4] + b"\xff" * 60 + whole[64:])
    refused(tmp_path, f"path:{tmp_path / 'b.parquet'}", "b.parquet cannot be read as Parquet")
    whole = write_lines(tmp_path / "c.jsonl.gz", TEXTS * 50).read_bytes()
    (tmp_path / "c.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, f"path:{tmp_path / 'c.jsonl.gz'}", "c.jsonl.gz cannot be read as JSON lines|is no JSON object")
    (tmp_path / "d.jsonl").write_text('{"text": "a"}\n["b"]\n')
    refused(
        tmp_path, f"path:{tmp_path / 'd.jsonl'}", "line 2 of d.jsonl is no JSON object; mend the file, or leave it out"
    )
    (tmp_path / "e.txt").write_bytes(b"\x00\x01binary")
    refused(tmp_path, f"path:{tmp_path / 'e.txt'}", "e.txt is no text file; correct members")


def test_a_local_file_must_have_the_hash_of_the_config(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", TEXTS)
    refused(tmp_path, f"path:{file}", "not 0{64} as the config says; correct sha256", sha256="0" * 64)
