"""Token ids in any of the forms that a notebook has them in, as one array without padding."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from sinkorigin.errors import SinkoriginError

_FEWEST = 2  # tokens of a sequence: the score of position 0 needs a later query


def read_token_ids(given: Any, *, vocabulary: int, padding_id: int | None = None) -> np.ndarray:
    """Sequences of equal length, whose first tokens stand at position 0.

    Statistics by position compare the k-th token of every sequence, so padding is taken away on either side, and longer
    sequences are cut to the shortest, with a warning. In a causal model the tokens that are cut off change nothing before them.

    Args:
        given: lists of ids, one a sequence, or one alone; an (N, T) or (T,) array or tensor; or what a tokenizer returns, whose
            ``attention_mask`` says what is padding.
        vocabulary: number of rows of the model's embedding.
        padding_id: the model's padding token; ids without a mask are refused where it looks like padding.

    Returns:
        (N, T) int64.

    Raises:
        SinkoriginError: these are no token ids, or ids of another model; padding cannot be told from tokens; or a sequence has
            fewer than two tokens.
    """
    mask = None
    if isinstance(given, Mapping):
        if "input_ids" not in given:
            raise SinkoriginError(
                "the prompts have no input_ids; give what the tokenizer returns, or the token ids themselves"
            )
        given, mask = given["input_ids"], given.get("attention_mask")
    rows = _rows(given)
    rows = _without_looks_of_padding(rows, padding_id) if mask is None else _without_padding(rows, _rows(mask))
    for number, row in enumerate(rows):
        if len(row) < _FEWEST:
            raise SinkoriginError(
                f"sequence {number} has {len(row)} tokens, and a sink score needs {_FEWEST} or more; leave it out"
            )
        if row.min() < 0 or row.max() >= vocabulary:
            wrong = row.min() if row.min() < 0 else row.max()
            raise SinkoriginError(
                f"sequence {number} has the token id {wrong}, but the model's embedding has {vocabulary} rows; take the model's own "
                "tokenizer"
            )
    lengths = [len(row) for row in rows]
    shortest = min(lengths)
    if shortest < max(lengths):
        warnings.warn(
            f"the sequences have {shortest} to {max(lengths)} tokens, and statistics by position need equally many: all are cut to "
            f"the first {shortest}; to keep more, leave the shortest out",
            stacklevel=4,  # the caller of measure
        )
    return np.stack([row[:shortest] for row in rows]).astype(np.int64)


def _rows(given: Any) -> list[np.ndarray]:
    """One array a sequence."""
    if isinstance(given, str) or (isinstance(given, list | tuple) and given and isinstance(given[0], str)):
        raise SinkoriginError(
            "the prompts are texts; give what the model's tokenizer makes of them, such as "
            'tokenizer(texts, return_tensors="pt", padding=True)'
        )
    if not isinstance(given, list | tuple):
        given = _array(given)
    if len(given) and np.ndim(given[0]) == 0:
        given = [given]  # one sequence alone
    rows = [_array(row) for row in given]
    if not rows or any(row.ndim != 1 or not np.issubdtype(row.dtype, np.integer) for row in rows):
        raise SinkoriginError(
            "the prompts are no sequences of whole numbers; give token ids as a list of lists, or (N, T)"
        )
    return rows


def _array(values: Any) -> np.ndarray:
    """A NumPy array of a tensor on any device, or of a list."""
    values = values.detach().cpu() if hasattr(values, "detach") else values
    try:
        found = np.asarray(values)
    except ValueError as error:  # lists within a sequence
        raise SinkoriginError(
            "a sequence of the prompts is no list of token ids; give a list of lists, or (N, T)"
        ) from error
    if found.dtype == bool:
        return found.astype(np.int64)  # of a mask
    return found.astype(np.int64) if found.size == 0 else found


def _without_padding(rows: list[np.ndarray], masks: list[np.ndarray]) -> list[np.ndarray]:
    if [len(row) for row in rows] != [len(mask) for mask in masks]:
        raise SinkoriginError(
            "the attention_mask has another shape than the input_ids; give both as the tokenizer made them"
        )
    found = []
    for number, (row, mask) in enumerate(zip(rows, masks, strict=True)):
        real = np.flatnonzero(mask)
        if len(real) and real[-1] - real[0] + 1 != len(real):
            raise SinkoriginError(
                f"the attention_mask of sequence {number} hides tokens between others, so positions cannot be counted; pad at the "
                "beginning or the end only"
            )
        found.append(row[real])
    return found


def _without_looks_of_padding(rows: list[np.ndarray], padding_id: int | None) -> list[np.ndarray]:
    """The sequences, if not just some of them begin, or end, with the padding token: that would be measured as text."""
    if padding_id is not None:
        for end in (0, -1):
            padded = [bool(len(row)) and row[end] == padding_id for row in rows]
            if any(padded) and not all(padded):
                raise SinkoriginError(
                    f"sequence {padded.index(True)} {'ends' if end else 'begins'} with the model's padding token {padding_id}, and "
                    "without an attention_mask padding is measured as text; give all that the tokenizer returns, or the ids without "
                    "padding as a list of lists"
                )
    return rows
