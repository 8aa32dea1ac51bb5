"""Token files, and batches as a pure function of seed and step."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sinkorigin.errors import SinkoriginError
from sinkorigin.tables import atomic_directory, checked_directory, remedy

SPLITS = ("train", "validation")
SHARD = 1 << 28  # tokens in a file, at most: half a gigabyte at two bytes each
_TEXT = 1 << 22  # characters tokenized at once, so that memory does not grow with the corpus


class Split:
    """Tokens of one split, in memory-mapped shards that read as one array.

    It is indexed by a number, a slice or an integer array of any shape, and gives what a NumPy array would; only the
    pages that hold these tokens are read.
    """

    def __init__(self, shards: Sequence[np.ndarray]):
        self.shards = list(shards)
        self.dtype = self.shards[0].dtype
        self._ends = np.cumsum([len(shard) for shard in self.shards])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index):
        if len(self.shards) == 1:
            return self.shards[0][index]
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        index = np.asarray(index)
        index = np.where(index < 0, index + len(self), index)
        if index.size and not 0 <= index.min() <= index.max() < len(self):
            raise IndexError(f"index beyond the {len(self)} tokens of the split")
        shards = np.searchsorted(self._ends, index, side="right")
        found = np.empty(index.shape, dtype=self.dtype)
        for number in np.unique(shards):
            here = shards == number
            shard = self.shards[number]
            found[here] = shard[index[here] - (self._ends[number] - len(shard))]
        return found[()]


@dataclass(frozen=True)
class Tokens:
    """Tokenized data: both splits, memory-mapped."""

    train: Split
    validation: Split
    vocabulary: int  # ids are below this
    eos: int  # id of the end-of-text token, which stands after every document
    tokenizer_sha256: str  # hash of the tokenizer that made them


def tokenizer_sha256(tokenizer_directory: str | Path) -> str:
    """Hash of a tokenizer, which token files made with it carry."""
    return hashlib.sha256((Path(tokenizer_directory) / "tokenizer.json").read_bytes()).hexdigest()


class TokenWriter:
    """Writer that appends documents to the token files of a directory, see ``token_directory``."""

    def __init__(self, directory: Path, *, vocabulary: int, eos: int, shard: int):
        self.facts: dict[str, Any] = {}  # further entries of meta.json
        self.sizes = {split: {"documents": 0, "tokens": 0} for split in SPLITS}
        self.dtype = np.dtype("<u2" if vocabulary <= 1 << 16 else "<u4")
        self._directory, self._eos, self._shard = directory, eos, shard
        self._files: dict[str, IO[bytes]] = {}

    def write(self, split: str, ids: Sequence[int] | np.ndarray) -> None:
        """Append one document and the end-of-text token."""
        document = np.append(np.asarray(ids, dtype=self.dtype), self.dtype.type(self._eos))
        size = self.sizes[split]
        while len(document):
            number, filled = divmod(size["tokens"], self._shard)
            if not filled:
                self.close(split)
                self._files[split] = (self._directory / f"{split}-{number:04d}.bin").open("wb")
            part, document = np.split(document, [self._shard - filled])
            self._files[split].write(part.tobytes())
            size["tokens"] += len(part)
        size["documents"] += 1

    def close(self, *splits: str) -> None:
        """Close the files of some splits."""
        for split in splits:
            if split in self._files:
                self._files.pop(split).close()


@contextmanager
def token_directory(
    destination: str | Path, tokenizer_directory: Path, *, vocabulary: int, eos: int, shard: int = SHARD
) -> Iterator[TokenWriter]:
    """Write token files: ``{split}-0000.bin`` and so on, and ``meta.json`` when the block ends.

    Args:
        vocabulary: ids are below this; up to 2^16 they take two bytes each, else four, little-endian.
        eos: id of the end-of-text token, written after every document.
        shard: largest number of tokens in a file.

    Raises:
        SinkoriginError: the disk is full.
    """
    with atomic_directory(destination) as directory:
        writer = TokenWriter(directory, vocabulary=vocabulary, eos=eos, shard=shard)
        try:
            yield writer
        finally:
            writer.close(*SPLITS)
        meta = {"vocabulary": vocabulary, "eos": eos, "dtype": writer.dtype.str, **writer.sizes, **writer.facts}
        meta["tokenizer_sha256"] = tokenizer_sha256(tokenizer_directory)
        (directory / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def _documents(path: Path) -> Iterator[list[tuple[str, str]]]:
    """Split and text of a few documents at a time."""
    try:
        with pq.ParquetFile(path) as file:
            for rows in file.iter_batches(batch_size=64, columns=["split", "text"]):
                documents, characters = [], 0
                for split, text in zip(rows["split"], rows["text"], strict=True):
                    documents.append((split.as_py(), text.as_py()))
                    characters += len(documents[-1][1])
                    if characters > _TEXT:
                        yield documents
                        documents, characters = [], 0
                if documents:
                    yield documents
    except (OSError, pa.ArrowInvalid) as error:
        raise SinkoriginError(f"{path} cannot be read as Parquet; {remedy(path)}") from error


def training_texts(documents: str | Path) -> Iterator[str]:
    """Texts of the training split of a table of documents, a few in memory at a time."""
    for group in _documents(Path(documents)):
        yield from (text for split, text in group if split == "train")


def tokenize_documents(
    documents: str | Path, tokenizer_directory: str | Path, destination: str | Path, *, shard: int = SHARD
) -> None:
    """Write the documents of both splits as token files, see ``token_directory``; memory does not grow with the corpus.

    Args:
        documents: a table with the columns document, split ("train" or "validation") and text.
        tokenizer_directory: what ``train_tokenizer`` or ``take_tokenizer`` wrote.

    Raises:
        SinkoriginError: a split has no document, or an input is incomplete.
    """
    # tokenizers alone, not transformers: this job starts without importing torch
    from tokenizers import Tokenizer

    tokenizer_directory = checked_directory(tokenizer_directory)
    tokenizer = Tokenizer.from_file(str(tokenizer_directory / "tokenizer.json"))
    eos = tokenizer.token_to_id(json.loads((tokenizer_directory / "tokenizer_config.json").read_text())["eos_token"])
    vocabulary = 1 + max(tokenizer.get_vocab().values())  # ids may have gaps
    with token_directory(destination, tokenizer_directory, vocabulary=vocabulary, eos=eos, shard=shard) as writer:
        for group in _documents(Path(documents)):
            encodings = tokenizer.encode_batch_fast([text for _, text in group], add_special_tokens=False)
            for (split, _), encoding in zip(group, encodings, strict=True):
                writer.write(split, encoding.ids)
        for split, size in writer.sizes.items():
            if not size["documents"]:
                raise SinkoriginError(f"{documents} has no {split} document; check the corpus' split in the config")


def load_tokens(directory: str | Path) -> Tokens:
    """Token files in ``directory``, memory-mapped.

    Raises:
        SinkoriginError: the directory is incomplete.
    """
    directory = checked_directory(directory)
    meta = json.loads((directory / "meta.json").read_text())
    train, validation = (
        Split([np.memmap(file, dtype=meta["dtype"], mode="r") for file in sorted(directory.glob(f"{split}-*.bin"))])
        for split in SPLITS
    )
    return Tokens(train, validation, meta["vocabulary"], meta["eos"], meta["tokenizer_sha256"])


def _windows(
    tokens: np.ndarray | Split, starts: np.ndarray, length: int, first: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, each (N, T): the tokens from each start on, with the token ``first`` before them, if any."""
    windows = tokens[starts[:, None] + np.arange(length + (first is None))].astype(np.int64)
    if first is not None:
        windows = np.insert(windows, 0, first, axis=1)
    return windows[:, :-1], windows[:, 1:]  # of (N, T + 1)


def batch(
    tokens: np.ndarray | Split, *, seed: int, step: int, batch: int, length: int, first: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Training batch of a step: windows at places drawn uniformly from the whole split.

    A pure function of its arguments, so that a resumed run sees the same data and so do two variants with one seed.

    Args:
        first: id of a token that is set before every window; its last input then is the window's last token but one.

    Returns:
        inputs and targets, each (batch, length) int64; the targets are one token later.

    Raises:
        SinkoriginError: the split is shorter than a window.
    """
    needed = length + (first is None)
    if len(tokens) < needed:
        raise SinkoriginError(
            f"the training split has {len(tokens)} tokens, fewer than a window of length {length} needs "
            f"({needed}); set a shorter length in the config or take a larger corpus"
        )
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, step))))
    return _windows(tokens, generator.integers(0, len(tokens) - needed + 1, size=batch), length, first)


def validation_windows(
    tokens: np.ndarray | Split, *, count: int, length: int, first: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """At most ``count`` windows that do not overlap, spread evenly over the split; every run and seed has the same.

    Args:
        first: id of a token that is set before every window, as in ``batch``.

    Returns:
        inputs and targets, each (windows, length) int64.

    Raises:
        SinkoriginError: the split is shorter than a window.
    """
    more = int(first is None)  # a window's last target, which the next window may begin with
    available = (len(tokens) - more) // length
    if available < 1:
        raise SinkoriginError(
            f"the validation split has {len(tokens)} tokens, fewer than a window of length {length} needs "
            f"({length + more}); set a shorter length in the config or hold out more documents"
        )
    count = min(count, available)
    return _windows(tokens, np.arange(count) * available // count * length, length, first)
