"""Models of the hub: taken through its cache, at a commit, whole, with its hashes, and from the cache where it cannot be reached."""

import json
import shutil

import huggingface_hub
import pytest
import torch
from transformers import AutoModelForCausalLM

from hub_stand_in import COMMIT, hub_at
from sinkorigin.errors import SinkoriginError
from sinkorigin.models.fetching import fetch_model
from sinkorigin.models.loading import load_model
from sinkorigin.tables import file_hash
from tiny_gguf import write_gguf


@pytest.fixture
def hub(tiny, tmp_path, monkeypatch):
    with hub_at(shutil.copytree(tiny, tmp_path / "remote"), tmp_path / "cache", monkeypatch) as hub:
        yield hub


@pytest.fixture
def offline(monkeypatch):
    """A function that takes the network away."""
    return lambda: monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def fetch(tmp_path, source="hub:owner/name@main", **settings):
    fetch_model(tmp_path / "results" / "out", name="far", source=source, **settings)
    return json.loads((tmp_path / "results" / "out" / "provenance.json").read_text())


def refused(tmp_path, sentence, source="hub:owner/name@main", **settings):
    with pytest.raises(SinkoriginError, match=sentence) as caught:
        fetch(tmp_path, source, **settings)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "results").iterdir())


def test_a_branch_is_resolved_to_its_commit_and_the_weights_hash_is_recorded(hub, tmp_path):
    (hub.folder / "README.md").write_text("about")
    provenance = fetch(tmp_path, "hub:owner/name")
    weights = file_hash(hub.folder / "model.safetensors")
    assert provenance["revision"] == COMMIT
    assert provenance["weights_sha256"] == {"model.safetensors": weights}
    assert provenance["sha256"] == weights == file_hash(tmp_path / "results" / "out" / "model.safetensors")
    assert "README.md" not in {name for _, name, _ in hub.asked}
    assert not (tmp_path / "results" / "out" / "model.safetensors").is_symlink()


def test_what_is_in_the_cache_is_not_downloaded_again(hub, tmp_path):
    fetch(tmp_path)
    hub.asked.clear()
    shutil.rmtree(tmp_path / "results" / "out")
    fetch(tmp_path, f"hub:owner/name@{COMMIT}")
    assert hub.asked == []


def test_a_download_that_is_cut_off_goes_on_where_it_ended(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    hub.cut = 50_000  # more than the tokenizer has
    fetch(tmp_path)
    size = (hub.folder / "model.safetensors").stat().st_size
    assert [first for _, name, first in hub.asked if name == "model.safetensors"] == list(range(0, size, hub.cut))


def test_files_that_are_whole_are_not_downloaded_again_after_a_failure(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    hub.cut = 50_000
    refused(tmp_path, "far: owner/name cannot be downloaded from the hub .*; check the network")
    hub.cut = None
    hub.asked.clear()
    fetch(tmp_path)
    assert {name for _, name, _ in hub.asked} == {"model.safetensors"}


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_file_that_has_not_the_hash_of_the_hub_is_refused(hub, tmp_path, name):
    hub.lies[name] = (64 if name == "model.safetensors" else 40) * "a"
    refused(
        tmp_path, f"model far: its {name} has the hash [0-9a-f]+, but the hub gives aaaa.*; delete .*blobs/a+ and run"
    )


def test_without_network_a_whole_cache_serves_and_is_checked_by_its_hashes(hub, tmp_path, offline, capsys):
    before = fetch(tmp_path)
    shutil.rmtree(tmp_path / "results" / "out")
    offline()
    assert fetch(tmp_path) == before
    assert "the hub cannot be reached (OfflineModeIsEnabled), owner/name is taken from" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "results" / "out")
    blob = next((tmp_path / "cache").rglob("model.safetensors")).resolve()
    blob.write_bytes(blob.read_bytes()[:-4] + b"wxyz")
    refused(tmp_path, f"its model.safetensors has the hash .*, but the hub gives {blob.name}; delete {blob}")


def test_without_network_a_cache_that_is_not_whole_is_said_with_the_way_round(hub, tmp_path, offline):
    fetch(tmp_path)
    shutil.rmtree(tmp_path / "results" / "out")
    next((tmp_path / "cache").rglob("model.safetensors")).unlink()
    offline()
    refused(
        tmp_path,
        r"far: owner/name at revision \S+ is not whole in the cache .*HF_HUB_OFFLINE is set; check the network, bring",
    )


def test_a_snapshot_of_the_cache_is_a_path_source(hub, tmp_path):
    fetch(tmp_path)
    shutil.rmtree(tmp_path / "results" / "out")
    [snapshot] = (tmp_path / "cache").glob("models--owner--name/snapshots/*")
    assert (snapshot / "model.safetensors").is_symlink()
    provenance = fetch(tmp_path, f"path:{snapshot}")
    assert provenance["sha256"] == file_hash(hub.folder / "model.safetensors")
    assert not (tmp_path / "results" / "out" / "model.safetensors").is_symlink()
    shutil.rmtree(tmp_path / "results" / "out")
    (snapshot / "model.safetensors").resolve().unlink()
    refused(
        tmp_path,
        "model.safetensors in .* is a link to .*, which is not there; download the model again",
        f"path:{snapshot}",
    )


def test_what_it_is_is_checked_before_its_weights_are_downloaded(hub, tmp_path):
    config = json.loads((hub.folder / "config.json").read_text())
    for changes, sentence in (
        ({"is_encoder_decoder": True}, "it is an encoder-decoder"),
        ({"architectures": ["LlamaForMaskedLM"]}, "it is an encoder .*, in which tokens see those after them"),
        ({"model_type": "nothing"}, "its config.json is of no architecture that transformers knows"),
        ({"model_type": "vit", "architectures": None}, "vit is no causal language model"),
        ({"quantization_config": {"quant_method": "awq"}}, "its weights are quantised"),
    ):
        (hub.folder / "config.json").write_text(json.dumps(config | changes))
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        refused(tmp_path, f"model far: {sentence}")
    assert "model.safetensors" not in {name for _, name, _ in hub.asked}


def test_a_model_in_several_files_is_taken_with_all_of_them(hub, tmp_path):
    loaded = AutoModelForCausalLM.from_pretrained(hub.folder)
    (hub.folder / "model.safetensors").unlink()
    loaded.save_pretrained(hub.folder, max_shard_size="60KB")
    shards = sorted(path.name for path in hub.folder.glob("*.safetensors"))
    provenance = fetch(tmp_path)
    assert len(shards) > 1 and list(provenance["weights_sha256"]) == shards and provenance["sha256"] is None
    after = load_model(tmp_path / "results" / "out").state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in loaded.state_dict().items())


def test_the_only_gguf_file_of_a_repository_is_taken_or_the_one_that_is_named(hub, tmp_path):
    write_gguf(hub.folder / "small.gguf", hub.folder, file_type=15)
    (hub.folder / "model.safetensors").unlink()
    assert fetch(tmp_path)["quantisation"] == "Q4_K_M"
    (hub.folder / "large.gguf").write_bytes(b"")
    shutil.rmtree(tmp_path / "results" / "out")
    shutil.rmtree(tmp_path / "cache")
    refused(tmp_path, r"owner/name has 2 GGUF files \(large.gguf, small.gguf\); name one by member")
    refused(
        tmp_path, r"owner/name has no GGUF file big.gguf \(large.gguf, small.gguf\); correct member", member="big.gguf"
    )
    provenance = fetch(tmp_path, member="small.gguf")
    assert provenance["sha256"] == file_hash(hub.folder / "small.gguf")
    assert "large.gguf" not in {name for _, name, _ in hub.asked}


def test_pickled_weights_are_refused_by_name(hub, tmp_path):
    (hub.folder / "model.safetensors").rename(hub.folder / "pytorch_model.bin")
    refused(
        tmp_path, r"owner/name has no safetensors weights at main \(only pytorch_model.bin, which is pickle\); choose"
    )
    assert "pytorch_model.bin" not in {name for _, name, _ in hub.asked}


def test_a_repository_that_is_not_there_is_said_in_a_sentence(hub, tmp_path):
    refused(
        tmp_path, "model far: the hub has no owner/other at revision main, or it is private", "hub:owner/other@main"
    )
