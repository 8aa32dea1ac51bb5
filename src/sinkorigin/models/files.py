"""JSON files of a model directory, and one sentence for whatever a library raises on a damaged file."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sinkorigin.errors import SinkoriginError, first_line
from sinkorigin.models.shapes import check_numbers


@contextmanager
def library_errors(sentence: str, remedy: str) -> Iterator[None]:
    """Raise any exception of this block as ``sentence (type: first line of the exception); remedy``.

    transformers and tokenizers do not check what a model's files hold, so a damaged one can raise anything.

    Raises:
        SinkoriginError: the block raised an exception.
    """
    try:
        yield
    except SinkoriginError:
        raise
    except BaseException as error:
        # a panic of a library in Rust, such as tokenizers, is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        # PyTorch has an error type for a GPU; on a CPU it raises a RuntimeError with this text
        memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
        if memory or "allocate memory" in str(error):
            remedy = "there is not enough memory; give the job more, or choose a smaller model"
        raise SinkoriginError(f"{sentence} ({type(error).__name__}: {first_line(error)}); {remedy}") from error


def read_dictionary(path: Path, what: str) -> dict[str, Any]:
    """Read the dictionary in a JSON file of a model.

    Raises:
        SinkoriginError: the file cannot be read, is no JSON, or holds something else.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise SinkoriginError(
            f"{what}: its {path.name} is missing or damaged ({type(error).__name__}); take an intact copy"
        ) from error
    if not isinstance(content, dict):
        raise SinkoriginError(
            f"{what}: its {path.name} is no dictionary, but of type {type(content).__name__}; take an intact copy"
        )
    return content


def read_config(directory: Path, what: str) -> dict[str, Any]:
    """Read config.json of a model whose weights are plain numbers.

    Raises:
        SinkoriginError: it cannot be read, a number in it is none that a decoder has, or the weights are quantised.
    """
    config = read_dictionary(directory / "config.json", what)
    check_numbers(config, what)
    for part in (config, config.get("text_config")):
        for key in ("quantization_config", "compression_config"):
            if isinstance(part, dict) and part.get(key) is not None:
                method = part[key].get("quant_method") if isinstance(part[key], dict) else None
                raise SinkoriginError(
                    f"{what}: its weights are quantised ({key} in config.json{f' says {method}' if method else ''}); "
                    "choose the unquantised model, or a GGUF file, which is dequantised"
                )
    return config
