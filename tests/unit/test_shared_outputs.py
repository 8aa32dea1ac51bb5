"""A job's outputs in the cache: whole or not at all, the first one stays, and a cache that takes nothing costs nothing."""

import asyncio
from types import SimpleNamespace

import pyarrow as pa
import pytest
from snakemake.exceptions import CacheMissException

from harness import shared_outputs
from harness.shared_outputs import SharedOutputs
from sinkorigin import tables


class File(str):
    is_directory = False


class Directory(str):
    is_directory = True


class Outputs(list):
    def __init__(self, **named):
        super().__init__(named.values())
        self._allitems = named.items


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SNAKEMAKE_OUTPUT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    shared = SharedOutputs()

    async def key(job):
        return "key"

    monkeypatch.setattr(shared.provenance_hash_map, "get_provenance_hash", key)
    return shared


SCHEMA = tables.schema(content=(pa.string(), "a text"))


def checkout(folder, content=None, tokens=None):
    """A job of a checkout, and its outputs if it ran there: a directory with a manifest that is an output too, and a table.

    Args:
        content: of what the job makes; tokens: of what it reads.
    """
    results = folder / "results/study"
    model, read = results / "model", results / "tokens.json"
    results.mkdir(parents=True, exist_ok=True)
    if tokens:
        tables.write_json(read, {"tokens": tokens})
    if content:
        tables.record_inputs(tables.hashes_by_place([read] if tokens else []))
        with tables.atomic_directory(model) as partial:
            (partial / "layer=0").mkdir()
            (partial / "layer=0" / "weights").write_text(content)
        tables.write_table(results / "history.parquet", {"content": [content]}, SCHEMA)
        tables.record_inputs({})
    else:
        model.mkdir()
    return SimpleNamespace(
        output=Outputs(
            model=File(model / "manifest.json"), files=Directory(model), history=File(results / "history.parquet")
        )
    )


def contents(folder):
    """File → its content; of those that the job makes, what it put in."""
    found = {}
    for file in folder.rglob("*"):
        if file.is_file() and file.name != "tokens.json":
            name = file.relative_to(folder).as_posix().removeprefix("results/study/")
            found[name] = {
                ".parquet": lambda file=file: tables.read_table(file)["content"][0].as_py(),
                ".json": lambda: "manifest",
            }.get(file.suffix, file.read_text)()
    return found


def made_by(content):
    return {"history.parquet": content, "model/layer=0/weights": content, "model/manifest.json": "manifest"}


def test_what_one_stores_another_fetches(cache, tmp_path):
    asyncio.run(cache.store(checkout(tmp_path / "a", "a")))
    asyncio.run(cache.fetch(checkout(tmp_path / "b")))
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == made_by("a")
    assert (tmp_path / "b/results/study/model/layer=0/weights").is_symlink() and not (
        tmp_path / "b/results/study/model/layer=0"
    ).is_symlink()
    assert sorted(contents(cache.path)) == [
        "key/files/layer=0/weights", "key/files/manifest.json", "key/history.parquet"
    ]  # fmt: skip


def test_a_cache_on_another_file_system_gets_copies(cache, tmp_path, monkeypatch):
    def elsewhere(*paths):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(shared_outputs.os, "link", elsewhere)
    asyncio.run(cache.store(checkout(tmp_path / "a", "a")))
    asyncio.run(cache.fetch(checkout(tmp_path / "b")))
    assert contents(tmp_path / "b") == made_by("a")


def test_of_two_that_store_the_same_the_first_one_stays_and_both_have_it(cache, tmp_path):
    asyncio.run(cache.store(checkout(tmp_path / "a", "a")))
    asyncio.run(cache.store(checkout(tmp_path / "b", "b")))
    assert contents(tmp_path / "b") == contents(tmp_path / "a") == made_by("a")
    assert [path.name for path in cache.path.iterdir()] == ["key"]


def test_nothing_is_fetched_that_is_not_there_whole(cache, tmp_path):
    job = checkout(tmp_path / "b")
    with pytest.raises(CacheMissException):
        asyncio.run(cache.fetch(job))
    asyncio.run(cache.store(checkout(tmp_path / "a", "a")))
    (cache.path / "key/history.parquet").unlink()
    with pytest.raises(CacheMissException):
        asyncio.run(cache.fetch(job))
    assert contents(tmp_path / "b") == {}


def test_a_cache_that_takes_nothing_leaves_the_results_where_they_are(cache, tmp_path, monkeypatch):
    def full(*paths):
        raise OSError(28, "No space left on device")

    said = []
    monkeypatch.setattr(shared_outputs.logger, "warning", said.append)
    monkeypatch.setattr(shared_outputs.os, "link", full)
    monkeypatch.setattr(shared_outputs.shutil, "copyfile", full)
    asyncio.run(cache.store(checkout(tmp_path / "a", "a")))
    assert contents(tmp_path / "a") == made_by("a") and contents(cache.path) == {}
    assert "No space left on device; its results stay in this directory" in said[0]
    assert (tmp_path / "a/results/study/history.parquet").stat().st_mode & 0o200, "still writable"


def test_what_is_damaged_in_the_cache_is_not_taken_and_makes_room(cache, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(shared_outputs.logger, "warning", said.append)
    asyncio.run(cache.store(checkout(tmp_path / "a", "a")))
    weights = cache.path / "key/files/layer=0/weights"
    weights.chmod(0o644)
    weights.write_text("b")
    with pytest.raises(CacheMissException):
        asyncio.run(cache.fetch(checkout(tmp_path / "b")))
    assert (
        "weights is damaged or was changed: its sha256 is not that of its manifest; the cache's results are not"
        in said[0]
    )
    assert contents(tmp_path / "b") == {} and list(cache.path.iterdir()) == []
    asyncio.run(cache.store(checkout(tmp_path / "c", "a")))
    asyncio.run(cache.fetch(checkout(tmp_path / "d")))
    assert contents(tmp_path / "d") == made_by("a")


def test_what_was_made_from_other_inputs_than_are_here_is_not_taken(cache, tmp_path):
    asyncio.run(cache.store(checkout(tmp_path / "a", "a", tokens="old")))
    job = checkout(tmp_path / "b", tokens="new")
    with pytest.raises(CacheMissException):
        asyncio.run(cache.fetch(job))
    job = checkout(tmp_path / "c", "c", tokens="new")
    asyncio.run(cache.store(job))
    assert contents(tmp_path / "c") == made_by("c"), "the run keeps what it made itself"
    asyncio.run(cache.fetch(checkout(tmp_path / "d", tokens="new")))
    assert contents(tmp_path / "d") == made_by("c")


def test_what_cannot_be_removed_from_the_cache_is_left_and_not_taken(cache, tmp_path, monkeypatch):
    asyncio.run(cache.store(checkout(tmp_path / "a", "a", tokens="old")))

    def not_owner(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(shared_outputs.os, "rename", not_owner)
    job = checkout(tmp_path / "b", "b", tokens="new")
    with pytest.raises(CacheMissException):
        asyncio.run(cache.fetch(job))
    asyncio.run(cache.store(job))
    assert contents(tmp_path / "b") == made_by("b") and not any(
        path.is_symlink() for path in (tmp_path / "b").rglob("*")
    )


def test_a_cache_that_cannot_be_written_costs_no_more_than_what_is_damaged_in_it(cache, tmp_path, monkeypatch):
    asyncio.run(cache.store(checkout(tmp_path / "a", "a", tokens="old")))

    def read_only(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(shared_outputs, "TemporaryDirectory", read_only)
    with pytest.raises(CacheMissException):
        asyncio.run(cache.fetch(checkout(tmp_path / "b", tokens="new")))
