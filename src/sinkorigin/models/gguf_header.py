"""Header of a GGUF file: what it says of its model, and the names, shapes and types of its tensors.

Neither the weights nor the tokens of the vocabulary are read. The gguf package makes an array of each token, which takes seconds, and
transformers' reader imports PyTorch; this one is cheap enough to look into a model before the first job. The format:
https://github.com/ggml-org/ggml/tree/master/docs.
"""

import math
import mmap
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sinkorigin.errors import SinkoriginError, first_line

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}  # type → struct's
_STRING, _ARRAY = 8, 9
_TOKENS = "tokenizer.ggml.tokens"
_DIMS = 4  # of a tensor, at most
_LONGEST = 1 << 20  # numbers of a list that is read; a vocabulary has a quarter as many
_KINDS = {"general.architecture": str, "general.alignment": int, "general.file_type": int, "split.count": int}
_ENCODER_DECODERS = ("t5", "t5encoder", "umt5")


@dataclass(frozen=True)
class GGUFHeader:
    """Header of a GGUF file.

    Attributes:
        fields: key → number, text, list of numbers, or the number of entries of a list of texts or of a very long one.
        sizes: tensor → how many numbers it has.
        types: tensor → how these are stored, such as Q4_K.
    """

    fields: dict[str, Any]
    sizes: dict[str, int]
    types: dict[str, str]

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture."""
        return str(self.fields["general.architecture"])

    @property
    def quantisation(self) -> str:
        """File type, such as Q4_K_M; of a file that does not state it, the type that most numbers have.

        A file of type Q4_K_M stores some tensors in other types, of which the largest may be the embedding's.
        """
        from gguf import LlamaFileType

        stated = self.fields.get("general.file_type")
        if stated in set(LlamaFileType) - {LlamaFileType.GUESSED}:
            return LlamaFileType(stated).name.removeprefix("MOSTLY_").removeprefix("ALL_")
        numbers: Counter[str] = Counter()
        for name, size in self.sizes.items():
            numbers[self.types[name]] += size
        return numbers.most_common(1)[0][0]

    def config(self) -> dict[str, Any]:
        """Shape of the decoder under the names that a config.json has; what the file does not state is left out."""
        prefix = self.architecture
        named = {
            "num_hidden_layers": "block_count",
            "hidden_size": "embedding_length",
            "num_attention_heads": "attention.head_count",
            "num_key_value_heads": "attention.head_count_kv",
            "head_dim": "attention.key_length",
            "intermediate_size": "feed_forward_length",
            "num_experts": "expert_count",
            "max_position_embeddings": "context_length",
            "vocab_size": "vocab_size",
        }
        found = {name: self.fields.get(f"{prefix}.{key}") for name, key in named.items()}
        found["vocab_size"] = self.fields.get(_TOKENS, found["vocab_size"])
        # a list has an entry for each layer; layers without attention have 0 heads
        plain = {name: max(value, default=None) if isinstance(value, list) else value for name, value in found.items()}
        return {
            "model_type": prefix,
            "tie_word_embeddings": "output.weight" not in self.sizes,
            **{name: value for name, value in plain.items() if isinstance(value, int) and not isinstance(value, bool)},
        }


def read_gguf_header(path: Path, what: str) -> GGUFHeader:
    """Read the header of a GGUF file and check that the file holds all tensors that it lists.

    Args:
        what: what messages call the model.

    Raises:
        SinkoriginError: the file is no GGUF file, or truncated or damaged.
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Reader(content).header()
    except (OSError, ValueError, KeyError, ArithmeticError, struct.error) as error:
        raise SinkoriginError(
            f"{what}: its {path.name} is no GGUF file, or truncated or damaged ({first_line(error)}); take an intact copy"
        ) from error


def check_gguf(header: GGUFHeader, file: str, what: str) -> None:
    """Check that a GGUF file is whole and of a decoder that transformers reads from GGUF.

    Args:
        file: its name, for messages.

    Raises:
        SinkoriginError: it is one of several pieces, an encoder-decoder, or of an architecture that transformers does not read.
    """
    if header.fields.get("split.count", 1) > 1:
        raise SinkoriginError(
            f"{what}: {file} is one of {header.fields['split.count']} pieces of a model; join them with "
            "`llama-gguf-split --merge`, and name the joined file"
        )
    if header.architecture in _ENCODER_DECODERS:
        raise SinkoriginError(f"{what}: {file} is an encoder-decoder ({header.architecture}); choose a decoder")
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING
    from transformers.integrations.gguf.gguf_config_mapping import GGUF_CONFIG_ARCHS

    # both spell the names of some architectures with hyphens or underscores that the other has not
    read = {_plain(name) for name in (*GGUF_CONFIG_MAPPING, *GGUF_CONFIG_ARCHS)} - {"general", "tokenizer"}
    if _plain(header.architecture) not in read:
        raise SinkoriginError(
            f"{what}: {file} is of architecture {header.architecture}, which transformers does not read from GGUF; take the "
            "same model as safetensors"
        )


def _plain(name: str) -> str:
    return name.replace("-", "").replace("_", "")


class _Reader:
    """Position in the bytes of a GGUF file, from which its parts are read one after the other."""

    def __init__(self, content: mmap.mmap):
        self._content, self._at = content, 0

    def header(self) -> GGUFHeader:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        if self._content[:4] != _MAGIC:
            raise ValueError("it does not begin with GGUF")
        self._at = 4
        if (version := self._number("I")) not in _VERSIONS:
            raise ValueError(f"version {version}, versions 2 and 3 are known")
        tensors, count = self._number("Q"), self._number("Q")
        fields: dict[str, Any] = {}
        for _ in range(count):
            key = self._text()
            if key in fields:
                raise ValueError(f"it has {key!r} twice")
            fields[key] = self._value(self._number("I"))
        sizes: dict[str, int] = {}
        types: dict[str, str] = {}
        end = 0
        for _ in range(tensors):
            name = self._text()
            if name in sizes:
                raise ValueError(f"it has the tensor {name!r} twice")
            if (dims := self._number("I")) > _DIMS:
                raise ValueError(f"{name!r} has {dims} dims")
            size = math.prod(self._numbers("Q", dims))
            type_, offset = GGMLQuantizationType(self._number("I")), self._number("Q")
            per_block, block_bytes = GGML_QUANT_SIZES[type_]
            sizes[name], types[name] = size, type_.name
            end = max(end, offset + size // per_block * block_bytes)
        for key, kind in _KINDS.items():
            if key in fields and (not isinstance(fields[key], kind) or isinstance(fields[key], bool)):
                raise ValueError(f"{key} is {fields[key]!r:.40}")
        alignment = fields.get("general.alignment", 32)
        missing = -(-self._at // alignment) * alignment + end - len(self._content)
        if missing > 0:
            raise ValueError(f"{missing} bytes are missing at its end")
        if "general.architecture" not in fields or not tensors:
            raise ValueError("it names no architecture, or no tensors")
        return GGUFHeader(fields, sizes, types)

    def _number(self, format_: str) -> Any:
        return self._numbers(format_, 1)[0]

    def _numbers(self, format_: str, count: int) -> tuple[Any, ...]:
        begin = self._skip(struct.calcsize(f"<{format_}") * count)
        return struct.unpack_from(f"<{count}{format_}", self._content, begin)

    def _skip(self, size: int) -> int:
        """Step over so many bytes; where they begin."""
        begin = self._at
        self._at += size
        if self._at > len(self._content):
            raise ValueError("its header is cut off")
        return begin

    def _text(self) -> str:
        length = self._number("Q")
        begin = self._skip(length)
        return self._content[begin : begin + length].decode("utf-8", "replace")

    def _value(self, type_: int) -> Any:
        if type_ == _STRING:
            return self._text()
        if type_ != _ARRAY:
            return self._number(_NUMBERS[type_])
        entries, count = self._number("I"), self._number("Q")
        if entries != _STRING and count > _LONGEST:
            self._skip(struct.calcsize(f"<{_NUMBERS[entries]}") * count)
            return count
        if entries != _STRING:
            return list(self._numbers(_NUMBERS[entries], count))
        for _ in range(count):  # only stepped over: a vocabulary has a quarter of a million
            length = self._number("Q")  # apart, because it moves the position too
            self._at += length
        return count
