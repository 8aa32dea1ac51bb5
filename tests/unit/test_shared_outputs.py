"""A job's outputs in the cache: whole or not at all, the first one stays, and a cache that takes nothing costs nothing."""

import asyncio
from types import SimpleNamespace

import pytest
from snakemake.exceptions import CacheMissException

import shared_outputs
from shared_outputs import SharedOutputs


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


def checkout(folder, content=None):
    """A job of a checkout, and its outputs if it ran there: a directory with a manifest that is an output too, and a table."""
    model = folder / "model"
    model.mkdir(parents=True)
    if content:
        (model / "layer=0").mkdir()
        (model / "layer=0" / "weights").write_text(content)
        (model / "manifest.json").write_text(content)
        (folder / "history.parquet").write_text(content)
    return SimpleNamespace(
        output=Outputs(
            model=File(model / "manifest.json"), files=Directory(model), history=File(folder / "history.parquet")
        )
    )


def contents(folder):
    return {file.relative_to(folder).as_posix(): file.read_text() for file in folder.rglob("*") if file.is_file()}


WHOLE = ["history.parquet", "model/layer=0/weights", "model/manifest.json"]


def test_what_one_stores_another_fetches(cache, tmp_path):
    asyncio.run(cache.store(checkout(tmp_path / "a", "a")))
    asyncio.run(cache.fetch(checkout(tmp_path / "b")))
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == dict.fromkeys(WHOLE, "a")
    assert (tmp_path / "b/model/layer=0/weights").is_symlink() and not (tmp_path / "b/model/layer=0").is_symlink()
    assert sorted(contents(cache.path)) == [
        "key/files/layer=0/weights", "key/files/manifest.json", "key/history.parquet"
    ]  # fmt: skip


def test_a_cache_on_another_file_system_gets_copies(cache, tmp_path, monkeypatch):
    def elsewhere(*paths):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(shared_outputs.os, "link", elsewhere)
    asyncio.run(cache.store(checkout(tmp_path / "a", "a")))
    asyncio.run(cache.fetch(checkout(tmp_path / "b")))
    assert contents(tmp_path / "b") == dict.fromkeys(WHOLE, "a")


def test_of_two_that_store_the_same_the_first_one_stays_and_both_have_it(cache, tmp_path):
    asyncio.run(cache.store(checkout(tmp_path / "a", "a")))
    asyncio.run(cache.store(checkout(tmp_path / "b", "b")))
    assert contents(tmp_path / "b") == contents(tmp_path / "a") == dict.fromkeys(WHOLE, "a")
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
    assert contents(tmp_path / "a") == dict.fromkeys(WHOLE, "a") and contents(cache.path) == {}
    assert "No space left on device; its results stay in this directory" in said[0]
    assert (tmp_path / "a/history.parquet").stat().st_mode & 0o200, "still writable"
