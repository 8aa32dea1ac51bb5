"""Loading the tokenizer of a model directory, without PyTorch where its files allow that."""

from pathlib import Path

from sinkorigin.models.files import library_errors, read_dictionary
from sinkorigin.models.vocabulary import check_token_ids


def has_tokenizer(directory: Path) -> bool:
    """Whether a model directory holds a file of a tokenizer, in any of the forms that transformers reads, or that names one."""
    names = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "*.model", "*.tiktoken")
    return any(next(directory.glob(name), None) for name in names)


def load_tokenizer(directory: Path, what: str, trust_remote_code: bool):
    """Load the tokenizer of a model directory as AutoTokenizer does.

    AutoTokenizer imports PyTorch, which takes longer than all else here. A directory that transformers 5 saved with its
    general tokenizer class, as all models that this project trains or converts from GGUF, does not need it.

    Raises:
        SinkoriginError: its files are damaged, or of a kind that needs a package that is not there.
    """
    settings = directory / "tokenizer_config.json"
    saved = read_dictionary(settings, what) if settings.is_file() else {}
    check_token_ids(directory, what)
    with library_errors(f"{what}: its tokenizer cannot be loaded", "take intact tokenizer files"):
        if saved.get("tokenizer_class") == "TokenizersBackend" and "auto_map" not in saved:
            from transformers import PreTrainedTokenizerFast

            return PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=trust_remote_code)
