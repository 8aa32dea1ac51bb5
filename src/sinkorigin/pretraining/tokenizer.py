"""Tokenizers of pretraining data: a byte-level BPE, trained on the training split, or an existing one."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sinkorigin.errors import SinkoriginError
from sinkorigin.models.files import library_errors
from sinkorigin.models.vocabulary import check_token_ids
from sinkorigin.sources.hub import hub_errors
from sinkorigin.tables import atomic_directory

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"
_ENOUGH = 1 << 30  # characters to count pairs in: more changes few merges
# what a tokenizer may consist of; config.json names the class of some
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt",
    "merges.txt", "*.model", "*.tiktoken", "config.json",
)  # fmt: skip


def train_tokenizer(texts: Iterable[str], vocabulary: int, destination: str | Path) -> None:
    """Train a byte-level BPE tokenizer and save it as a transformers tokenizer directory.

    The same texts and vocabulary give the same bytes. Every string can be encoded and decodes to itself, because the
    256 bytes are all in the vocabulary. Memory grows with the different words, not with the texts.

    Args:
        texts: the documents of the training split, and only of that split; the first billion characters are used.
        vocabulary: number of tokens, ``<|endoftext|>`` (id 0) among them; fewer where the texts hold too few merges.

    Raises:
        SinkoriginError: the vocabulary cannot hold the bytes, or there is no text.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

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
    save_tokenizer(tokenizer, destination)


def save_tokenizer(tokenizer: "Tokenizer", destination: str | Path) -> None:
    """Save a tokenizer whose end-of-text token is ``END_OF_TEXT`` as a transformers tokenizer directory."""
    from transformers import PreTrainedTokenizerFast

    with atomic_directory(destination) as directory:
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, eos_token=END_OF_TEXT, clean_up_tokenization_spaces=False
        ).save_pretrained(directory)


def local_tokenizer_files(place: str) -> list[Path]:
    """Every file of the tokenizer in the folder ``place``."""
    folder = Path(place).expanduser()
    return sorted({path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern) if path.is_file()})


def take_tokenizer(source: str, destination: str | Path, *, what: str) -> None:
    """Save an existing tokenizer as a transformers tokenizer directory.

    Args:
        source: hub:owner/repository@commit, or path: of a directory; only the tokenizer's files are read, and no code.
        what: its name, for messages.

    Raises:
        SinkoriginError: there is none, it cannot be written as tokenizer.json, or it has no end-of-text token.
    """
    from transformers import AutoTokenizer

    kind, _, place = source.partition(":")
    with atomic_directory(destination) as directory:
        folder = Path(place).expanduser()
        if kind == "hub":
            import huggingface_hub

            repository, _, revision = place.partition("@")
            folder = directory / ".hub"
            with hub_errors(repository, revision, what):
                huggingface_hub.snapshot_download(
                    repository, revision=revision, local_dir=folder, allow_patterns=list(_TOKENIZER_FILES)
                )
        if not folder.is_dir():
            raise SinkoriginError(f"{what}: there is no directory {folder}; correct tokenizer in the config")
        check_token_ids(folder, what)
        with library_errors(
            f"{what}: {source} has no tokenizer that can be read", "name a directory or repository with tokenizer.json"
        ):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if not tokenizer.is_fast:
            raise SinkoriginError(
                f"{what}: {source} has no fast tokenizer (tokenizer.json), which tokenizing needs; choose another tokenizer"
            )
        if tokenizer.eos_token_id is None:
            raise SinkoriginError(
                f"{what}: {source} names no end-of-text token (eos_token), which separates documents; choose another "
                "tokenizer, or set eos_token in its tokenizer_config.json"
            )
        tokenizer.save_pretrained(directory)
        shutil.rmtree(directory / ".hub", ignore_errors=True)
