"""Prompts: random tokens and windows of natural text, both drawn from a seed."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.models.files import library_errors, read_config
from sinkorigin.models.shapes import check_prompt_length, stated, text_config
from sinkorigin.models.tokenizer import load_tokenizer

SCHEMA = tables.schema(
    sequence=(pa.int32(), "number of the sequence, from 0"),
    token_ids=(pa.list_(pa.int32()), "the token ids, all sequences equally long"),
    tokens=(pa.list_(pa.string()), "the tokens as the tokenizer writes them"),
    text=(pa.string(), "the decoded tokens"),
)

# names that vocabularies give to ids which no training text contains
_RESERVED = re.compile(
    r"^[<\[]\|?(reserved|unused|placeholder|extra_id|extra_token|dummy|pad|fim|madeupword)[^>\]]*[>\]]$", re.IGNORECASE
)


def ordinary_token_ids(tokenizer, vocabulary: int) -> np.ndarray:
    """Ids that a random token may have: known to the tokenizer, inside the embedding, not special, added or reserved.

    Args:
        tokenizer: a transformers tokenizer.
        vocabulary: number of rows of the embedding matrix, which may be more (padding rows) or fewer than the tokenizer has.

    Returns:
        Sorted int64 array.
    """
    excluded = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return np.array(
        sorted(
            index
            for token, index in tokenizer.get_vocab().items()
            if index < vocabulary and index not in excluded and not _RESERVED.match(token)
        ),
        dtype=np.int64,
    )


def random_tokens(ids: np.ndarray, sequences: int, length: int, seed: int) -> np.ndarray:
    """(sequences, length) ids drawn uniformly and independently from ``ids``; no BOS."""
    return np.random.default_rng(seed).choice(ids, size=(sequences, length))


def natural_text(
    tokenizer, documents: Sequence[str], sequences: int, length: int, seed: int, *, bos: bool, model: str
) -> np.ndarray:
    """(sequences, length) ids of disjoint windows of ``documents``, each starting at a paragraph.

    Paragraphs are visited in a seeded order; a window runs over the following paragraphs of the same document until it
    is full, and no window overlaps another.

    Raises:
        SinkoriginError: the tokenizer has no BOS although ``bos`` is true, or the text is too short.
    """
    if bos and tokenizer.bos_token_id is None:
        raise SinkoriginError(f"model {model}: its tokenizer has no BOS token; set bos: false for this prompt set")
    prefix = [tokenizer.bos_token_id] if bos else []
    body = length - len(prefix)
    windows: list[list[int]] = []
    for text in documents:
        paragraphs = [part.strip() + "\n\n" for part in re.split(r"\n\s*\n", text) if part.strip()]
        if not paragraphs:
            continue
        with library_errors(f"model {model}: its tokenizer cannot read the corpus", "take intact tokenizer files"):
            encoded = tokenizer(paragraphs, add_special_tokens=False)["input_ids"]
        start = 0
        while start < len(paragraphs):
            window: list[int] = []
            end = start
            while end < len(paragraphs) and len(window) < body:
                window += encoded[end]
                end += 1
            if len(window) >= body:
                windows.append(prefix + window[:body])
            start = end
    if len(windows) < sequences:
        raise SinkoriginError(
            f"model {model}: the corpus gives {len(windows)} windows of {length} tokens but {sequences} sequences are "
            "wanted; lower sequences or length of this prompt set, or raise the corpus' validation_share"
        )
    chosen = np.random.default_rng(seed).choice(len(windows), size=sequences, replace=False)
    return np.array([windows[i] for i in chosen], dtype=np.int64)


def write_prompts(path: str | Path, token_ids: np.ndarray, tokenizer) -> None:
    """Write the prompt table of (sequences, length) ids."""
    tables.write_table(
        path,
        {
            "sequence": np.arange(len(token_ids), dtype=np.int32),
            "token_ids": pa.array([row.tolist() for row in token_ids], type=pa.list_(pa.int32())),
            "tokens": pa.array([tokenizer.convert_ids_to_tokens(row) for row in token_ids.tolist()]),
            "text": [tokenizer.decode(row) for row in token_ids.tolist()],
        },
        SCHEMA,
    )


def read_token_ids(path: str | Path) -> np.ndarray:
    """Read the (sequences, length) int64 ids of a prompt table."""
    return np.array(tables.read_table(path, ["token_ids"]).column("token_ids").to_pylist(), dtype=np.int64)


def _embedding_rows(directory: Path, trust_remote_code: bool) -> int:
    """Number of rows of a model's embedding matrix.

    Raises:
        SinkoriginError: its config.json does not say.
    """
    what = f"model {directory.name}"
    config = read_config(directory, what)
    text = text_config(config)
    rows = stated(text, "vocabulary") if isinstance(text, dict) else None
    if rows is None:  # the default of the model's class, which imports PyTorch
        with library_errors(f"{what}: its config.json cannot be read", "take an intact copy"):
            from transformers import AutoConfig

            loaded = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=trust_remote_code)
            rows = loaded.get_text_config(decoder=True).vocab_size
    if not isinstance(rows, int):
        raise SinkoriginError(f"{what}: vocab_size in its config.json is {rows!r}, not a number; take an intact copy")
    return rows


def make_prompts(
    path: str | Path,
    *,
    model: str,
    directory: str | Path,
    kind: str,
    sequences: int,
    length: int,
    seed: int,
    bos: bool,
    corpus: str | Path | None = None,
    trust_remote_code: bool = False,
    unread: str | None = None,
) -> None:
    """Draw a prompt set for the model in ``directory`` and write it to ``path``.

    Args:
        path: path of the table; its stem is the name of the prompt set, for messages.
        model: name of the model, for messages.
        kind: "random_tokens", or "natural_text" from the held-out documents of ``corpus``.
        sequences, length: shape of the prompt set.
        seed: seed of the draw.
        bos: whether windows of text begin with the tokenizer's BOS.
        unread: pattern of the model's files that are not verified, since prompts do not depend on them: the weights.

    Raises:
        SinkoriginError: the model has learned fewer positions, the tokenizer lacks the ids or has others than the model,
            or the held-out text is too short.
    """
    directory = tables.checked_directory(directory, unread=unread)
    config = read_config(directory, f"model {model}")
    check_prompt_length(config, length, model=model, prompts=Path(path).stem)
    rows = _embedding_rows(directory, trust_remote_code)
    tokenizer = load_tokenizer(directory, f"model {model}", trust_remote_code)
    if kind == "random_tokens":
        ids = ordinary_token_ids(tokenizer, rows)
        if len(ids) < 2:
            raise SinkoriginError(
                f"model {model}: its tokenizer has {len(ids)} ordinary tokens, random prompts need at least 2; "
                "check the model's tokenizer files"
            )
        token_ids = random_tokens(ids, sequences, length, seed)
    else:
        documents = tables.read_table(corpus).to_pylist()
        held_out = [row["text"] for row in documents if row["split"] == "validation"]
        token_ids = natural_text(tokenizer, held_out, sequences, length, seed, bos=bos, model=model)
        if token_ids.max() >= rows:
            token = tokenizer.convert_ids_to_tokens(int(token_ids.max()))
            raise SinkoriginError(
                f"model {model}: its tokenizer gives {token!r} the id {token_ids.max()}, but its embedding has {rows} rows; "
                "take the tokenizer that the model was trained with"
            )
    write_prompts(path, token_ids, tokenizer)
