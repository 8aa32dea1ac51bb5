"""Token files, and batches as a pure function of seed and step."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sinkorigin.errors import SinkoriginError
from sinkorigin.tables import atomic_directory, checked_directory

SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Tokens:
    """A tokenized corpus: both splits, memory-mapped."""

    train: np.ndarray
    validation: np.ndarray
    vocabulary: int
    eos: int
    tokenizer_sha256: str


def tokenizer_sha256(tokenizer_directory: str | Path) -> str:
    """The hash by which token files and the tokenizer that made them know each other."""
    return hashlib.sha256((Path(tokenizer_directory) / "tokenizer.json").read_bytes()).hexdigest()


def _documents(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    """(splits, texts) of a few documents at a time."""
    try:
        with pq.ParquetFile(path) as file:
            for rows in file.iter_batches(batch_size=64, columns=["split", "text"]):
                yield rows["split"].to_pylist(), rows["text"].to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise SinkoriginError(f"{path} cannot be read as Parquet; delete it and run the same command again") from error


def tokenize_documents(documents: str | Path, tokenizer_directory: str | Path, destination: str | Path) -> None:
    """Write ``train.bin`` and ``validation.bin`` (token ids, little-endian uint16 or uint32) and ``meta.json``.

    Each document is followed by the end-of-text token. Memory does not grow with the corpus.

    Args:
        documents: a table with the columns document, split ("train" or "validation") and text.
        tokenizer_directory: what ``train_tokenizer`` wrote.
        destination: the directory to write.

    Raises:
        SinkoriginError: a split has no document, or an input is incomplete.
    """
    # tokenizers alone, not transformers: this job starts without importing torch
    from tokenizers import Tokenizer

    tokenizer_directory = checked_directory(tokenizer_directory)
    tokenizer = Tokenizer.from_file(str(tokenizer_directory / "tokenizer.json"))
    eos_token = json.loads((tokenizer_directory / "tokenizer_config.json").read_text())["eos_token"]
    eos, vocabulary = tokenizer.token_to_id(eos_token), tokenizer.get_vocab_size()
    dtype = np.dtype("<u2" if vocabulary <= 1 << 16 else "<u4")
    sizes = {split: {"documents": 0, "tokens": 0} for split in SPLITS}
    with atomic_directory(destination) as directory:
        files = {split: (directory / f"{split}.bin").open("wb") for split in SPLITS}
        try:
            for splits, texts in _documents(Path(documents)):
                encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
                for split, encoding in zip(splits, encodings, strict=True):
                    ids = np.array([*encoding.ids, eos], dtype=dtype)
                    files[split].write(ids.tobytes())
                    sizes[split]["documents"] += 1
                    sizes[split]["tokens"] += len(ids)
        finally:
            for file in files.values():
                file.close()
        for split, size in sizes.items():
            if not size["documents"]:
                raise SinkoriginError(f"{documents} has no {split} document; check the corpus' split in the config")
        meta = {"vocabulary": vocabulary, "eos": eos, "dtype": dtype.str, **sizes}
        meta["tokenizer_sha256"] = tokenizer_sha256(tokenizer_directory)
        (directory / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def load_tokens(directory: str | Path) -> Tokens:
    """The token files in ``directory``, memory-mapped.

    Raises:
        SinkoriginError: the directory is incomplete.
    """
    directory = checked_directory(directory)
    meta = json.loads((directory / "meta.json").read_text())
    train, validation = (np.memmap(directory / f"{split}.bin", dtype=meta["dtype"], mode="r") for split in SPLITS)
    return Tokens(train, validation, meta["vocabulary"], meta["eos"], meta["tokenizer_sha256"])


def _windows(tokens: np.ndarray, starts: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    windows = tokens[starts[:, None] + np.arange(length + 1)].astype(np.int64)  # (N, T + 1)
    return windows[:, :-1], windows[:, 1:]


def batch(tokens: np.ndarray, *, seed: int, step: int, batch: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The training batch of a step: windows at places drawn uniformly from the whole split.

    A pure function of its arguments, so that a resumed run sees the same data and so do two variants with one seed.

    Returns:
        inputs and targets, each (batch, length) int64; the targets are one token later.

    Raises:
        SinkoriginError: the split has fewer than ``length + 1`` tokens.
    """
    if len(tokens) <= length:
        raise SinkoriginError(
            f"the training split has {len(tokens)} tokens, fewer than a window of length {length} needs "
            f"({length + 1}); set a shorter length in the config or take a larger corpus"
        )
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, step))))
    return _windows(tokens, generator.integers(0, len(tokens) - length, size=batch), length)


def validation_windows(tokens: np.ndarray, *, count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """At most ``count`` windows that do not overlap, spread evenly over the split: the same for every run and seed.

    Returns:
        inputs and targets, each (windows, length) int64.

    Raises:
        SinkoriginError: the split has fewer than ``length + 1`` tokens.
    """
    available = (len(tokens) - 1) // length
    if available < 1:
        raise SinkoriginError(
            f"the validation split has {len(tokens)} tokens, fewer than a window of length {length} needs "
            f"({length + 1}); set a shorter length in the config or hold out more documents"
        )
    count = min(count, available)
    return _windows(tokens, np.arange(count) * available // count * length, length)
