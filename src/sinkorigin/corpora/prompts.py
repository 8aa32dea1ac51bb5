"""Prompts: random tokens and windows of natural text, both drawn from a seed, under three conditions of the first token.

At position 0 stands an ordinary token, another one in each sequence (``drawn``); the model's BOS (``bos``); or one ordinary
token in every sequence (``fixed``). Sets that differ in this alone differ as little as they can: random tokens at position 0
only, text by that token and by the last one of each window, for which it makes no room.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.models.files import library_errors, read_config, read_dictionary
from sinkorigin.models.shapes import check_prompt_length, stated, text_config
from sinkorigin.models.tokenizer import has_tokenizer, load_tokenizer

SCHEMA = tables.schema(
    sequence=(pa.int32(), "number of the sequence, from 0"),
    token_ids=(pa.list_(pa.int32()), "the token ids, all sequences equally long"),
    tokens=(pa.list_(pa.string()), "the tokens as the tokenizer writes them"),
    text=(pa.string(), "the decoded tokens"),
    document=(
        pa.string(),
        "held-out document that a window of text comes from, over which intervals resample; null: random tokens",
    ),
)

_FIXED = 1  # with a set's seed, that of the fixed first token

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
    excluded = _special_ids(tokenizer)
    return np.array(
        sorted(
            index
            for token, index in tokenizer.get_vocab().items()
            if index < vocabulary and index not in excluded and not _RESERVED.match(token)
        ),
        dtype=np.int64,
    )


def _special_ids(tokenizer) -> set[int]:
    return set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)


def ids_without_tokenizer(config: Mapping[str, Any], vocabulary: int) -> np.ndarray:
    """Ids that a random token of a model without a tokenizer may have: rows of the embedding that its config calls nothing.

    Args:
        config: of the model; each of its keys ``…_token_id``, ``…_token_ids`` and ``…_token_index`` names special ids.
        vocabulary: number of rows of the embedding matrix.

    Returns:
        Sorted int64 array.
    """
    special = [
        index
        for key, value in config.items()
        if re.search(r"_token_(ids?|index)$", key)
        for index in (value if isinstance(value, list) else [value])
        if isinstance(index, int)
    ]
    return np.setdiff1d(np.arange(vocabulary), special)


def bos_token_id(tokenizer, config: Mapping[str, Any], vocabulary: int) -> int | None:
    """Id of a model's BOS: its tokenizer's, else that of its config, if the tokenizer counts it among its special tokens.

    Configs have a BOS by default, so that the id of one that the tokenizer lacks can be that of any token.

    Args:
        tokenizer: of the model; None where it has none, and its config alone is asked.
        config: of the model.
        vocabulary: number of rows of the embedding matrix; an id beyond them is none.
    """
    stated = config.get("bos_token_id")
    if tokenizer is None:
        index = stated
    elif tokenizer.bos_token_id is not None:
        index = tokenizer.bos_token_id
    else:
        index = next((special for special in _special_ids(tokenizer) if special == stated), None)
    return index if isinstance(index, int) and 0 <= index < vocabulary else None


def fixed_token_id(ids: np.ndarray, seed: int) -> int:
    """One of the ordinary ``ids``, drawn with the seed of a prompt set: the first token of each of its sequences."""
    return int(np.random.default_rng([seed, _FIXED]).choice(ids))


def with_first_token(token_ids: np.ndarray, token: int | None, *, shift: bool) -> np.ndarray:
    """(sequences, length) ids that begin with ``token``; as they are where it is None.

    Args:
        shift: whether the others move on by one, so that the last goes, as text must; else ``token`` replaces the first.
    """
    if token is None:
        return token_ids
    rest = token_ids[:, :-1] if shift else token_ids[:, 1:]
    return np.insert(rest, 0, token, axis=1)


def random_tokens(ids: np.ndarray, sequences: int, length: int, seed: int) -> np.ndarray:
    """(sequences, length) ids drawn uniformly and independently from ``ids``; no BOS."""
    return np.random.default_rng(seed).choice(ids, size=(sequences, length))


def by_turns(documents: np.ndarray, sequences: int, seed: int) -> np.ndarray:
    """Places of windows, drawn so that they come from as many documents as there are: each gives one before any gives another.

    Intervals resample documents, so a prompt set tells most where it has many, each with about equally many windows; and its first
    sequences, which interventions run, come from as many as they can.

    Args:
        documents: (windows,) number of the document of each window.
        sequences: how many are drawn.
        seed: of the order in which documents, and the windows of each, are taken.
    """
    order = np.random.default_rng(seed).permutation(len(documents))
    shuffled = documents[order]
    grouped = np.argsort(shuffled, kind="stable")
    _, sizes = np.unique(shuffled, return_counts=True)
    turn = np.empty(len(documents), dtype=np.int64)
    turn[grouped] = np.arange(len(documents)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return order[np.argsort(turn, kind="stable")[:sequences]]


def natural_text(
    tokenizer, documents: Sequence[str], sequences: int, length: int, seed: int, *, model: str
) -> tuple[np.ndarray, list[int]]:
    """Disjoint windows of ``documents``, each starting at a paragraph.

    A window runs over the following paragraphs of the same document until it is full, and no window overlaps another. Documents give
    theirs by turns, see :func:`by_turns`.

    Returns:
        (sequences, length) ids, and the number of the document of each.

    Raises:
        SinkoriginError: the text is too short, or the tokenizer cannot read it.
    """
    windows: list[list[int]] = []
    sources: list[int] = []
    for number, text in enumerate(documents):
        paragraphs = [part.strip() + "\n\n" for part in re.split(r"\n\s*\n", text) if part.strip()]
        if not paragraphs:
            continue
        with library_errors(f"model {model}: its tokenizer cannot read the corpus", "take intact tokenizer files"):
            encoded = tokenizer(paragraphs, add_special_tokens=False)["input_ids"]
        start = 0
        while start < len(paragraphs):
            window: list[int] = []
            end = start
            while end < len(paragraphs) and len(window) < length:
                window += encoded[end]
                end += 1
            if len(window) >= length:
                windows.append(window[:length])
                sources.append(number)
            start = end
    if len(windows) < sequences:
        raise SinkoriginError(
            f"model {model}: the corpus gives {len(windows)} windows of {length} tokens but {sequences} sequences are "
            "wanted; lower sequences or length of this prompt set, or raise the corpus' validation_share"
        )
    chosen = by_turns(np.array(sources), sequences, seed)
    return np.array([windows[i] for i in chosen], dtype=np.int64), [sources[i] for i in chosen]


def write_prompts(path: str | Path, token_ids: np.ndarray, tokenizer, documents: Sequence[str] | None = None) -> None:
    """Write the prompt table of (sequences, length) ids.

    Args:
        tokenizer: None where the model has none: its tokens are written as their ids then, and there is no text.
        documents: name of the document of each sequence; None for random tokens.
    """
    rows = token_ids.tolist()
    tables.write_table(
        path,
        {
            "sequence": np.arange(len(token_ids), dtype=np.int32),
            "token_ids": pa.array(rows, type=pa.list_(pa.int32())),
            "tokens": pa.array(
                [list(map(str, row)) if tokenizer is None else tokenizer.convert_ids_to_tokens(row) for row in rows]
            ),
            "text": pa.array([None if tokenizer is None else tokenizer.decode(row) for row in rows], type=pa.string()),
            "document": pa.array(documents or [None] * len(rows), type=pa.string()),
        },
        SCHEMA,
    )


def read_token_ids(path: str | Path) -> np.ndarray:
    """Read the (sequences, length) int64 ids of a prompt table."""
    return np.array(tables.read_table(path, ["token_ids"]).column("token_ids").to_pylist(), dtype=np.int64)


def begin_alike(path: str | Path) -> bool:
    """Whether all sequences of a prompt table begin with the same token, so that position 0 has no variance over them."""
    return len(set(read_token_ids(path)[:, 0])) == 1


def _stated_ids(directory: Path, config: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Keys of a model's generation_config.json, its config.json, and the latter's part on text; the last of these decides."""
    file = directory / "generation_config.json"
    found = read_dictionary(file, what) if file.is_file() else {}
    for part in (config, text_config(config)):
        found |= {key: value for key, value in part.items() if value is not None}
    return found


def _embedding_rows(directory: Path, trust_remote_code: bool) -> int:
    """Number of rows of a model's embedding matrix.

    Raises:
        SinkoriginError: its config.json does not say.
    """
    what = f"model {directory.name}"
    config = read_config(directory, what)
    rows = stated(text_config(config), "vocabulary")
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
    first_token: str,
    corpus: str | Path | None = None,
    trust_remote_code: bool = False,
    unread: str | None = None,
) -> None:
    """Draw a prompt set for the model in ``directory`` and write it to ``path``.

    A set that is not defined for the model is written as not applicable: one that begins with BOS, of a model without BOS,
    and text, of a model without a tokenizer.

    Args:
        path: path of the table; its stem is the name of the prompt set, for messages.
        model: name of the model, for messages.
        kind: "random_tokens", or "natural_text" from the held-out documents of ``corpus``.
        sequences, length: shape of the prompt set.
        seed: seed of the draw.
        first_token: "drawn", "bos" or "fixed": what stands at position 0.
        unread: pattern of the model's files that are not verified, since prompts do not depend on them: the weights.

    Raises:
        SinkoriginError: the model has learned fewer positions, the tokenizer lacks the ids or has others than the model,
            or the held-out text is too short.
    """
    directory = tables.checked_directory(directory, unread=unread)
    what = f"model {model}"
    config = read_config(directory, what)
    check_prompt_length(config, length, model=model, prompts=Path(path).stem)
    rows = _embedding_rows(directory, trust_remote_code)
    stated_ids = _stated_ids(directory, config, what)
    tokenizer = load_tokenizer(directory, what, trust_remote_code) if has_tokenizer(directory) else None
    text, first = kind == "natural_text", None
    if text and tokenizer is None:
        tables.write_not_applicable(path, "the model has no tokenizer, so it reads no text", SCHEMA)
        return
    if first_token == "bos":
        first = bos_token_id(tokenizer, stated_ids, rows)
        if first is None:
            tables.write_not_applicable(path, "the model has no BOS token", SCHEMA)
            return
    documents = None
    ids = ids_without_tokenizer(stated_ids, rows) if tokenizer is None else ordinary_token_ids(tokenizer, rows)
    if len(ids) < 2 and (first_token == "fixed" or not text):
        raise SinkoriginError(
            f"model {model}: its tokenizer has {len(ids)} ordinary tokens, random prompts need at least 2; "
            "check the model's tokenizer files"
        )
    if first_token == "fixed":
        first = fixed_token_id(ids, seed)
    if text:
        held_out = [row for row in tables.read_table(corpus).to_pylist() if row["split"] == "validation"]
        texts = [row["text"] for row in held_out]
        token_ids, sources = natural_text(tokenizer, texts, sequences, length, seed, model=model)
        documents = [held_out[number]["document"] for number in sources]
        if token_ids.max() >= rows:
            token = tokenizer.convert_ids_to_tokens(int(token_ids.max()))
            raise SinkoriginError(
                f"model {model}: its tokenizer gives {token!r} the id {token_ids.max()}, but its embedding has {rows} rows; "
                "take the tokenizer that the model was trained with"
            )
    else:
        token_ids = random_tokens(ids, sequences, length, seed)
    write_prompts(path, with_first_token(token_ids, first, shift=text), tokenizer, documents)
