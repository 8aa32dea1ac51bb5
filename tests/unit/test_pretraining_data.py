"""What models train on: token files in shards, windows with a first token, and the synthetic task."""

import json
import shutil
from fnmatch import fnmatch

import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from sinkorigin.errors import SinkoriginError
from sinkorigin.pretraining.bigram_backcopy import (
    DOCUMENT,
    Task,
    entropies,
    estimate,
    make_bigram_backcopy,
    sample,
    save_character_tokenizer,
)
from sinkorigin.pretraining.data import Split, Tokens, batch, load_tokens, tokenize_documents, validation_windows
from sinkorigin.pretraining.loop import train
from sinkorigin.pretraining.prompts import held_out_windows, make_data_prompts
from sinkorigin.pretraining.settings import TrainingSettings
from sinkorigin.pretraining.tokenizer import END_OF_TEXT, take_tokenizer, train_tokenizer

SPEECH = "To be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer\n"


def documents_table(path, texts, splits=None):
    splits = splits or ["train"] * (len(texts) - 1) + ["validation"]
    columns = {"document": [str(i) for i in range(len(texts))], "split": splits, "text": texts}
    pq.write_table(pa.table(columns), path)
    return path


# ---- shards


def test_tokens_in_many_shards_read_as_one_array(tmp_path):
    texts = [SPEECH * n for n in (1, 5, 3, 4)]
    documents = documents_table(tmp_path / "documents.parquet", texts)
    train_tokenizer(texts[:-1], 260, tmp_path / "tokenizer")
    tokenize_documents(documents, tmp_path / "tokenizer", tmp_path / "one")
    tokenize_documents(documents, tmp_path / "tokenizer", tmp_path / "many", shard=100)
    one, many = load_tokens(tmp_path / "one"), load_tokens(tmp_path / "many")
    assert len(one.train.shards) == 1 and [len(shard) for shard in many.train.shards][:-1] == [100] * (
        len(many.train) // 100
    )
    whole = one.train[:]
    assert np.array_equal(many.train[:], whole) and len(many.train) == len(whole)
    for index in (0, -1, 99, 100, slice(90, 310, 7), slice(None, 5), np.array([[0, 100], [99, 250]])):
        assert np.array_equal(many.train[index], whole[index])
    with pytest.raises(IndexError):
        many.train[len(whole)]
    arguments = {"seed": 3, "step": 5, "batch": 16, "length": 40}
    for drawn, expected in zip(batch(many.train, **arguments), batch(whole, **arguments), strict=True):
        assert np.array_equal(drawn, expected)


def test_a_document_that_ends_with_its_shard_leaves_no_empty_file(tmp_path):
    documents = documents_table(tmp_path / "documents.parquet", ["abcd", "abcd"], ["train", "validation"])
    train_tokenizer([SPEECH], 257, tmp_path / "tokenizer")
    tokenize_documents(documents, tmp_path / "tokenizer", tmp_path / "tokens", shard=5)
    assert sorted(file.name for file in (tmp_path / "tokens").glob("*.bin")) == [
        "train-0000.bin",
        "validation-0000.bin",
    ]


# ---- windows that begin with a given token


def test_a_first_token_stands_before_every_window_and_is_never_a_target():
    tokens = np.arange(1, 1001, dtype=np.uint16)
    for inputs, targets in (
        batch(tokens, seed=1, step=7, batch=4, length=16, first=0),
        validation_windows(tokens, count=5, length=16, first=0),
    ):
        assert inputs.shape == targets.shape and inputs.shape[1] == 16 and inputs.dtype == np.int64
        assert np.all(inputs[:, 0] == 0) and np.array_equal(inputs[:, 1:], targets[:, :-1])
        assert np.array_equal(np.diff(targets, axis=1), np.ones((len(targets), 15)))


def test_with_a_first_token_windows_of_the_whole_split_can_be_drawn():
    first_targets = {
        int(batch(np.arange(1, 10), seed=0, step=s, batch=1, length=7, first=0)[1][0, 0]) for s in range(50)
    }
    assert first_targets == {1, 2, 3}
    assert batch(np.arange(1, 8), seed=0, step=0, batch=1, length=7, first=0)[1][0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert len(validation_windows(np.arange(14), count=9, length=7, first=0)[0]) == 2
    with pytest.raises(SinkoriginError, match=r"6 tokens, fewer than a window of length 7 needs \(7\)"):
        batch(np.arange(6), seed=0, step=0, batch=1, length=7, first=0)


# ---- bigram-backcopy


LETTERS = "etaoin shrdlucmfwypvb"
_RNG = np.random.default_rng(0)
SCRAMBLED = SPEECH * 20 + "".join(_RNG.choice(list(LETTERS), 20_000, p=np.arange(21, 0, -1) / 231))


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """The task made from speech and scrambled letters, and the folder of its tokenizer and tokens."""
    root = tmp_path_factory.mktemp("stream")
    documents = documents_table(root / "documents.parquet", [SCRAMBLED, "Zounds"])
    settings = {"vocabulary": 20, "triggers": 3}
    make_bigram_backcopy(
        documents, root / "tokenizer", root / "tokens", **settings, tokens=200_000, validation_tokens=20_000, seed=0
    )
    return estimate(documents, **settings), root


def test_a_trigger_copies_and_other_characters_follow_the_bigrams(stream):
    task, root = stream
    tokens = load_tokens(root / "tokens").train[:].astype(int)
    before, now, after = tokens[:-2], tokens[1:-1], tokens[2:]
    trigger = (now > 0) & (now <= 3) & (after != 0)
    assert np.array_equal(after[trigger], before[trigger]) and trigger.mean() > 0.1
    others = (now > 3) & (after != 0)
    # every step after another character was seen in the text
    assert np.all(task.bigrams[now[others], after[others]] > 0)
    seen = np.bincount(now[others] * 20 + after[others], minlength=400).reshape(20, 20)
    rows = seen.sum(axis=1) > 2000
    assert rows.sum() >= 10
    frequencies = seen[rows] / seen[rows].sum(axis=1, keepdims=True)
    assert np.abs(frequencies - task.bigrams[rows]).max() < 0.04


def test_characters_and_bigrams_are_counted_in_the_training_split_alone(stream):
    task, _ = stream
    counts = {character: SCRAMBLED.count(character) for character in set(SCRAMBLED)}
    assert len(task.characters) == 19 and "Z" not in task.characters
    assert [counts[c] for c in task.characters] == sorted(counts.values(), reverse=True)[:19]
    kept = "".join(c for c in SCRAMBLED if c in task.characters)
    n = task.characters.index("n") + 1
    following = [kept[i + 1] for i in range(len(kept) - 1) if kept[i] == "n"]
    assert task.bigrams[n, task.characters.index("e") + 1] == pytest.approx(following.count("e") / len(following))


def test_documents_start_without_a_trigger_and_end_with_the_end_of_text_token(stream):
    _, root = stream
    meta = json.loads((root / "tokens" / "meta.json").read_text())
    tokens = load_tokens(root / "tokens")
    assert (len(tokens.train), len(tokens.validation)) == (200_000, 20_000)
    ends = np.flatnonzero(tokens.train[:] == tokens.eos)
    assert ends.tolist() == [*range(DOCUMENT - 1, 200_000 - 1, DOCUMENT), 199_999]
    assert meta["train"] == {"documents": len(ends), "tokens": 200_000}
    assert tokens.train[ends[:-1] + 1].min() > 3
    assert list(meta["triggers"].values()) == [1, 2, 3]


def test_the_stated_entropies_are_those_of_the_stream(stream):
    task, root = stream
    stated = json.loads((root / "tokens" / "meta.json").read_text())["nats_per_token"]
    many = sample(task, documents=600, generator=np.random.default_rng(1))
    before, now = many[:, :-1], many[:, 1:]
    others = before > 3
    surprise = -np.log(task.bigrams[before[others], now[others]])
    assert surprise.mean() == pytest.approx(stated["after_others"], abs=0.01)
    first = -np.log(task.start[many[:, 0]]).sum()
    assert (surprise.sum() + first) / (600 * DOCUMENT) == pytest.approx(stated["overall"], abs=0.01)
    share = np.mean(many <= 3) * (DOCUMENT - 1) / DOCUMENT
    assert share == pytest.approx(stated["trigger_share"], abs=0.003)
    # the best bigram model: log-frequencies of what follows each token
    pairs = np.bincount((before * 20 + now).ravel(), minlength=400).reshape(20, 20)
    rows = pairs.sum(axis=1, keepdims=True)
    bigram = -(pairs * np.log(np.maximum(pairs, 1) / np.maximum(rows, 1))).sum()
    assert (bigram + first) / (600 * DOCUMENT) == pytest.approx(stated["without_copying"], abs=0.02)


def test_entropies_of_a_task_that_can_be_worked_out_by_hand():
    # trigger t, others a and b; after a: t or b, after b: a or b, each evenly: one bit after each
    bigrams = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0.5, 0, 0.5], [0, 0, 0.5, 0.5]])
    stated = entropies(Task(["t", "a", "b"], 1, np.array([0, 0, 0.5, 0.5]), bigrams))
    assert stated["after_others"] == pytest.approx(np.log(2))
    assert stated["overall"] == pytest.approx(np.log(2) * (1 - stated["trigger_share"]), abs=1e-3)
    assert stated["without_copying"] == pytest.approx(stated["overall"])  # before the trigger stands a, always


def test_the_tokenizer_of_the_task_has_an_id_for_each_character(stream):
    task, root = stream
    tokenizer = AutoTokenizer.from_pretrained(root / "tokenizer")
    ids = tokenizer(SCRAMBLED)["input_ids"]
    assert tokenizer.decode(ids) == "".join(c for c in SCRAMBLED if c in task.characters)
    assert tokenizer.convert_ids_to_tokens(ids[:4]) == [c for c in SCRAMBLED if c in task.characters][:4]
    assert (len(tokenizer), tokenizer.eos_token, tokenizer.eos_token_id) == (20, END_OF_TEXT, 0)


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(stream, tmp_path):
    _, root = stream
    for name, seed in (("same", 0), ("other", 1)):
        make_bigram_backcopy(
            root / "documents.parquet", tmp_path / f"{name}_tokenizer", tmp_path / name, vocabulary=20, triggers=3,
            tokens=200_000, validation_tokens=20_000, seed=seed,
        )  # fmt: skip
    manifests = [path / "manifest.json" for path in (root / "tokens", tmp_path / "same", tmp_path / "other")]
    assert manifests[0].read_bytes() == manifests[1].read_bytes() != manifests[2].read_bytes()


def test_a_text_with_too_few_characters_is_refused(tmp_path):
    documents = documents_table(tmp_path / "documents.parquet", ["abcabc", "abc"])
    with pytest.raises(SinkoriginError, match="has 3 different characters, but 2 triggers and at least 2 others"):
        estimate(documents, vocabulary=64, triggers=2)


# ---- prompts


def split_of(*lengths):
    """Documents of these lengths, ids rising from 1, each followed by id 0."""
    ids = iter(range(1, 10_000))
    return Split([np.array([i for n in lengths for i in [*(next(ids) for _ in range(n)), 0]], dtype=np.uint16)])


def test_held_out_windows_lie_in_the_validation_split_apart_and_inside_documents():
    tokens = Tokens(split_of(5), split_of(30, 11, 30), 10_000, 0, "")
    windows, documents = held_out_windows(tokens, 5, 8, 0, room=False, data="d")
    assert windows.shape == (5, 8) and np.all(np.diff(windows, axis=1) == 1)
    assert len(np.unique(windows)) == 40
    assert documents.tolist() == np.searchsorted([30, 41], windows[:, -1]).tolist()  # the last id of each document
    assert np.array_equal(windows, held_out_windows(tokens, 5, 8, 0, room=False, data="d")[0])
    assert not np.array_equal(windows, held_out_windows(tokens, 5, 8, 1, room=False, data="d")[0])


def test_held_out_windows_begin_as_the_training_did():
    tokens = Tokens(split_of(5), split_of(30, 30), 10_000, 0, "")
    windows, _ = held_out_windows(tokens, 4, 8, 0, room=True, data="d")
    assert windows.shape == (4, 8) and np.all(windows[:, 0] == 0) and np.all(np.diff(windows[:, 1:], axis=1) == 1)


def test_too_few_held_out_windows_are_said_with_the_remedy():
    tokens = Tokens(split_of(5), split_of(30, 3, 3), 10_000, 0, "")
    with pytest.raises(
        SinkoriginError,
        match=r"data d: the validation split has 3 windows of 8 tokens inside a document, but the prompt set has 4 sequences",
    ):
        held_out_windows(tokens, 4, 8, 0, room=False, data="d")


def test_prompts_are_those_of_the_data_and_foreign_tokens_are_refused(stream, tmp_path):
    task, root = stream
    shutil.copytree(root / "tokenizer", tmp_path / "tokenizer")
    arguments = {
        "data": "d", "tokenizer_directory": tmp_path / "tokenizer", "tokens_directory": root / "tokens", "sequences": 4,
        "length": 16, "seed": 0, "first_token": "drawn", "trained_with_first_token": True,
    }  # fmt: skip
    make_data_prompts(tmp_path / "text.parquet", kind="natural_text", **arguments)
    rows = pq.read_table(tmp_path / "text.parquet").to_pylist()
    assert [row["tokens"][0] for row in rows] == [END_OF_TEXT] * 4
    assert all(set(row["text"].removeprefix(END_OF_TEXT)) <= set(task.characters) for row in rows)
    assert all(len(row["text"].removeprefix(END_OF_TEXT)) == 15 for row in rows)
    make_data_prompts(tmp_path / "random.parquet", kind="random_tokens", **arguments)
    rows = pq.read_table(tmp_path / "random.parquet").to_pylist()
    assert len(rows) == 4 and all(len(row["text"]) == 16 and set(row["text"]) <= set(task.characters) for row in rows)
    save_character_tokenizer(list("xyz"), tmp_path / "tokenizer")
    with pytest.raises(SinkoriginError, match="data d: .* was made with another tokenizer than the one in"):
        make_data_prompts(tmp_path / "again.parquet", kind="natural_text", **arguments)


@pytest.mark.parametrize("trained_with", [False, True])
@pytest.mark.parametrize("kind", ["random_tokens", "natural_text"])
def test_prompts_of_data_begin_with_the_end_of_text_token_or_a_fixed_one_and_go_on_alike(
    stream, tmp_path, kind, trained_with
):
    _, root = stream
    found = {}
    for first_token in ("drawn", "bos", "fixed"):
        make_data_prompts(
            tmp_path / f"{first_token}.parquet", data="d", tokenizer_directory=root / "tokenizer",
            tokens_directory=root / "tokens", kind=kind, sequences=4, length=16, seed=0, first_token=first_token,
            trained_with_first_token=trained_with,
        )  # fmt: skip
        found[first_token] = pq.read_table(tmp_path / f"{first_token}.parquet")["tokens"].to_pylist()
    assert {row[0] for row in found["bos"]} == {END_OF_TEXT}
    [fixed] = {row[0] for row in found["fixed"]}
    assert fixed != END_OF_TEXT
    with_room = kind == "random_tokens" or trained_with  # the first token has a place of its own
    rest = [row[1:] if with_room else row[:-1] for row in found["drawn"]]
    assert [row[1:] for row in found["bos"]] == [row[1:] for row in found["fixed"]] == rest
    if kind == "natural_text" and trained_with:
        assert found["drawn"] == found["bos"]


# ---- a tokenizer that is taken


@pytest.fixture
def published(tmp_path):
    """A model directory: a tokenizer that has an end-of-text token, and weights."""
    folder = tmp_path / "published"
    train_tokenizer([SPEECH], 280, folder)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "manifest.json").unlink()
    return folder


def test_a_taken_tokenizer_makes_the_tokens_and_leaves_the_weights(published, tmp_path):
    take_tokenizer(f"path:{published}", tmp_path / "taken", what="tokenizer of data d")
    assert not list((tmp_path / "taken").glob("*.safetensors"))
    documents = documents_table(tmp_path / "documents.parquet", [SPEECH, SPEECH])
    tokenize_documents(documents, tmp_path / "taken", tmp_path / "tokens")
    tokens = load_tokens(tmp_path / "tokens")
    original = AutoTokenizer.from_pretrained(published)
    assert tokens.train[:-1].tolist() == original(SPEECH, add_special_tokens=False)["input_ids"]
    assert (tokens.eos, tokens.vocabulary) == (original.eos_token_id, len(original))


def test_a_tokenizer_of_the_hub_is_taken_at_its_commit_and_only_its_files(published, tmp_path, monkeypatch):
    requested = {}

    def snapshot_download(repository, *, revision, local_dir, allow_patterns):
        requested.update(repository=repository, revision=revision)
        assert not any(fnmatch(name, pattern) for name in ("model.safetensors", "x.py") for pattern in allow_patterns)
        files = [file for file in published.iterdir() if any(fnmatch(file.name, pattern) for pattern in allow_patterns)]
        local_dir.mkdir()
        for file in files:
            shutil.copy(file, local_dir)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    take_tokenizer("hub:owner/name@abc", tmp_path / "taken", what="tokenizer of data d")
    assert requested == {"repository": "owner/name", "revision": "abc"}
    assert json.loads((tmp_path / "taken" / "manifest.json").read_text())["files"].keys() == {
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_what_cannot_be_taken_is_said_in_a_sentence(published, tmp_path):
    def refused(source, sentence):
        with pytest.raises(SinkoriginError, match=sentence):
            take_tokenizer(source, tmp_path / "taken", what="tokenizer of data d")
        assert not (tmp_path / "taken").exists()

    refused(f"path:{tmp_path / 'nowhere'}", "tokenizer of data d: there is no directory .*nowhere; correct tokenizer")
    (tmp_path / "empty").mkdir()
    refused(f"path:{tmp_path / 'empty'}", "has no tokenizer that can be read .*; name a directory or repository with")
    refused("hub:owner/name@abc", "tokenizer of data d: .*check the network, .*use a path: source")
    settings = json.loads((published / "tokenizer_config.json").read_text())
    (published / "tokenizer_config.json").write_text(json.dumps({**settings, "eos_token": None}))
    refused(f"path:{published}", "names no end-of-text token")


def test_a_vocabulary_of_more_than_two_bytes_is_stored_in_four(tmp_path):
    tokenizer = {f"t{i}": i for i in range(70_000)} | {END_OF_TEXT: 70_001}  # ids with a gap
    model = Tokenizer(models.WordLevel(tokenizer, unk_token="t0"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=model, eos_token=END_OF_TEXT).save_pretrained(tmp_path / "wide")
    take_tokenizer(f"path:{tmp_path / 'wide'}", tmp_path / "taken", what="tokenizer of data d")
    documents = documents_table(tmp_path / "documents.parquet", ["t69999 t1", "t2"])
    tokenize_documents(documents, tmp_path / "taken", tmp_path / "tokens")
    tokens = load_tokens(tmp_path / "tokens")
    assert tokens.train[:].tolist() == [69_999, 1, 70_001] and tokens.vocabulary == 70_002


# ---- training


def test_a_run_with_a_first_token_is_trained_and_judged_with_it(stream, tmp_path):
    _, root = stream
    settings = TrainingSettings(
        name="tiny", variant="softmax", layers=1, width=16, heads=2, kv_heads=2, ffn_width=24, length=16, batch=4, steps=2,
        warmup=1, learning_rate=1e-2, weight_decay=0.1, clip=1.0, evaluate_every=2, checkpoint_every=2,
        validation_tokens=160, first_token=True,
    )  # fmt: skip
    train(
        settings, seed=0, tokens_directory=root / "tokens", tokenizer_directory=root / "tokenizer",
        run_directory=tmp_path / "run", state_directory=tmp_path / "state",
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    tokens = load_tokens(root / "tokens")
    losses = {}
    for first in (tokens.eos, None):
        inputs, targets = validation_windows(tokens.validation, count=10, length=16, first=first)
        logits = model(torch.from_numpy(inputs)).logits.flatten(0, 1)
        losses[first] = torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets).flatten()).item()
    stated = pq.read_table(tmp_path / "run" / "history.parquet", partitioning=None).column("validation_loss")[0].as_py()
    assert stated == pytest.approx(losses[0], rel=1e-5)
    assert abs(stated - losses[None]) > 1e-3
