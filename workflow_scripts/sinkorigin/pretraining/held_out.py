"""Prompts of text for models that were trained here: windows of the validation split of their own data."""

from pathlib import Path

import numpy as np

from sinkorigin.errors import SinkoriginError
from sinkorigin.pretraining.data import Tokens, load_tokens, tokenizer_sha256
from sinkorigin.prompts import write_prompts
from sinkorigin.tables import checked_directory


def held_out_windows(
    tokens: Tokens, sequences: int, length: int, seed: int, *, first_token: bool, model: str
) -> np.ndarray:
    """(sequences, length) ids of windows of the validation split, none of which overlaps another or spans two documents.

    Places a window apart are visited in a seeded order; those at which a document ends are passed over.

    Args:
        tokens: of the model's data.
        first_token: whether the end-of-text token stands before each window, as in the model's training.
        model: its name, for messages.

    Raises:
        SinkoriginError: there are too few such windows.
    """
    body = length - first_token
    windows: list[np.ndarray] = []
    for place in np.random.default_rng(seed).permutation(len(tokens.validation) // body):
        window = tokens.validation[place * body : (place + 1) * body]  # (body,)
        if not np.any(window == tokens.eos):
            windows.append(np.asarray(window, dtype=np.int64))
            if len(windows) == sequences:
                break
    if len(windows) < sequences:
        raise SinkoriginError(
            f"model {model}: the validation split of its data has {len(windows)} windows of {length} tokens inside a "
            f"document, but {sequences} sequences are asked for; lower sequences or length of this prompt set, or hold "
            "out more of the data"
        )
    chosen = np.stack(windows)
    return np.insert(chosen, 0, tokens.eos, axis=1) if first_token else chosen


def make_held_out_prompts(
    path: str | Path,
    *,
    model: str,
    directory: str | Path,
    tokens_directory: str | Path,
    sequences: int,
    length: int,
    seed: int,
    first_token: bool,
) -> None:
    """Draw a prompt set of held-out text for the trained model in ``directory`` and write it to ``path``.

    Args:
        model: its name, for messages.
        tokens_directory: the token files that it was trained on.
        sequences, length: shape of the set; seed: of the draw.
        first_token: whether every training sequence of the model began with the end-of-text token; each prompt then
            does, and position 0 has no variance.

    Raises:
        SinkoriginError: the token files are not the model's, or their validation split is too short.
    """
    from transformers import PreTrainedTokenizerFast

    directory = checked_directory(directory)
    tokens = load_tokens(tokens_directory)
    if tokens.tokenizer_sha256 != tokenizer_sha256(directory):
        raise SinkoriginError(
            f"model {model}: {tokens_directory} was made with another tokenizer than the model's in {directory}; delete "
            "the model's directory and run the same command again"
        )
    token_ids = held_out_windows(tokens, sequences, length, seed, first_token=first_token, model=model)
    write_prompts(path, token_ids, PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True))
