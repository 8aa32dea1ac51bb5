"""Files that a user hands in, damaged in many ways, and what reading them must end in: a right reading, or one sentence.

``tests/unit/test_fuzzing.py`` tries a few of each format, ``benchmarks/fuzz.py`` as many as a time allows.
"""

import bz2
import gzip
import io
import json
import resource
import shutil
import signal
import struct
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from tiny_study import ROOT, TINY

READ, REFUSED = "read right", "refused"
SECONDS = 10.0  # of CPU time for one file, at most
MEMORY = 2**31  # bytes that reading one file may ask for beside what the process has


class TookTooLongError(BaseException):
    """A reader that did not end in time; no library takes it for an error of its own."""


@dataclass(frozen=True)
class Format:
    """A format of foreign files.

    Attributes:
        files: contents of whole files.
        read: reader of a file, as a study reads it: from a folder to write to, and the content.
        check: comparison of what was read with the content, by another way to read it; raises an AssertionError.
        name: file name that a sentence must have.
        damaged: contents that are like a whole file.
        whole: whether the beginning of a file is no file of this format, so that it must be refused.
        sentences: whether what is wrong is told in a line each, as of a config.
    """

    files: Callable[[], list[bytes]]
    read: Callable[[Path, bytes], Any]
    damaged: Callable[[list[bytes]], SearchStrategy[bytes]]
    check: Callable[[bytes, Any], None] = lambda content, found: None
    name: str = ""
    whole: bool = True
    sentences: bool = False

    def __post_init__(self):
        object.__setattr__(self, "files", cache(self.files))


def outcome(format_: Format, folder: Path, content: bytes) -> str:
    """``READ`` or ``REFUSED``, for a file of this content.

    Raises:
        AssertionError: it was read wrongly, its sentence lacks something, or it was refused for want of memory.
        Exception: any other that reading raised.
    """
    if format_ not in _IMPORTED:  # what reading imports is not the file's
        format_.read(folder, format_.files()[0])
        _IMPORTED.add(format_)
    try:
        with _bounded():
            found = format_.read(folder, content)
    except SinkoriginError as error:
        _check_sentence(format_, error)
        return REFUSED
    format_.check(content, found)
    for whole in format_.files() if format_.whole else ():
        cut_off = whole.startswith(content) and whole.rstrip() != content.rstrip()
        assert not cut_off, "the beginning of a file was read as if it were whole"
    return READ


_IMPORTED: set[Format] = set()  # formats of which a file was read


def _check_sentence(format_: Format, error: SinkoriginError) -> None:
    sentence = str(error)
    sentence.encode()  # a lone surrogate would end the job that prints it
    lines = sentence.split("\n")
    assert format_.sentences or len(lines) == 1, f"more than one line: {sentence!r}"
    for line in lines:
        assert format_.name in line, f"{format_.name} is not named: {line}"
        assert "; " in line, f"no remedy: {line}"
        assert len(line) < 3000, f"{len(line)} characters: {line[:200]}"
    cause: BaseException | None = error
    while cause is not None:
        assert not isinstance(cause, MemoryError), f"asked for too much memory: {sentence}"
        cause = cause.__cause__


@contextmanager
def _bounded() -> Iterator[None]:
    """Bounds on the time and the memory of what is read in this block, where the system has them."""
    statm = Path("/proc/self/statm")
    if threading.current_thread() is not threading.main_thread() or not statm.exists():
        yield
        return

    def end(*_: object) -> None:
        raise TookTooLongError(f"not read after {SECONDS} s of CPU time")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGPROF, end)
    here = int(statm.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (here + MEMORY, hard))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# ---- damage of bytes

_NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1]


@st.composite
def damaged_bytes(draw, files: list[bytes]) -> bytes:
    """A file cut off, with flipped bits, other bytes, huge numbers, or parts left out, doubled, moved, or of another file."""
    content = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        end = min(len(content), at + draw(st.one_of(st.integers(1, 8), st.integers(1, 200))))
        change = draw(
            st.sampled_from(["cut", "flip", "number", "bytes", "leave out", "double", "insert", "splice", "zero"])
        )
        if change == "cut":
            del content[at:]
        elif change == "flip" and at < len(content):
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif change == "number":
            format_ = draw(st.sampled_from(["<B", "<H", "<I", "<Q", ">I", ">Q"]))
            number = draw(st.sampled_from(_NUMBERS)) % 256 ** struct.calcsize(format_)
            content[at : at + struct.calcsize(format_)] = struct.pack(format_, number)
        elif change == "bytes":
            content[at:end] = draw(st.binary(min_size=end - at, max_size=end - at))
        elif change == "leave out":
            del content[at:end]
        elif change == "double":
            content[at:at] = content[at:end]
        elif change == "insert":
            content[at:at] = draw(st.binary(max_size=20))
        elif change == "splice":
            other = draw(st.sampled_from(files))
            content[at:] = other[draw(st.integers(0, len(other))) :]
        elif change == "zero":
            content[at:end] = bytes(end - at)
    return bytes(content)


# ---- damage of what JSON and YAML hold

_ODD: SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [0, 1, -1, 2, 2**31, -(2**31), 2**63, 2**64, 10**30, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf")]
    ),
    st.sampled_from(
        ["", " ", "\0", "\n", "0", "null", "../x", "/", "é" * 40, "\ud800", "\u202e", "a" * 500, "%s{}$", "1e400"]
    ),
    st.sampled_from([[], {}, [[]], [None], {"": None}, [{}], {"a": {"b": []}}, [1, "a", None], {"quant_method": []}]),
    st.text(max_size=5),
    st.integers(-(10**6), 10**6),
)


def _places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths of all values inside a value, itself first."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(inside)[:60]:  # a vocabulary has enough in common
        yield from _places(part, (*path, key))


def _at(value: Any, path: tuple) -> Any:
    for key in path:
        value = value[key]
    return value


def _near(value: Any, step: float) -> Any:
    """A number beside a number, a text beside a text; anything else as it is."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value + step
    return value[: len(value) // 2] if isinstance(value, str) else value


def _with(value: Any, path: tuple, change: Callable[[Any], Any]) -> Any:
    """A value whose part at a path is changed."""
    if not path:
        return change(value)
    copy = value.copy()
    copy[path[0]] = _with(value[path[0]], path[1:], change)
    return copy


@st.composite
def changed_values(draw, value: Any) -> Any:
    """A value with parts of another type, left out, added, renamed, or nested."""
    for _ in range(draw(st.integers(1, 3))):
        places = [path for path in _places(value) if path]
        if not places:
            return draw(_ODD)
        path = draw(st.sampled_from(places))
        change, odd = (
            draw(st.sampled_from(["replace", "other", "near", "delete", "add", "rename", "nest", "double"])),
            draw(_ODD),
        )
        if change == "replace":
            value = _with(value, path, lambda _, odd=odd: odd)
        elif change == "other":  # a value from another place, which may well be of the right type
            other = _at(value, draw(st.sampled_from(places)))
            value = _with(value, path, lambda _, other=other: other)
        elif change == "near":
            step = draw(st.sampled_from([-1, 1, 2, 0.5, 1000]))
            value = _with(value, path, lambda part, step=step: _near(part, step))
        elif change == "nest":
            value = _with(value, path, lambda part: [part])
        else:
            value = _with(
                value, path[:-1], lambda part, path=path, change=change, odd=odd: _reshaped(part, path[-1], change, odd)
            )
    return value


def _reshaped(part: Any, key: Any, change: str, odd: Any) -> Any:
    if isinstance(part, list):
        if change == "delete":
            return part[:key] + part[key + 1 :]
        return [*part, part[key] if change == "double" else odd]
    others = {name: value for name, value in part.items() if name != key}
    if change == "delete":
        return others
    if change == "rename":
        return {**others, str(odd)[:50]: part[key]}
    return {**part, str(odd)[:50] if change == "add" else f"{key}2": odd if change == "add" else part[key]}


def _deep(number: int) -> str:
    return "[" * number + "]" * number


@st.composite
def damaged_json(draw, files: list[bytes]) -> bytes:
    """A JSON file with changed values or bytes, a key given twice, or nested without end."""
    content = draw(st.sampled_from(files))
    way = draw(
        st.sampled_from(["values", "values", "values", "values", "bytes", "twice", "deep", "encoding", "digits"])
    )
    if way == "bytes":
        return draw(damaged_bytes(files))
    value = json.loads(content)
    if way == "deep":
        number = draw(st.sampled_from([50, 900, 100_000]))
        return content.replace(b"{", b'{"deep": ' + _deep(number).encode() + b", ", 1)
    if way == "digits":
        return content.replace(b"{", b'{"many": ' + b"9" * 5000 + b", ", 1)
    if way == "twice" and isinstance(value, dict) and value:
        key = draw(st.sampled_from(sorted(value)))
        return content.replace(b"{", b"{%s: %s, " % (json.dumps(key).encode(), json.dumps(draw(_ODD)).encode()), 1)
    text = json.dumps(draw(changed_values(value)), ensure_ascii=draw(st.booleans()))
    if way == "encoding":
        return text.encode(draw(st.sampled_from(["utf-16", "utf-8-sig", "utf-32"])), "surrogatepass")
    return text.encode("utf-8", "surrogatepass")


# ---- files

_HERE: dict[str, Path] = {}  # what is made once


def made(name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first call makes, in a temporary folder of this process."""
    import atexit
    import tempfile

    if "" not in _HERE:
        _HERE[""] = Path(tempfile.mkdtemp())
        atexit.register(shutil.rmtree, _HERE[""], ignore_errors=True)
    if name not in _HERE:
        _HERE[name] = _HERE[""] / name
        make(_HERE[name])
    return _HERE[name]


def tiny() -> Path:
    """A tiny Llama with its tokenizer."""
    from tiny_study import write_model, write_text

    return made("model", lambda folder: write_model(folder, made("text", write_text)))


def _small_header() -> bytes:
    """A safetensors file of two tensors."""
    from safetensors.numpy import save

    return save({"a.weight": np.ones((2, 3), np.float32), "b.bias": np.arange(2, dtype=np.float16)}, {"format": "pt"})


def _beside_config(folder: Path, content: bytes) -> Path:
    (folder / "config.json").write_text('{"model_type": "llama"}')
    path = folder / "model.safetensors"
    path.write_bytes(content)
    return path


def _read_safetensors(folder: Path, content: bytes) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    from sinkorigin.models.weights import _check_dtypes, check_finite, weight_files

    path = _beside_config(folder, content)
    files = weight_files(folder, "model m")
    _check_dtypes(files, "model m")
    check_finite(folder, "model m")
    return load_file(path)


def _check_safetensors(content: bytes, found: Mapping[str, np.ndarray]) -> None:
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    assert header.keys() == found.keys()
    numbers = content[8 + length :]
    assert sum(value.nbytes for value in found.values()) == len(numbers)
    for name, value in found.items():
        begin, end = header[name]["data_offsets"]
        assert value.tobytes() == numbers[begin:end]
        assert value.dtype.kind != "f" or np.isfinite(value).all() or name.endswith("masked_bias")


@st.composite
def _damaged_safetensors(draw, files: list[bytes]) -> bytes:
    content = draw(st.sampled_from(files))
    if draw(st.booleans()):
        return draw(damaged_bytes(files))
    length = int.from_bytes(content[:8], "little")
    header = draw(damaged_json([content[8 : 8 + length]]))
    said = draw(st.one_of(st.just(len(header)), st.sampled_from([0, 1, length, 2**32, 2**40, 2**62, 2**64 - 1])))
    return said.to_bytes(8, "little") + header + content[8 + length :]


def _shards(folder: Path, content: bytes) -> list[Path]:
    from sinkorigin.models.weights import weight_files

    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "a.safetensors").write_bytes(_small_header())
    (folder / "model.safetensors.index.json").write_bytes(content)
    return weight_files(folder, "model m")


_INDEX = {"metadata": {"total_size": 28}, "weight_map": {"a.weight": "a.safetensors", "b.bias": "a.safetensors"}}


def _check_shards(content: bytes, found: list[Path]) -> None:
    assert set(json.loads(content)["weight_map"]) <= {"a.weight", "b.bias"}
    assert [path.name for path in found] == ["a.safetensors"]


def _model_with(name: str) -> Callable[[Path, bytes], Path]:
    def place(folder: Path, content: bytes) -> Path:
        for path in tiny().iterdir():
            shutil.copyfile(path, folder / path.name)
        (folder / name).write_bytes(content)
        return folder

    return place


def _read_config(folder: Path, content: bytes) -> dict[str, Any]:
    """A model's config.json as it is read before the first job."""
    from sinkorigin.models.before_fetch import local_problems
    from sinkorigin.models.local import read_local_config

    _model_with("config.json")(folder, content)
    problems = local_problems(str(folder), {"p": 100}, {"interventions.e.layers": [1]}, model="m")
    if problems:
        raise SinkoriginError("; ".join(problems))
    return read_local_config(folder, "model m")


def _check_config(content: bytes, found: dict[str, Any]) -> None:
    from sinkorigin.models.shapes import Shape

    assert repr(found) == repr(json.loads(content))
    try:
        shape = Shape.of_config(found)
    except (KeyError, ValueError):  # a decoder that only transformers knows
        return
    for number in (shape.layers, shape.width, shape.heads, shape.kv_heads, shape.vocabulary):
        assert type(number) is int and number >= 1
    assert type(shape.ffn_width) is int and shape.ffn_width >= 0  # a layer may have no FFN
    assert isinstance(shape.tied_embeddings, bool)


def _load(name: str) -> Callable[[Path, bytes], Any]:
    def load(folder: Path, content: bytes) -> Any:
        from sinkorigin.models.fetching import _check_model, check_intact

        _model_with(name)(folder, content)
        for path in sorted(folder.iterdir()):
            check_intact(path, "model m")
        with redirect_stdout(io.StringIO()):
            _check_model(folder, "model m", False)

    return load


def _read_tokenizer(name: str) -> Callable[[Path, bytes], Any]:
    def read(folder: Path, content: bytes) -> Any:
        from sinkorigin.models.fetching import check_intact
        from sinkorigin.models.files import library_errors
        from sinkorigin.models.tokenizer import load_tokenizer
        from sinkorigin.models.vocabulary import check_vocabulary

        place = _model_with(name)(folder, content)
        check_intact(place / name, "model m")
        check_vocabulary(place, json.loads((place / "config.json").read_text()), "model m")
        tokenizer = load_tokenizer(place, "model m", False)
        with library_errors("model m: its tokenizer cannot encode", "take intact tokenizer files"):
            return tokenizer.backend_tokenizer.encode("the king shall speak", add_special_tokens=False).ids

    return read


def _take_tokenizer(folder: Path, content: bytes) -> None:
    from sinkorigin.pretraining.tokenizer import take_tokenizer

    place = folder / "from"
    place.mkdir(exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tiny() / name, place / name)
    (place / "tokenizer.json").write_bytes(content)
    take_tokenizer(f"path:{place}", folder / "tokenizer", what="pretraining.data.d.tokenizer")


def _draw_prompts(name: str) -> Callable[[Path, bytes], list]:
    def draw(folder: Path, content: bytes) -> list:
        """Prompts of a model that was fetched, by its files."""
        from sinkorigin.corpora.prompts import make_prompts
        from sinkorigin.models.fetching import _check_model, check_intact

        place = folder / "m"
        place.mkdir(exist_ok=True)
        _model_with(name)(place, content)
        for path in sorted(place.iterdir()):
            check_intact(path, "model m")
        _check_model(place, "model m", False)
        (place / tables.MANIFEST).unlink(missing_ok=True)
        tables.write_manifest(place)
        (folder / "corpus.parquet").write_bytes(_held_out())
        found = []
        shared = {
            "model": "m",
            "directory": place,
            "sequences": 2,
            "length": 4,
            "seed": 0,
            "corpus": folder / "corpus.parquet",
        }
        for kind, first in (("random_tokens", "bos"), ("natural_text", "drawn"), ("random_tokens", "fixed")):
            make_prompts(folder / "prompts.parquet", kind=kind, first_token=first, **shared)
            found.append(tables.read_table(folder / "prompts.parquet")["token_ids"].to_pylist())
        (place / tables.MANIFEST).unlink()
        return found

    return draw


def _held_out() -> bytes:
    content = io.BytesIO()
    texts = ["the king shall speak no more\n\nof night and day", "love thee my lord if thou art here"]
    pq.write_table(pa.table({"document": ["a", "b"], "split": ["validation"] * 2, "text": texts}), content)
    return content.getvalue()


def _check_prompts(content: bytes, found: list) -> None:
    for drawn in found:
        assert len(drawn) in (0, 2) and all(len(row) == 4 for row in drawn)
        assert all(type(token) is int and 0 <= token < 320 for row in drawn for token in row)


# ---- GGUF


def gguf_bytes(
    fields: list[tuple[str, int, bytes]],
    tensors: list[tuple[str, list[int], int, int]],
    data: bytes,
    said: Mapping[str, int] = MappingProxyType({}),
) -> bytes:
    """A GGUF file of these fields (key, type, value) and tensors (name, shape, type, offset); ``said`` are other numbers of them."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    parts = [
        b"GGUF",
        struct.pack("<IQQ", said.get("version", 3), said.get("tensors", len(tensors)), said.get("fields", len(fields))),
    ]
    parts += [text(key) + struct.pack("<I", type_) + value for key, type_, value in fields]
    parts += [
        text(name)
        + struct.pack("<I", len(shape))
        + b"".join(struct.pack("<Q", size % 2**64) for size in shape)
        + struct.pack("<IQ", type_, offset)
        for name, shape, type_, offset in tensors
    ]
    head = b"".join(parts)
    return head + bytes(-len(head) % 32) + data


def gguf_text(value: str) -> bytes:
    """A text as GGUF has it."""
    return struct.pack("<Q", len(value)) + value.encode()


_GGUF_FIELDS = [
    ("general.architecture", 8, gguf_text("llama")),
    ("general.file_type", 4, struct.pack("<I", 2)),
    ("general.alignment", 4, struct.pack("<I", 32)),
    ("split.count", 2, struct.pack("<H", 1)),
    ("llama.block_count", 4, struct.pack("<I", 1)),
    ("llama.embedding_length", 4, struct.pack("<I", 4)),
    ("llama.attention.head_count", 9, struct.pack("<IQII", 4, 2, 2, 0)),
    ("llama.feed_forward_length", 10, struct.pack("<Q", 8)),
    ("llama.rope.freq_base", 6, struct.pack("<f", 1e4)),
    ("tokenizer.ggml.add_bos_token", 7, b"\1"),
    ("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 2) + gguf_text("a") + gguf_text("bc")),
]
_GGUF_TENSORS = [("token_embd.weight", [4, 2], 0, 0), ("output_norm.weight", [4], 0, 32)]


@cache
def _ggufs() -> list[bytes]:
    return [
        gguf_bytes(_GGUF_FIELDS, _GGUF_TENSORS, bytes(48)),
        gguf_bytes(_GGUF_FIELDS[:1], _GGUF_TENSORS[:1], bytes(32)),
    ]


@st.composite
def _damaged_gguf(draw, files: list[bytes]) -> bytes:
    if draw(st.booleans()):
        return draw(damaged_bytes(files))
    fields, tensors = list(_GGUF_FIELDS), list(_GGUF_TENSORS)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(fields) - 1))
        type_ = draw(st.sampled_from([*range(14), 2**31]))
        value = draw(
            st.sampled_from(
                [
                    fields[at][2],
                    *(value for _, _, value in _GGUF_FIELDS),
                    struct.pack("<d", float("nan")),
                    bytes(8),
                    b"\xff" * 16,
                ]
            )
        )
        type_ = draw(st.sampled_from([type_, fields[at][1]]))
        fields[at] = (draw(st.sampled_from([fields[at][0], *(key for key, _, _ in fields)])), type_, value)
    if draw(st.booleans()):
        at = draw(st.integers(0, len(tensors) - 1))
        shape = draw(st.lists(st.sampled_from([0, 1, 2, 4, 2**31, 2**63, 2**64 - 1]), max_size=6))
        tensors[at] = (
            draw(st.sampled_from(["token_embd.weight", "x", ""])),
            shape,
            draw(st.integers(0, 40)),
            draw(st.sampled_from([0, 1, 32, 2**40, 2**63])),
        )
    said = draw(
        st.dictionaries(
            st.sampled_from(["version", "tensors", "fields"]),
            st.sampled_from([0, 1, 2, 3, 2**31, 2**32 - 1]),
            max_size=1,
        )
    )
    return gguf_bytes(fields, tensors, bytes(48), said)


def _read_gguf(folder: Path, content: bytes) -> Any:
    from sinkorigin.models.gguf_header import check_gguf, read_gguf_header
    from sinkorigin.models.local import read_local_config

    path = folder / "model.gguf"
    path.write_bytes(content)
    config = read_local_config(path, "model m")
    header = read_gguf_header(path, "model m")
    check_gguf(header, path.name, "model m")
    return header, config, header.quantisation


def _check_gguf(content: bytes, found: Any) -> None:
    header, config, quantisation = found
    end = max((size for size in header.sizes.values()), default=0)
    assert header.sizes and end <= 4 * len(content) * 32  # the least of them has a quarter of a bit a number
    assert isinstance(quantisation, str) and isinstance(config["model_type"], str)
    for name, value in config.items():
        if name not in ("model_type", "tie_word_embeddings"):
            assert type(value) is int and value >= 0, (name, value)


# ---- corpora

_TEXTS = [
    "First text, of one line.",
    "Second.\n\nWith two paragraphs, and an é.",
    "",
    "Third\u2028one ✓",
    "First text, of one line.",
]


def _lines() -> bytes:
    return "".join(
        json.dumps({"text": text, "n": n}, ensure_ascii=n % 2 == 0) + "\n" for n, text in enumerate(_TEXTS)
    ).encode()


def _parquet(**settings: Any) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.table({"n": [1, 2, 3, 4, 5], "text": _TEXTS}), content, **settings)
    return content.getvalue()


def _documents(name: str) -> Callable[[Path, bytes], list[tuple[str, str]]]:
    def read(folder: Path, content: bytes) -> list[tuple[str, str]]:
        from sinkorigin.corpora.documents import documents_of

        (folder / name).write_bytes(content)
        with redirect_stdout(io.StringIO()):
            return list(documents_of(folder / name, name, "text", "corpus"))

    return read


def _check_parquet(content: bytes, found: list[tuple[str, str]]) -> None:
    file = pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True)
    assert len(found) == file.metadata.num_rows
    assert [text for _, text in found] == [text or "" for text in file.read(columns=["text"])["text"].to_pylist()]


def _check_lines(content: bytes, found: list[tuple[str, str]]) -> None:
    text = content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    rows = [json.loads(line) for line in io.StringIO(text, newline=None) if line.strip()]
    assert [one for _, one in found] == [(row["text"] or "").encode("utf-8", "replace").decode() for row in rows]


def _check_text(content: bytes, found: list[tuple[str, str]]) -> None:
    assert len(found) <= 1  # of less than a piece
    text = "".join(one for _, one in found)
    assert "\0" not in text and "\r" not in text
    try:
        decoded = content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except UnicodeDecodeError:
        return
    if "project gutenberg" not in decoded.lower():
        plain = decoded.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
        assert text.strip() == plain.strip()


def _members() -> dict[str, bytes]:
    return {f"texts/{number}.txt": text.encode() for number, text in enumerate(_TEXTS)} | {
        "texts/big.txt": b"word " * 400
    }


def _zip(compression: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, text in _members().items():
            archive.writestr(zipfile.ZipInfo(name), text, compression)
    return content.getvalue()


def _tar(mode: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        for name, text in _members().items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return content.getvalue()


def _read_archive(folder: Path, content: bytes) -> dict[str, bytes]:
    from sinkorigin.sources.archives import archive_errors, extract, read_members

    path = folder / "package.archive"
    path.write_bytes(content)
    with archive_errors(path):
        members = {str(name): stream.read() for name, stream in read_members(path, ["*.txt"])}
    out = folder / "out"
    try:
        extract(path, "texts/big.txt", out, "model m")
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return members


def _check_zip(content: bytes, found: dict[str, bytes]) -> None:
    """Every member has a checksum."""
    assert set(found.values()) <= set(_members().values())


def _check_tar(content: bytes, found: dict[str, bytes]) -> None:
    if _tar("w:").startswith(content):  # what it ends with may be cut off
        assert found == _members()


# ---- this project's own manifests and tables, which may come from another machine


@cache
def _study() -> Path:
    def make(folder: Path) -> None:
        schema = tables.schema(layer=(pa.int32(), "layer"), value=(pa.float64(), "value"))
        place = folder / "results/study"
        tables.write_table(
            place / "norms.parquet", {"layer": np.arange(5, dtype=np.int32), "value": np.arange(5.0)}, schema
        )
        with tables.atomic_directory(place / "site") as partial:
            tables.write_table(
                partial / "part-0.parquet", {"layer": np.arange(5, dtype=np.int32), "value": np.arange(5.0)}, schema
            )
        tables.write_json(place / "facts.json", {"model": "m", "numbers": [1, 2.5, None]})

    return made("study", make)


def _own(name: str) -> Callable[[Path, bytes], Any]:
    def read(folder: Path, content: bytes) -> Any:
        place = folder / "results/study"
        if not place.exists():
            shutil.copytree(_study() / "results/study", place)
        path = place / name
        path.write_bytes(content)
        tables._verified.clear()
        tables._read_seal.cache_clear()
        tables.verify(path)
        tables.not_applicable(path)
        return tables.read_table(path).to_pydict() if path.suffix == ".parquet" else tables.read_json(path)

    return read


def _unchanged(name: str) -> Callable[[bytes, Any], None]:
    def check(content: bytes, found: Any) -> None:
        whole = (_study() / "results/study" / name).read_bytes()
        same = content == whole or (name.endswith(".json") and json.loads(content) == json.loads(whole))
        assert same, "a changed file passed for what it was"

    return check


def _own_file(name: str) -> Callable[[], list[bytes]]:
    return lambda: [(_study() / "results/study" / name).read_bytes()]


# ---- configs


def _read_yaml(folder: Path, content: bytes) -> Any:
    from snakemake.common.configfile import load_configfile
    from snakemake_interface_common.exceptions import WorkflowError

    from harness.config.merging import Layer, merge
    from harness.config.reading import read_study

    path = folder / "mine.yaml"
    path.write_bytes(content)
    try:
        values = load_configfile(str(path))
    except (WorkflowError, UnicodeDecodeError, RecursionError) as error:  # Snakemake's own word on it, before ours
        raise SinkoriginError(f"{path} is no config; see {type(error).__name__}") from error
    return read_study(merge(_default_layer(), [Layer(str(path), values)], ROOT), first=True)


@cache
def _default_layer() -> Any:
    from harness.config.merging import Layer

    return Layer("config.yaml", yaml.safe_load((ROOT / "config.yaml").read_text()))


@st.composite
def _damaged_yaml(draw, files: list[bytes]) -> bytes:
    content = draw(st.sampled_from(files))
    way = draw(st.sampled_from(["values", "values", "values", "bytes", "text", "deep", "bomb"]))
    if way == "bytes":
        return draw(damaged_bytes(files))
    if way == "deep":
        return content + b"\ndeep: " + _deep(draw(st.sampled_from([50, 900, 1200]))).encode()
    if way == "bomb":
        levels = [
            f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9 if n else ['x'] * 9)}]"
            for n in range(draw(st.sampled_from([2, 8])))
        ]
        return "\n".join([*levels, content.decode()]).encode()
    if way == "text":
        odd = draw(
            st.sampled_from(
                [
                    "!!python/object:os.system x",
                    "010",
                    "1:30",
                    "2024-01-01",
                    "*none",
                    "&a [*a]",
                    "? [1]: 2",
                    "1e400",
                    ".nan",
                    "0x10",
                    "~",
                    "'",
                    "\t",
                ]
            )
        )
        lines = content.decode().splitlines()
        at = draw(st.integers(0, len(lines) - 1))
        lines[at] = lines[at].partition(":")[0] + ": " + odd
        return "\n".join(lines).encode()
    value = draw(changed_values(_read_by_yaml(content)))
    try:
        return yaml.dump(value, Dumper=_DUMPER, allow_unicode=True).encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can write
        return json.dumps(value).encode()


_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@cache
def _read_by_yaml(content: bytes) -> Any:
    return yaml.safe_load(content)


def _configs() -> list[bytes]:
    small = {
        "study": "mine",
        "models": [{"source": "hub:a/b@c", "label": "B"}],
        "statistics": {"seed": 3, "replicates": 200},
    }
    study = {key: value for key, value in TINY.items()}
    study["models"] = [{"name": "tiny", "source": "hub:a/b@c"}, {"name": "tiny-random", "source": "random:tiny"}]
    study["corpus"] = {"source": "hub:a/b@c"}
    local = {
        "study": "mine",
        "models": [{"name": "m", "source": f"path:{tiny()}"}],
        "corpus": {"source": f"path:{tiny().parent / 'text'}", "members": ["*.txt"]},
    }
    return [yaml.safe_dump(one, sort_keys=False).encode() for one in (small, study, local)]


# ---- the package index


def _answer() -> bytes:
    files = [{"filename": f"a-{n}.whl", "url": f"/a-{n}.whl", "hashes": {"sha256": str(n) * 64}} for n in (1, 2)]
    return json.dumps({"files": files, "meta": {"api-version": "1.1"}}).encode()


def _read_index(folder: Path, content: bytes) -> str:
    from sinkorigin.sources.package_index import file_of

    return file_of(content, "a==1", "1" * 64, "model m")


FORMATS: dict[str, Format] = {
    "safetensors": Format(lambda: [_small_header()], _read_safetensors, _damaged_safetensors, _check_safetensors, "model.safetensors"),
    "safetensors index": Format(lambda: [json.dumps(_INDEX).encode()], _shards, damaged_json, _check_shards, "safetensors"),
    "config.json of a model": Format(lambda: [(tiny() / "config.json").read_bytes()], _read_config, damaged_json, _check_config, "model m"),
    "model": Format(lambda: [(tiny() / "config.json").read_bytes()], _load("config.json"), damaged_json, name="model m"),
    "weights of a model": Format(lambda: [(tiny() / "model.safetensors").read_bytes()], _load("model.safetensors"), _damaged_safetensors, name="model m"),
    "tokenizer.json": Format(lambda: [(tiny() / "tokenizer.json").read_bytes()], _read_tokenizer("tokenizer.json"), damaged_json, name="model m"),
    "tokenizer_config.json": Format(lambda: [(tiny() / "tokenizer_config.json").read_bytes()], _read_tokenizer("tokenizer_config.json"), damaged_json, name="model m"),
    "tokenizer of a training": Format(lambda: [(tiny() / "tokenizer.json").read_bytes()], _take_tokenizer, damaged_json, name="pretraining.data.d.tokenizer"),
    "prompts of a model": Format(lambda: [(tiny() / "generation_config.json").read_bytes()], _draw_prompts("generation_config.json"), damaged_json, _check_prompts, "model m"),
    "prompts of a tokenizer": Format(lambda: [(tiny() / "tokenizer.json").read_bytes()], _draw_prompts("tokenizer.json"), damaged_json, _check_prompts, "model m"),
    "GGUF": Format(_ggufs, _read_gguf, _damaged_gguf, _check_gguf, "model.gguf"),
    "Parquet": Format(lambda: [_parquet(), _parquet(row_group_size=2, compression="zstd", write_page_checksum=True), _parquet(use_dictionary=False, compression="none")], _documents("a.parquet"), damaged_bytes, _check_parquet, "a.parquet"),
    "JSON lines": Format(lambda: [_lines()], _documents("a.jsonl"), damaged_bytes, _check_lines, "a.jsonl", whole=False),
    "JSON lines, values": Format(lambda: [b'{"text": "one", "n": [1, {"a": null}]}'], _documents("a.jsonl"), damaged_json, _check_lines, "a.jsonl", whole=False),
    "JSON lines, gzip": Format(lambda: [gzip.compress(_lines(), mtime=0)], _documents("a.jsonl.gz"), damaged_bytes, name="a.jsonl.gz"),
    "text": Format(lambda: ["\n\n".join(_TEXTS).encode(), "\n\n".join(_TEXTS).encode("utf-16"), "\n\n".join(_TEXTS[:2]).encode("latin-1")], _documents("a.txt"), damaged_bytes, _check_text, "a.txt", whole=False),
    "text, bzip2": Format(lambda: [bz2.compress("\n\n".join(_TEXTS).encode())], _documents("a.txt.bz2"), damaged_bytes, name="a.txt.bz2"),
    "text, zstd": Format(lambda: [pa.compress("\n\n".join(_TEXTS).encode(), "zstd", asbytes=True)], _documents("a.txt.zst"), damaged_bytes, name="a.txt.zst"),
    "zip": Format(lambda: [_zip(zipfile.ZIP_STORED), _zip(zipfile.ZIP_DEFLATED), _zip(zipfile.ZIP_LZMA)], _read_archive, damaged_bytes, _check_zip, "package.archive"),
    "tar": Format(lambda: [_tar("w:")], _read_archive, damaged_bytes, _check_tar, "package.archive", whole=False),
    "tar, compressed": Format(lambda: [_tar("w:gz"), _tar("w:bz2"), _tar("w:xz")], _read_archive, damaged_bytes, name="package.archive"),
    "manifest": Format(_own_file("site/manifest.json"), _own("site/manifest.json"), damaged_json, _unchanged("site/manifest.json"), "results/study/site"),
    "JSON with a seal": Format(_own_file("facts.json"), _own("facts.json"), damaged_json, _unchanged("facts.json"), "facts.json"),
    "table with a seal": Format(_own_file("norms.parquet"), _own("norms.parquet"), damaged_bytes, _unchanged("norms.parquet"), "norms.parquet"),
    "YAML config": Format(_configs, _read_yaml, _damaged_yaml, name="", whole=False, sentences=True),
    "package index": Format(lambda: [_answer()], _read_index, damaged_json, name="model m"),
}  # fmt: skip
