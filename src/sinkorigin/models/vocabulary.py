"""The vocabulary of a tokenizer against the embedding of its model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sinkorigin.errors import SinkoriginError
from sinkorigin.models.files import read_dictionary
from sinkorigin.models.shapes import stated, text_config

_MOST_TOKENS = 1 << 24  # the largest vocabularies have a few hundred thousand


def _vocabulary(tokenizer: Mapping[str, Any]) -> dict[str, Any] | None:
    """Token → id of the dictionary in a tokenizer.json; None for a kind that only the tokenizers library knows."""
    model = tokenizer.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, list):  # of a unigram model: pairs of token and score, in the order of the ids
        return {str(pair[0]): index for index, pair in enumerate(vocabulary) if isinstance(pair, list) and pair}
    return vocabulary if isinstance(vocabulary, dict) else None


def check_token_ids(directory: Path, what: str) -> None:
    """Refuse a tokenizer.json with an id beyond any vocabulary: the tokenizers library takes memory for all ids below it.

    Raises:
        SinkoriginError: there is such an id, or tokenizer.json is damaged.
    """
    file = directory / "tokenizer.json"
    if not file.is_file():
        return
    for token, index in (_vocabulary(read_dictionary(file, what)) or {}).items():
        if isinstance(index, int | float) and not index < _MOST_TOKENS:
            raise SinkoriginError(
                f"{what}: its tokenizer.json gives {token!r} the id {index!s:.40}, beyond any vocabulary; take an intact copy"
            )


def check_vocabulary(directory: Path, config: Mapping[str, Any], what: str) -> None:
    """Refuse a model whose embedding has no row for tokens of its tokenizer, by its config.json and tokenizer.json.

    Added tokens may lie beyond it: text does not contain them, and Gemma 3 has one for images that its text models cannot embed.

    Args:
        config: the dictionary in config.json.
        what: what messages call the model.

    Raises:
        SinkoriginError: tokens lie beyond the embedding, or tokenizer.json is damaged.
    """
    file, rows = directory / "tokenizer.json", stated(text_config(config), "vocabulary")
    if not isinstance(rows, int) or not file.is_file():
        return
    tokenizer = read_dictionary(file, what)
    added, vocabulary = tokenizer.get("added_tokens"), _vocabulary(tokenizer)
    if vocabulary is None:
        return
    entries = [entry.get("id") for entry in added if isinstance(entry, dict)] if isinstance(added, list) else []
    apart = {index for index in entries if isinstance(index, int)}
    beyond = {
        index: token
        for token, index in vocabulary.items()
        if isinstance(index, int) and index >= rows and index not in apart
    }
    if beyond:
        last = max(beyond)
        raise SinkoriginError(
            f"{what}: its tokenizer has {len(beyond)} tokens beyond the {rows} rows of its embedding, up to {beyond[last]!r} with "
            f"the id {last}; take the tokenizer that the model was trained with"
        )
