"""A model is studied with the weights of its checkpoint, all of them and no others, or refused by name."""

import json
import re
import shutil

import pytest

from architectures import build
from harness.config.reading import read_config
from harness.resources import ASSUMED_SHAPE, Estimates
from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.models.fetching import fetch_model
from sinkorigin.models.loading import load_model
from tiny_study import TINY


def change_weights(folder, change):
    from safetensors.torch import load_file, save_file

    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"})


def change_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def without(pattern):
    return lambda weights: {name: tensor for name, tensor in weights.items() if not re.search(pattern, name)}


def prefixed(prefix):
    return lambda weights: {prefix + name: tensor for name, tensor in weights.items()}


def save_shards(folder):
    """Save the weights in several files with an index; the index."""
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    loaded.save_pretrained(folder, max_shard_size="60KB")
    return folder / "model.safetensors.index.json"


def refused(folder, tmp_path, sentence):
    """Both the fetch and the loading of a directory say the sentence, and the fetch leaves nothing."""
    with pytest.raises(SinkoriginError, match=sentence):
        fetch_model(tmp_path / "results" / "out", name="tiny", source=f"path:{folder}")
    assert not list((tmp_path / "results").iterdir())
    tables.write_manifest(folder)
    with pytest.raises(SinkoriginError, match=sentence):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            prefixed("_orig_mod."),
            r"30 missing \(lm_head.weight, .* 27 more\), 30 unknown to it .*; rename .* torch.compile",
        ),
        (
            prefixed("base_model.model."),
            r"30 unknown to it .*; rename .* PEFT; merge the adapter first \(merge_and_unload\)",
        ),
        (prefixed("module."), "rename the weights: they have the prefix module. of data-parallel training"),
        (without("lm_head"), r"LlamaForCausalLM: 1 missing \(lm_head.weight\); take config.json and weights that"),
        (without(r"layers\.1\."), r"9 missing \(model.layers.1.input_layernorm.weight, .* and 6 more\)"),
        (lambda w: w | {"model.gate.weight": w["model.norm.weight"].clone()}, r"1 unknown to it \(model.gate.weight\)"),
        (
            lambda w: w | {"model.norm.weight": w["model.norm.weight"][:16].clone()},
            r"1 of another shape \(model.norm.weight \(\[16\], not \[32\]\)\)",
        ),
    ],
    ids=["torch.compile", "PEFT", "data-parallel", "no head", "no layer", "one more", "another shape"],
)
def test_weights_that_are_not_those_of_the_class_are_refused_by_name(model, tmp_path, change, sentence):
    change_weights(model, change)
    refused(model, tmp_path, sentence)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"num_hidden_layers": 4}, r"9 missing \(model.layers.3"),
        ({"num_hidden_layers": 2}, r"9 unknown to it \(model.layers.2"),
        ({"vocab_size": 400}, r"2 of another shape \(lm_head.weight \(\[320, 32\], not \[400, 32\]\)"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised .*says gptq.*choose the unquantised model, or a GGUF"),
        ({"text_config": {"quantization_config": {}}}, "its weights are quantised"),
    ],
    ids=["more layers", "fewer layers", "more tokens", "gptq", "nested"],
)  # fmt: skip
def test_a_config_that_is_not_that_of_the_weights_is_refused(model, tmp_path, values, sentence):
    change_json(model / "config.json", **values)
    refused(model, tmp_path, sentence)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "int8"])
def test_weights_in_quantised_types_are_refused_whatever_the_config_says(model, tmp_path, dtype):
    import torch

    change_weights(model, lambda weights: {name: tensor.to(getattr(torch, dtype)) for name, tensor in weights.items()})
    refused(model, tmp_path, r"weight in its model.safetensors is quantised \((F8_E4M3|I8)\); choose the unquantised")


def test_a_head_that_is_the_embedding_is_not_missing(model, tmp_path):
    import torch

    change_weights(model, without("lm_head"))
    change_json(model / "config.json", tie_word_embeddings=True)
    fetch_model(tmp_path / "out", name="tiny", source=f"path:{model}")
    loaded = load_model(tmp_path / "out")
    assert torch.equal(loaded.lm_head.weight, loaded.model.embed_tokens.weight)


@pytest.mark.parametrize("name", ["gpt2", "mixtral", "gpt_oss"])
def test_names_that_transformers_itself_changes_are_no_fault(tiny, tmp_path, name):
    """GPT-2 saved without its head's prefix and with masks, experts saved one by one, and learned sink logits."""
    import torch

    folder = tmp_path / "model"
    source = build(name)
    source.save_pretrained(folder)
    if name == "gpt2":
        masks = {f"h.{layer}.attn.bias": torch.ones(1, 1, 64, 64, dtype=torch.bool) for layer in range(3)}
        masks["h.0.attn.masked_bias"] = torch.tensor(-1e9, dtype=torch.float16)  # infinite
        change_weights(folder, lambda weights: masks | {k.removeprefix("transformer."): v for k, v in weights.items()})
    for file in tiny.glob("tokenizer*"):
        shutil.copy(file, folder)
    fetch_model(tmp_path / "out", name=name, source=f"path:{folder}")
    ids = torch.arange(3, 9).unsqueeze(0)
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path / "out")(ids).logits, source(ids).logits)


@pytest.mark.parametrize(
    ("weight", "shard", "sentence"),
    [
        ("lm_head.weight", "../other.safetensors", "points out of its folder, to '../other.safetensors' for lm_head.weight"),
        ("lm_head.weight", "/tmp/other.safetensors", "points out of its folder, to '/tmp/other.safetensors'"),
        ("lm_head.weight", "gone.safetensors", "names gone.safetensors, which is not there; take a complete copy"),
        ("lost.weight", "model-00001-of-00004.safetensors", "lists lost.weight in model-00001.*, which does not hold it"),
    ],
)  # fmt: skip
def test_an_index_that_does_not_describe_its_files_is_refused(model, tmp_path, weight, shard, sentence):
    index = save_shards(model)
    places = json.loads(index.read_text())["weight_map"]
    change_json(index, weight_map=places | {weight: shard})
    refused(model, tmp_path, sentence)


def test_a_model_in_several_files_is_loaded_from_all_of_them(model, tmp_path):
    import torch

    before = load_model_of(model)
    save_shards(model)
    fetch_model(tmp_path / "out", name="tiny", source=f"path:{model}")
    after = load_model(tmp_path / "out").state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_a_plain_directory_is_loaded_and_a_manifest_of_another_program_is_not_asked(model):
    import torch

    before = load_model_of(model)
    for content in (None, '{"version": 2}'):
        if content is not None:
            (model / "manifest.json").write_text(content)
        after = load_model(model).state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_no_message_tells_users_to_delete_a_directory_of_their_own(model, tmp_path):
    for place, sentence in (
        ("owner/model", "owner/model is not there; load_model takes a directory with config.json and safetensors"),
        (model / "config.json", "config.json is a file; load_model takes a directory"),
    ):
        with pytest.raises(SinkoriginError, match=sentence):
            load_model(place)
    fetch_model(tmp_path / "out", name="tiny", source=f"path:{model}")
    (tmp_path / "out").rename(tmp_path / "copy")
    change_json(tmp_path / "copy" / "config.json", hidden_act="relu")
    with pytest.raises(SinkoriginError, match="take an intact copy, or remove manifest.json from") as found:
        load_model(tmp_path / "copy")
    assert "delete" not in str(found.value)
    (tmp_path / "copy" / "manifest.json").unlink()
    assert load_model(tmp_path / "copy").config.hidden_act == "relu"


def test_a_damaged_directory_of_a_study_is_to_be_made_again(model, tmp_path):
    made = tmp_path / "results" / "models" / "tiny"
    fetch_model(made, name="tiny", source=f"path:{model}")
    change_json(made / "config.json", hidden_act="relu")
    with pytest.raises(SinkoriginError, match="delete .*tiny and run the same command again"):
        load_model(made)


def test_a_mac_s_gpu_that_is_not_there_is_said_in_a_sentence(model, monkeypatch):
    tables.write_manifest(model)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(
        SinkoriginError, match="device is mps but PyTorch finds no GPU of Apple here .*; set device: cpu"
    ):
        load_model(model, device="mps")


def test_a_device_without_float64_hands_its_numbers_to_the_cpu():
    import torch

    from sinkorigin.sites.precision import in_float64

    class OnApple:
        device = torch.device("mps")

        def cpu(self):
            return torch.ones(2)

    assert in_float64(OnApple()).dtype == in_float64(torch.ones(2)).dtype == torch.float64


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"is_encoder_decoder": True}, r"it is an encoder-decoder \(llama, saved as LlamaForCausalLM\); choose a decoder"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, r"it is an encoder \(bert, saved as BertForMaskedLM\), in"),
        ({"model_type": "bert", "architectures": None}, r"it is an encoder \(bert\), in which tokens see those after them"),
    ],
)  # fmt: skip
def test_what_is_no_decoder_is_refused(model, tmp_path, values, sentence):
    change_json(model / "config.json", **values)
    with pytest.raises(SinkoriginError, match=sentence):
        fetch_model(tmp_path / "results" / "out", name="tiny", source=f"path:{model}")
    assert not list((tmp_path / "results").iterdir())


def load_model_of(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def _keep(share):
    return lambda content: content[: int(share * len(content))]


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("model.safetensors", lambda _: b"version https://git-lfs.github.com/spec/v1\n", "its model.safetensors is a Git LFS pointer"),
        ("tokenizer.json", lambda _: b"version https://git-lfs.github.com/spec/v1\n", "its tokenizer.json is a Git LFS pointer"),
        ("model.safetensors", _keep(0.9), "its model.safetensors is truncated or damaged"),
        ("model.safetensors", _keep(0), "its model.safetensors is empty"),
        ("config.json", lambda _: b"[1, 2]", "its config.json is no dictionary, but of type list"),
        ("config.json", _keep(0.5), "its config.json is missing or damaged"),
        ("config.json", lambda _: b"\x80" * 9, "its config.json is missing or damaged"),
        ("config.json", lambda _: b"[" * 100_000, "its config.json is missing or damaged"),
        ("generation_config.json", lambda _: b"3", "its generation_config.json is no dictionary, but of type int"),
        ("tokenizer_config.json", lambda _: b"[]", "its tokenizer_config.json is no dictionary, but of type list"),
        ("tokenizer.json", _keep(0.5), "its tokenizer.json is missing or damaged .*; take an intact copy"),
        ("tokenizer.json", lambda _: b"{}", "its tokenizer cannot be loaded .*; take intact tokenizer files"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_at_the_fetch(model, tmp_path, file, change, sentence):
    (model / file).write_bytes(change((model / file).read_bytes()))
    with pytest.raises(SinkoriginError, match=sentence):
        fetch_model(tmp_path / "results" / "out", name="tiny", source=f"path:{model}")
    assert not list((tmp_path / "results").iterdir())


def test_a_model_without_a_tokenizer_is_fetched_and_so_is_its_control(model, tmp_path):
    for file in model.glob("tokenizer*"):
        file.unlink()
    fetch_model(tmp_path / "out", name="tiny", source=f"path:{model}")
    fetch_model(tmp_path / "control", name="control", source="random:tiny", base=tmp_path / "out")
    for folder in ("out", "control"):
        assert load_model(tmp_path / folder).config.vocab_size == 320
        assert not list((tmp_path / folder).glob("tokenizer*"))


def test_a_tokenizer_without_its_vocabulary_is_refused(model, tmp_path):
    (model / "tokenizer.json").unlink()
    with pytest.raises(
        SinkoriginError, match=r"model tiny: its tokenizer lacks its vocabulary; put tokenizer.json beside"
    ):
        fetch_model(tmp_path / "out", name="tiny", source=f"path:{model}")


def test_an_adapter_is_refused_with_what_to_do(model, tmp_path):
    (model / "adapter_config.json").write_text("{}")
    with pytest.raises(SinkoriginError, match=r"holds an adapter .*; merge it into its model \(merge_and_unload\)"):
        fetch_model(tmp_path / "out", name="tiny", source=f"path:{model}")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused_with_their_rows(model, tmp_path, number):
    def spoil(weights):
        weights["model.embed_tokens.weight"][[7, 319], 3] = number
        return weights

    change_weights(model, spoil)
    with pytest.raises(
        SinkoriginError, match=r"embed_tokens.weight in its .* in 2 of its 320 rows \(7, 319\); .*no token uses to 0"
    ):
        fetch_model(tmp_path / "out", name="tiny", source=f"path:{model}")


def test_a_damaged_provenance_beside_the_weights_is_not_taken_over(model, tmp_path):
    (model / "provenance.json").write_text("")
    fetch_model(tmp_path / "out", name="tiny", source=f"path:{model}")
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["model"] == "tiny"


@pytest.mark.parametrize(
    "config", ["[1]", "{", '{"text_config": []}', '{"hidden_size": "wide"}', '{"num_attention_heads": 0}']
)
def test_damaged_files_do_not_stop_the_estimates_before_the_fetch_names_them(model, tmp_path, config):
    whole = json.loads((model / "config.json").read_text())
    values = whole | json.loads(config) if config.startswith('{"') else config
    (model / "config.json").write_text(values if isinstance(values, str) else json.dumps(values))
    (model / "tokenizer_config.json").write_bytes(b"\x80")
    models = [{"name": "tiny", "source": f"path:{model}"}]
    estimates = Estimates(read_config(TINY | {"models": models, "interventions": []}), "cpu", tmp_path / "results")
    assert estimates.shape("tiny") is ASSUMED_SHAPE
    assert estimates.of("tokenize_prompts", {"model": "tiny", "prompts": "random_tokens"}).memory > 0
