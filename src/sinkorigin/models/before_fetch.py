"""What is wrong with a ``path:`` model, as far as it is known before any job: by its headers, lengths and JSON files."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sinkorigin.errors import SinkoriginError
from sinkorigin.models.fetching import check_intact, local_model_files
from sinkorigin.models.files import read_config
from sinkorigin.models.local import find_model, read_local_config
from sinkorigin.models.shapes import check_layers, check_prompt_length, stated, text_config
from sinkorigin.models.vocabulary import check_vocabulary
from sinkorigin.models.weights import weight_files


def local_problems(
    place: str,
    lengths: Mapping[str, int],
    layers: Mapping[str, Sequence[int]],
    *,
    model: str,
    reads_text: bool = True,
    fetched: Path | None = None,
) -> list[str]:
    """Everything that can be known to be wrong with a model on this machine; PyTorch is not imported.

    Args:
        place: what follows ``path:`` in its source.
        lengths: prompt set → length.
        layers: key of the config → numbers of layers that it names.
        model: name of the model, for messages.
        reads_text: whether it reads text, which its tokenizer may turn into tokens that its embedding does not have; random tokens
            are drawn from those that it has.
        fetched: the directory to which the model was fetched before. If it was made of these files, they were checked then.

    Returns:
        A sentence for each.
    """
    what = f"model {model}"
    problems: list[str] = []

    def told(check: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        try:
            return check(*arguments, **named)
        except SinkoriginError as error:
            problems.append(str(error))

    if fetched is not None and was_made_of(fetched, place):
        config = told(read_config, fetched, what)
    else:
        config = told(_checked_config, place, what, reads_text)
    if config is None:
        return problems
    for prompts, length in lengths.items():
        told(check_prompt_length, config, length, model=model, prompts=prompts)
    depth = stated(text_config(config), "layers")
    for key, numbers in layers.items() if isinstance(depth, int) else ():
        told(check_layers, numbers, depth, model, key)
    return problems


def was_made_of(fetched: Path, place: str) -> bool:
    """Whether a directory that a model was fetched to was made of the files of this ``path:`` source as they are."""
    try:
        made = (fetched / "manifest.json").stat().st_mtime
        source = json.loads((fetched / "provenance.json").read_bytes())["source"]
        return source == f"path:{place}" and all(path.stat().st_mtime < made for path in local_model_files(place))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _checked_config(place: str, what: str, reads_text: bool) -> dict[str, Any]:
    """The config of a decoder on this machine whose files are whole and fit together; see :func:`read_local_config`."""
    config = read_local_config(place, what)
    origin = find_model(place, what)
    if origin.is_dir():
        for path in local_model_files(place):
            check_intact(path, what)
        weight_files(origin, what)
        if reads_text:
            check_vocabulary(origin, config, what)
    return config
