"""A foreign file, however damaged, is read rightly or refused in one sentence with a remedy: no other exception, no hang, no huge allocation."""

import json
import struct

import pytest
from hypothesis import given, settings

from foreign_files import FORMATS, READ, REFUSED, gguf_bytes, gguf_text, outcome
from sinkorigin.errors import SinkoriginError, first_line
from sinkorigin.models.gguf_header import read_gguf_header
from sinkorigin.models.shapes import Shape, text_config
from sinkorigin.tables import remedy

# transformers reads each, and Snakemake configs
SLOW = (
    "model",
    "weights of a model",
    "tokenizer of a training",
    "prompts of a model",
    "prompts of a tokenizer",
    "YAML config",
)


@pytest.mark.parametrize("name", FORMATS)
def test_whole_files_are_read(name, tmp_path):
    format_ = FORMATS[name]
    for content in format_.files():
        assert outcome(format_, tmp_path, content) == READ


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_is_read_rightly_or_refused_in_a_sentence(name, tmp_path_factory):
    format_ = FORMATS[name]
    files = format_.files()
    folder = tmp_path_factory.mktemp("damaged")

    @settings(max_examples=settings().max_examples // (3 if name in SLOW else 1))
    @given(format_.damaged(files))
    def tried(content):
        outcome(format_, folder, content)

    tried()


# ---- what was found, each in its smallest form


def a_gguf(field=None, tensor=("x", [4], 0, 0)):
    fields = [("general.architecture", 8, gguf_text("llama"))]
    return gguf_bytes([*fields, *([field] if field else [])], [tensor], bytes(32))


def footer_of_seven_rows():
    """A Parquet file whose footer says seven rows, and whose one row group has five."""
    content = bytearray(FORMATS["Parquet"].files()[0])
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    # the number of rows (a zigzag varint), and the list of one row group
    content[content.index(b"\x16\x0a\x19\x1c", start) + 1] = 2 * 7
    return bytes(content)


FOUND = {
    "a list that a class name was expected in": ("config.json of a model", b'{"model_type": "llama", "architectures": 7}', None),
    "more layers than any decoder has": ("config.json of a model", b'{"num_hidden_layers": 1000000000}', "num_hidden_layers in its config.json is 1000000000, which no decoder has"),
    "fewer than no heads": ("config.json of a model", b'{"num_attention_heads": -1}', "num_attention_heads in its config.json is -1, which no decoder has"),
    "a width that is not a number": ("config.json of a model", b'{"hidden_size": NaN}', "hidden_size in its config.json is nan, which no decoder has"),
    "a section that is no section": ("config.json of a model", b'{"text_config": "x"}', "text_config in its config.json is no section, but of type str"),
    "more layers than weights": ("model", b'{"model_type": "llama", "vocab_size": 320, "num_hidden_layers": 9000}', "has 9000 layers, but its weights are 30 tensors"),
    "a line end in the name of a file": ("safetensors index", b'{"metadata": {}, "weight_map": {"a.weight": "\\n"}}', r"names \\n, which is not there"),
    "a token that is a list": ("tokenizer.json", b'{"model": {"vocab": [[[], 0]]}}', "its tokenizer cannot be loaded"),
    "an added token without a number": ("tokenizer.json", b'{"model": {"vocab": {}}, "added_tokens": [{"id": []}]}', "its tokenizer cannot be loaded"),
    "a token id of eight gigabytes": ("tokenizer of a training", b'{"model": {"vocab": {"a": 2147483648}}}', "gives 'a' the id 2147483648, beyond any vocabulary"),
    "a token id that is no vocabulary's": ("tokenizer.json", b'{"model": {"vocab": {"a": NaN}}}', "its tokenizer.json gives 'a' the id nan|its tokenizer cannot be loaded"),
    "a tokenizer that is a list": ("tokenizer of a training", b"[]", "its tokenizer.json is no dictionary"),
    "an alignment in words": ("GGUF", a_gguf(("general.alignment", 8, gguf_text("32"))), "general.alignment is '32'"),
    "pieces in words": ("GGUF", a_gguf(("split.count", 8, gguf_text("1"))), "split.count is '1'"),
    "a list of file types": ("GGUF", a_gguf(("general.file_type", 9, struct.pack("<IQ", 4, 0))), r"general.file_type is \[\]"),
    "an architecture given twice": ("GGUF", a_gguf(("general.architecture", 8, gguf_text("gpt2"))), "has 'general.architecture' twice"),
    "a tensor of more dims than there are": ("GGUF", a_gguf(tensor=("x", [1] * 5, 0, 0)), "'x' has 5 dims"),
    "more layers than any GGUF has": ("GGUF", a_gguf(("llama.block_count", 4, b"\xff" * 4)), "num_hidden_layers in its model.gguf is 4294967295"),
    "a compressed file without a byte": ("JSON lines, gzip", b"", r"cannot be read as JSON lines in UTF-8 \(it is empty\)"),
    "a footer of other rows than there are": ("Parquet", footer_of_seven_rows(), "its footer says 7 rows, but its row groups have 5"),
    "a manifest that is nested without end": ("manifest", b"[" * 100_000, "is missing or no file of this workflow"),
    "aliases of aliases": ("YAML config", b"a: &a [x, x]\nb: &b [" + b"*a, " * 999 + b"*a]\nc: [" + b"*b, " * 99 + b"*b]", "has aliases that stand for 30\\d+ values; write it without aliases"),
    "half a character in a key": ("YAML config", b'{"\\ud800": 1}', r"\\ud800 is not a key of the config; correct its spelling or delete it"),
    "a line end in a name": ("YAML config", json.dumps({"interventions": [{"name": "e", "kind": "mask", "models": ["a\nb"], "layers": [0], "positions": [4]}]}).encode(), r"models: a\\nb is no model"),
    "an alias inside itself": ("YAML config", b"a: &a [*a]", "has an alias of what it stands in"),
    "an index without files": ("package index", b'{"files": [null]}', "is no list of files"),
    "a file of the index without a name": ("package index", b'{"files": [{"filename": 1, "url": "", "hashes": {}}]}', "is no list of files"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "sentence"), FOUND.values(), ids=FOUND)
def test_what_fuzzing_found_is_refused_in_a_sentence(name, content, sentence, tmp_path):
    format_ = FORMATS[name]
    assert outcome(format_, tmp_path, content) == (READ if sentence is None else REFUSED)
    if sentence is not None:
        with pytest.raises(SinkoriginError, match=sentence):
            format_.read(tmp_path, content)


def test_a_list_of_a_gguf_that_is_longer_than_any_takes_no_memory(tmp_path):
    count = (1 << 20) + 1
    (tmp_path / "m.gguf").write_bytes(a_gguf(("long", 9, struct.pack("<IQ", 0, count) + bytes(count))))
    assert read_gguf_header(tmp_path / "m.gguf", "model m").fields["long"] == count


def test_a_model_without_a_section_on_text_is_described_by_its_whole_config():
    config = {"hidden_size": 8, "text_config": None}
    assert text_config(config) is config and text_config({"text_config": {"a": 1}}) == {"a": 1}


@pytest.mark.parametrize(
    "change", [{"num_hidden_layers": True}, {"vocab_size": 10**400}, {"hidden_size": 0}, {"head_dim": 0.5}]
)
def test_a_shape_of_no_decoder_is_not_taken_for_one(change):
    config = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "vocab_size": 9}
    assert Shape.of_config(config).ffn_width == 32
    assert Shape.of_config(config | {"num_experts": 0}).experts == 1  # how some families write a dense model
    with pytest.raises(ValueError, match=" is "):
        Shape.of_config(config | change)


def test_a_sentence_with_names_of_a_damaged_file_can_be_printed_in_one_line():
    assert (
        str(SinkoriginError("a \ud800 \n \x1b[2J \u2028 é 1\u00a0%")) == r"a \ud800 \n \x1b[2J \u2028 é 1" + "\u00a0%"
    )
    assert str(SinkoriginError("one", "two")) == "one\ntwo"
    assert len(first_line(ValueError("x" * 5000))) == 301


@pytest.mark.parametrize("listed", ['{"files": [1]}', "[" * 100_000])
def test_a_damaged_manifest_beside_a_damaged_file_does_not_hide_what_to_do(listed, tmp_path):
    (tmp_path / "manifest.json").write_text(listed)
    assert remedy(tmp_path / "part-0.parquet") == f"delete {tmp_path}/part-0.parquet and run the same command again"
