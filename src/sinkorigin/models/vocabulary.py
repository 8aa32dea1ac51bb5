"""The vocabulary of a tokenizer against the embedding of its model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sinkorigin.errors import SinkoriginError
from sinkorigin.models.files import read_dictionary
from sinkorigin.models.shapes import stated, text_config


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
    model, added = tokenizer.get("model"), tokenizer.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, list):  # of a unigram model: pairs of token and score, in the order of the ids
        vocabulary = {str(pair[0]): index for index, pair in enumerate(vocabulary) if isinstance(pair, list) and pair}
    if not isinstance(vocabulary, dict):
        return  # of a kind that only the tokenizers library knows
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
