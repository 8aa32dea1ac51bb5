"""Nothing of a text is lost or doubled on its way into documents, tokens and windows, and seeds decide everything."""

import io
import json
import re
from contextlib import redirect_stdout
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sinkorigin.corpora import text_files
from sinkorigin.corpora.documents import documents_of
from sinkorigin.corpora.fetching import fetch_corpus
from sinkorigin.corpora.files import chosen, kind_of
from sinkorigin.corpora.prompts import by_turns, fixed_token_id, natural_text, random_tokens, with_first_token
from sinkorigin.pretraining.data import Split, batch, load_tokens, token_directory, validation_windows
from sinkorigin.tables import read_table

characters = st.text(st.sampled_from("ab \n\r\té✓𝄞\u2028.\ufeff"), max_size=80)
plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(text_files, "PIECE", 16)


def test_pieces_are_small_and_lose_nothing(small_pieces):
    @given(st.lists(characters.map(str.encode), max_size=4))
    def holds(blocks):
        pieces = list(text_files._pieces(blocks))
        assert b"".join(pieces) == b"".join(blocks)
        assert all(0 < len(piece) <= 16 for piece in pieces)
        for piece in pieces:
            piece.decode()  # no character is cut

    holds()


def test_documents_of_a_text_file_are_its_text(small_pieces, tmp_path):
    @given(characters, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.sampled_from(["", ".gz", ".zst"]))
    def holds(text, encoding, compression):
        path, raw = tmp_path / f"a.txt{compression}", text.encode(encoding)
        if compression:
            raw = pa.compress(raw, {".gz": "gzip", ".zst": "zstd"}[compression], asbytes=True)
        path.write_bytes(raw)
        if not path.stat().st_size:
            return
        found = list(documents_of(path, path.name, "text", "corpus"))
        kept = "".join(piece for _, piece in found)
        # pieces are stripped of the space around them
        assert re.sub(r"[\s\ufeff]", "", kept) == re.sub(r"[\s\ufeff]", "", text)
        names = [name for name, _ in found]
        assert len(set(names)) == len(names) and all(name.startswith(path.name) for name in names)

    holds()


def test_rows_of_json_lines_and_parquet_are_documents(tmp_path):
    @given(st.lists(st.one_of(st.none(), plain), min_size=1, max_size=6), st.booleans(), st.integers(1, 4))
    def holds(texts, ascii_only, rows_of_a_group):
        lines = [json.dumps({"text": text, "n": 1}, ensure_ascii=ascii_only) for text in texts]
        (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
        table = pa.table({"text": pa.array(texts, pa.string())})
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=rows_of_a_group)
        for name in ("a.jsonl", "a.parquet"):
            found = list(documents_of(tmp_path / name, name, "text", "corpus"))
            assert [text for _, text in found] == [text or "" for text in texts]
            assert [title for title, _ in found] == [f"{name}, row {n}" for n in range(1, len(texts) + 1)]

    holds()


def test_a_corpus_is_split_without_a_copy_on_both_sides(tmp_path):
    @given(
        st.lists(plain, min_size=1, max_size=12),
        st.integers(0, 3),
        st.floats(0.01, 0.9),
        st.one_of(st.none(), st.integers(2, 5)),
    )
    def holds(texts, seed, share, documents):
        lines = [json.dumps({"text": text}) for text in texts]
        (tmp_path / "a.jsonl").write_text("\n".join(lines))
        distinct = list({text.strip(): text for text in reversed(texts) if text.strip()}.values())[::-1]
        distinct = sorted(distinct, key=texts.index)[:documents]
        if len(distinct) < 2:
            return
        wanted = {
            "source": f"path:{tmp_path / 'a.jsonl'}",
            "members": None,
            "sha256": None,
            "validation_share": share,
            "documents": documents,
        }
        with redirect_stdout(io.StringIO()):
            for name in ("one.parquet", "other.parquet"):
                fetch_corpus(tmp_path / name, seed=seed, **wanted)
        found = read_table(tmp_path / "one.parquet").to_pylist()
        assert [row["text"].strip() for row in found] == [text.strip() for text in distinct]
        held_out = [row for row in found if row["split"] == "validation"]
        assert len(held_out) == min(max(1, round(share * len(distinct))), len(distinct) - 1)
        assert {row["split"] for row in found} == {"train", "validation"}
        assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "other.parquet").read_bytes()

    holds()


@given(
    st.lists(st.from_regex(r"[ab]{1,2}\.(txt|jsonl|parquet|JSONL|md|json)(\.gz|\.zst)?", fullmatch=True), max_size=6)
)
def test_one_kind_of_file_is_chosen_and_all_of_it(names):
    found = chosen(names, None)
    kinds = {name: re.search(r"\.(txt|jsonl|parquet)(\.gz|\.zst)?$", name.lower()) for name in names}
    by_kind = [
        sorted(name for name in names if kinds[name] and kinds[name][1] == kind) for kind in ("parquet", "jsonl", "txt")
    ]
    assert found == next(filter(None, by_kind), [])
    assert len({kind_of(name) for name in found}) <= 1


# ---- tokens


@given(
    st.lists(
        st.tuples(st.sampled_from(["train", "validation"]), st.lists(st.integers(0, 90_000), max_size=9)), max_size=8
    ),
    st.integers(1, 7),
    st.sampled_from([300, 65_536, 65_537, 100_000]),
)
def test_token_files_hold_every_document_and_an_end_after_it(tmp_path_factory, documents, shard, vocabulary):
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "tokenizer.json").write_text("{}")
    documents = [
        ("train", [1]),
        ("validation", [2]),
        *((split, [n % vocabulary for n in ids]) for split, ids in documents),
    ]
    with token_directory(folder / "made", folder, vocabulary=vocabulary, eos=0, shard=shard) as writer:
        for split, ids in documents:
            writer.write(split, ids)
    found = load_tokens(folder / "made")
    for split, tokens in (("train", found.train), ("validation", found.validation)):
        expected = [token for name, ids in documents if name == split for token in [*ids, 0]]
        assert tokens[:].tolist() == expected and len(tokens) == len(expected)
        assert all(len(part) == shard for part in tokens.shards[:-1])
        assert tokens[np.arange(len(expected))[::-1]].tolist() == expected[::-1]
        assert [tokens[-1], tokens[0]] == [expected[-1], expected[0]]
        assert tokens.dtype.itemsize == (2 if vocabulary <= 2**16 else 4)
    assert (found.vocabulary, found.eos) == (vocabulary, 0)


@given(arrays(np.int64, st.integers(3, 40), elements=st.integers(0, 9)), st.data())
def test_batches_and_validation_windows_are_stretches_of_the_tokens(tokens, data):
    first = data.draw(st.one_of(st.none(), st.just(77)))
    length = data.draw(st.integers(1, len(tokens) - 1))
    step, seed = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 5))
    cut = data.draw(st.integers(1, len(tokens) - 1))
    shards = Split([tokens[:cut], tokens[cut:]])
    stretches = {tuple(tokens[at : at + length + 1]) for at in range(len(tokens) - length)}
    if first is not None:
        stretches = {(first, *tokens[at : at + length]) for at in range(len(tokens) - length + 1)}
    inputs, targets = batch(tokens, seed=seed, step=step, batch=4, length=length, first=first)
    again = batch(shards, seed=seed, step=step, batch=4, length=length, first=first)
    np.testing.assert_array_equal((inputs, targets), again)
    assert inputs.shape == targets.shape == (4, length)
    for one, target in zip(inputs.tolist(), targets.tolist(), strict=True):
        assert (*one, target[-1]) in stretches and one[1:] == target[:-1]
    count = data.draw(st.integers(1, 8))
    inputs, targets = validation_windows(shards, count=count, length=length, first=first)
    available = (len(tokens) - (first is None)) // length
    assert len(inputs) == min(count, available)
    starts = [available * n // len(inputs) * length for n in range(len(inputs))]
    assert len(set(starts)) == len(starts) and all(b - a >= length for a, b in pairwise(starts))
    for start, one, target in zip(starts, inputs.tolist(), targets.tolist(), strict=True):
        stretch = tokens[start : start + length + (first is None)].tolist()
        whole = stretch if first is None else [first, *stretch]
        assert (one, target) == (whole[:-1], whole[1:])


# ---- prompts


@given(arrays(np.int64, st.integers(1, 20), elements=st.integers(0, 4)), st.integers(0, 20), st.integers(0, 3))
def test_documents_give_their_windows_by_turns(documents, sequences, seed):
    places = by_turns(documents, sequences, seed)
    assert len(places) == min(sequences, len(documents)) == len(set(places.tolist()))
    assert places.tolist() == by_turns(documents, sequences, seed).tolist()
    given_so_far = dict.fromkeys(documents.tolist(), 0)
    has = {document: int((documents == document).sum()) for document in given_so_far}
    for document in documents[places].tolist():
        others = [given_so_far[other] for other in has if given_so_far[other] < has[other]]
        assert given_so_far[document] == min(others)
        given_so_far[document] += 1


class Words:
    """A tokenizer whose tokens are characters."""

    def __call__(self, paragraphs, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": [list(map(ord, paragraph)) for paragraph in paragraphs]}


@given(
    st.lists(st.lists(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=5), min_size=1, max_size=4),
    st.integers(1, 12),
    st.integers(0, 3),
)
def test_windows_of_text_are_disjoint_stretches_that_begin_with_a_paragraph(documents, length, seed):
    texts = ["\n\n".join(paragraphs) for paragraphs in documents]
    expected = []
    for number, paragraphs in enumerate(documents):
        window = ""
        for paragraph in paragraphs:
            window += paragraph + "\n\n"
            if len(window) >= length:
                expected.append((number, window[:length]))
                window = ""
    if not expected:
        return
    ids, sources = natural_text(Words(), texts, len(expected), length, seed, model="m")
    found = sorted(zip(sources, ("".join(map(chr, row)) for row in ids.tolist()), strict=True))
    assert found == sorted(expected)


@given(
    arrays(np.int64, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=st.integers(0, 9)),
    st.booleans(),
    st.integers(0, 3),
)
def test_the_first_token_is_set_and_others_stay_in_their_order(ids, shift, seed):
    assert with_first_token(ids, None, shift=shift) is ids
    found = with_first_token(ids, 50, shift=shift)
    for before, after in zip(ids.tolist(), found.tolist(), strict=True):
        assert after == ([50, *before[:-1]] if shift else [50, *before[1:]])
    drawn = random_tokens(ids[0], 3, 4, seed)
    assert drawn.shape == (3, 4) and set(drawn.flatten()) <= set(ids[0])
    np.testing.assert_array_equal(drawn, random_tokens(ids[0], 3, 4, seed))
    assert fixed_token_id(ids[0], seed) in ids[0]
