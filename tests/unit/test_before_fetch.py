"""What is wrong with a model on this machine is known before any job, without PyTorch, a sentence each."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from sinkorigin.models.before_fetch import local_problems
from tiny_study import ROOT


def change_config(folder, **values):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def cut(folder, name, share=0.9):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])


def change_vocabulary(folder, index, special=False):
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["model"]["vocab"]["far"] = index
    if special:
        tokenizer["added_tokens"].append({"id": index, "content": "far", "special": True})
    file.write_text(json.dumps(tokenizer))


def problems(folder, lengths=None, layers=None, **arguments):
    return local_problems(str(folder), lengths or {}, layers or {}, model="mine", **arguments)


def test_nothing_is_wrong_with_a_whole_model(model):
    assert problems(model, {"p": 5000}, {"interventions.mask.layers": [0, 2]}) == []
    change_vocabulary(model, 400, special=True)
    assert problems(model) == []
    change_config(model, vocab_size=300)
    assert problems(model, reads_text=False) == [] and len(problems(model)) == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: (m / "model.safetensors").rename(m / "pytorch_model.bin"), "has no safetensors weights (only pytorch_model.bin, which is pickle)"),
        (lambda m: (m / "model.safetensors").unlink(), "has no safetensors weights (none)"),
        (lambda m: (m / "config.json").unlink(), "has no config.json; name a Hugging Face model directory"),
        (lambda m: shutil.rmtree(m), "; correct its source in the config"),
        (lambda m: cut(m, "model.safetensors"), "its model.safetensors is truncated or damaged"),
        (lambda m: cut(m, "config.json"), "its config.json is missing or damaged"),
        (lambda m: cut(m, "tokenizer.json"), "its tokenizer.json is missing or damaged"),
        (lambda m: (m / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\n"), "its tokenizer.json is a Git LFS pointer"),
        (lambda m: change_vocabulary(m, 320), "1 tokens beyond the 320 rows of its embedding, up to 'far' with the id 320; take the tokenizer"),
        (lambda m: change_config(m, vocab_size=300), "its tokenizer has 20 tokens beyond the 300 rows of its embedding"),
        (lambda m: change_config(m, model_type="t5", is_encoder_decoder=True, architectures=["T5ForConditionalGeneration"]), "it is an encoder-decoder"),
        (lambda m: change_config(m, model_type="bert", architectures=["BertForMaskedLM"]), "it is an encoder"),
        (lambda m: change_config(m, quantization_config={"quant_method": "gptq"}), "its weights are quantised"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_the_model_s_name(model, change, sentence):
    change(model)
    [told] = problems(model, {"p": 8}, {"interventions.mask.layers": [7]})
    assert told.startswith("model mine: ") and sentence in told


def test_everything_that_the_study_asks_beyond_the_model_is_told_at_once(model):
    change_config(model, model_type="gpt2", n_positions=16)
    told = problems(
        model, {"short": 16, "long": 17}, {"interventions.mask.layers": [0, 3], "interventions.other.layers": [2]}
    )
    assert len(told) == 2
    assert "model mine: prompts long have length 17" in told[0] and "this one 16 of them" in told[0]
    assert told[1].startswith(
        "interventions.mask.layers has layer 3, but model mine has 3 layers, 0 to 2; choose layers"
    )


def write_gguf(path, architecture="llama", vocabulary=300):
    """A GGUF file with a header and one tensor."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(3)
    writer.add_context_length(16)
    writer.add_embedding_length(32)
    writer.add_head_count(4)
    writer.add_token_list([f"token{index}" for index in range(vocabulary)])
    writer.add_tensor("token_embd.weight", np.zeros((vocabulary, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("architecture", "share", "sentences"),
    [
        ("llama", 1, ["interventions.mask.layers has layer 3, but model mine has 3 layers"]),
        ("gpt2", 1, ["prompts p have length 17, but a gpt2 has learned positions and this one 16", "has layer 3, but"]),
        ("llama", 0.99, ["its tiny.gguf is no GGUF file, or truncated or damaged"]),
        ("llama", 0.05, ["its tiny.gguf is no GGUF file, or truncated or damaged"]),
        ("t5", 1, ["tiny.gguf is an encoder-decoder (t5)"]),
        ("rwkv7", 1, ["tiny.gguf is of architecture rwkv7, which transformers does not read from GGUF"]),
    ],
)  # fmt: skip
def test_the_header_of_a_gguf_file_tells_what_is_wrong_with_it(tmp_path, architecture, share, sentences):
    file = write_gguf(tmp_path / "tiny.gguf", architecture)
    cut(tmp_path, file.name, share)
    told = problems(file, {"p": 17}, {"interventions.mask.layers": [3]})
    assert len(told) == len(sentences) and all(
        sentence in one for sentence, one in zip(sentences, told, strict=True)
    ), told


def test_the_files_of_a_fetched_model_are_not_read_again_until_they_change(model, tmp_path):
    fetched = shutil.copytree(model, tmp_path / "fetched")
    (fetched / "provenance.json").write_text(json.dumps({"source": f"path:{model}"}))
    (fetched / "manifest.json").write_text("{}")
    damaged = model / "model.safetensors"
    before = damaged.stat().st_mtime - 10
    cut(model, damaged.name)
    for file in model.iterdir():
        os.utime(file, (before, before))
    layers = {"interventions.mask.layers": [3]}
    assert [told.partition(" has ")[0] for told in problems(model, {}, layers, fetched=fetched)] == [*layers]
    os.utime(damaged, None)
    os.utime(fetched / "manifest.json", (before + 1, before + 1))
    assert "truncated" in problems(model, {}, layers, fetched=fetched)[0]


def test_pytorch_is_not_imported_to_look(model):
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "src")!r})
from sinkorigin.models.before_fetch import local_problems
assert local_problems({str(model)!r}, {{"p": 8}}, {{"k": [1]}}, model="mine") == []
assert not {{"torch", "transformers"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
