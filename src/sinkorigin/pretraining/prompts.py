"""Prompts for models that are trained here, from the data they trained on: held-out text, and random tokens."""

from pathlib import Path

import numpy as np

from sinkorigin.corpora.prompts import (
    by_turns,
    fixed_token_id,
    ordinary_token_ids,
    random_tokens,
    with_first_token,
    write_prompts,
)
from sinkorigin.errors import SinkoriginError
from sinkorigin.pretraining.data import Tokens, load_tokens, tokenizer_sha256
from sinkorigin.tables import checked_directory

_AT_ONCE = 1 << 22  # tokens of the validation split that are searched for ends of documents at once


def held_out_windows(
    tokens: Tokens, sequences: int, length: int, seed: int, *, room: bool, data: str
) -> tuple[np.ndarray, np.ndarray]:
    """Windows of the validation split, none of which overlaps another or spans two documents.

    They lie a window apart, without those in which a document ends. Documents give theirs by turns, see :func:`by_turns`.

    Args:
        room: whether a window is one token shorter and lies that much nearer to the next, as in a training in which each
            sequence begins with the end-of-text token, which stands at position 0 then.
        data: name of the data, for messages.

    Returns:
        Ids (sequences, length), and (sequences,) number of the document of each in the split.

    Raises:
        SinkoriginError: there are too few such windows.
    """
    body = length - room
    ends = _ends(tokens)
    starts = np.arange(len(tokens.validation) // body) * body
    documents = np.searchsorted(ends, starts)
    inside = documents == np.searchsorted(ends, starts + body)
    starts, documents = starts[inside], documents[inside]
    if len(starts) < sequences:
        raise SinkoriginError(
            f"data {data}: the validation split has {len(starts)} windows of {length} tokens inside a "
            f"document, but the prompt set has {sequences} sequences; lower sequences or length of this prompt set, or hold "
            "out more of the data"
        )
    chosen = by_turns(documents, sequences, seed)
    ids = np.stack([np.asarray(tokens.validation[start : start + body], dtype=np.int64) for start in starts[chosen]])
    return (np.insert(ids, 0, tokens.eos, axis=1) if room else ids), documents[chosen]


def _ends(tokens: Tokens) -> np.ndarray:
    """Places of the end-of-text tokens of the validation split, one after every document."""
    found = [
        start + np.flatnonzero(tokens.validation[start : start + _AT_ONCE] == tokens.eos)
        for start in range(0, len(tokens.validation), _AT_ONCE)
    ]
    return np.concatenate(found)


def make_data_prompts(
    path: str | Path,
    *,
    data: str,
    tokenizer_directory: str | Path,
    tokens_directory: str | Path,
    kind: str,
    sequences: int,
    length: int,
    seed: int,
    first_token: str,
    trained_with_first_token: bool,
) -> None:
    """Draw a prompt set for the models that are trained on these data and write it to ``path``.

    Args:
        data: their name, for messages.
        kind: "natural_text", from the validation split, or "random_tokens".
        sequences, length: shape of the set.
        first_token: "drawn", "bos", which is the end-of-text token, or "fixed": what stands at position 0.
        trained_with_first_token: whether every training sequence began with the end-of-text token; each prompt of text whose
            first token is drawn then does too, as these models never saw text without it.

    Raises:
        SinkoriginError: the token files were made with another tokenizer, or their validation split is too short.
    """
    from transformers import PreTrainedTokenizerFast

    directory = checked_directory(tokenizer_directory)
    tokens = load_tokens(tokens_directory)
    if tokens.tokenizer_sha256 != tokenizer_sha256(directory):
        raise SinkoriginError(
            f"data {data}: {tokens_directory} was made with another tokenizer than the one in {directory}; delete both and "
            "run the same command again"
        )
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
    ids = ordinary_token_ids(tokenizer, tokens.vocabulary)
    text, documents = kind == "natural_text", None
    if text:
        token_ids, numbers = held_out_windows(tokens, sequences, length, seed, room=trained_with_first_token, data=data)
        documents = [f"document {number} of the validation split" for number in numbers]
    else:
        token_ids = random_tokens(ids, sequences, length, seed)
    if first_token != "drawn":
        token = tokens.eos if first_token == "bos" else fixed_token_id(ids, seed)
        token_ids = with_first_token(token_ids, token, shift=text and not trained_with_first_token)
    write_prompts(path, token_ids, tokenizer, documents)
