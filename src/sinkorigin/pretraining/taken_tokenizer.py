"""A tokenizer that exists, taken instead of training one."""

import shutil
from pathlib import Path

from sinkorigin.errors import SinkoriginError
from sinkorigin.sources.hub import hub_errors
from sinkorigin.tables import atomic_directory

# what a tokenizer may consist of; config.json names the class of some
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt",
    "merges.txt", "*.model", "*.tiktoken", "config.json",
)  # fmt: skip


def local_tokenizer_files(place: str) -> list[Path]:
    """Every file of a ``path:`` tokenizer."""
    folder = Path(place).expanduser()
    return sorted({path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern) if path.is_file()})


def take_tokenizer(source: str, destination: str | Path, *, what: str) -> None:
    """Save a tokenizer that exists as a transformers tokenizer directory.

    Args:
        source: hub:owner/repository@commit, or path: of a directory; only the tokenizer's files are read, and no code.
        destination: the directory to write.
        what: what messages call it.

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
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise SinkoriginError(
                f"{what}: {source} has no tokenizer that can be read ({str(error).splitlines()[0]}); name a directory or "
                "repository with tokenizer.json"
            ) from error
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
