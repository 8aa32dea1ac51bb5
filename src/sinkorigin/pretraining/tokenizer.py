"""Byte-level BPE tokenizer, trained on the training split."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from sinkorigin.errors import SinkoriginError
from sinkorigin.tables import atomic_directory

END_OF_TEXT = "<|endoftext|>"
_ENOUGH = 1 << 30  # characters to count pairs in: more changes few merges


def train_tokenizer(texts: Iterable[str], vocabulary: int, destination: str | Path) -> None:
    """Train a byte-level BPE tokenizer and save it as a transformers tokenizer directory.

    The same texts and vocabulary give the same bytes. Every string can be encoded and decodes to itself, because the
    256 bytes are all in the vocabulary. Memory grows with the different words, not with the texts.

    Args:
        texts: the documents of the training split, and only of that split; the first billion characters are used.
        vocabulary: number of tokens, ``<|endoftext|>`` (id 0) among them; fewer where the texts hold too few merges.
        destination: the directory to write.

    Raises:
        SinkoriginError: the vocabulary cannot hold the bytes, or there is no text.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocabulary <= len(alphabet):
        raise SinkoriginError(
            f"vocabulary {vocabulary} cannot hold the {len(alphabet)} bytes and {END_OF_TEXT}; "
            f"set it to {len(alphabet) + 1} or more in the config"
        )
    characters = 0

    def counted() -> Iterator[str]:
        nonlocal characters
        for text in texts:
            characters += len(text)
            yield text
            if characters > _ENOUGH:
                return

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END_OF_TEXT], initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(counted(), trainer)
    if not characters:
        raise SinkoriginError(
            f"{destination}: the corpus has no text in its training split; check the corpus in the config"
        )
    with atomic_directory(destination) as directory:
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, eos_token=END_OF_TEXT, clean_up_tokenization_spaces=False
        ).save_pretrained(directory)
