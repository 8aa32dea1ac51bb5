"""Reading and checking a study's configuration."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config.pretraining import TextData
from harness.config.sentences import sentence
from harness.config.study import Config
from sinkorigin.errors import SinkoriginError


def _plain(value: Any) -> Any:
    """A config as plain dicts and lists, whatever the YAML reader made."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def read_config(raw: Mapping[str, Any], file: str = "config.yaml", base: Path | None = None) -> Config:
    """Check a study's configuration.

    Args:
        raw: the parsed YAML.
        file: its name, for messages.
        base: folder that relative ``path:`` sources start from; they are checked to exist when it is given.

    Raises:
        SinkoriginError: naming the file, the first wrong key, its value and the remedy.
    """
    raw = _plain(raw)
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        more = f" (and {len(problems) - 1} more like problems)" if len(problems) > 1 else ""
        raise SinkoriginError(f"{file}: {sentence(problems[0], raw)}{more}") from None
    if base is not None:
        sources = [(f"models.{model.name}.source", model.source) for model in config.models]
        sources += [(f"{key}.source", corpus.source) for key, corpus in config.corpora.items()]
        sources += [
            (f"pretraining.data.{data.name}.tokenizer", data.tokenizer)
            for data in config.pretraining.data
            if isinstance(data, TextData) and data.tokenizer is not None
        ]
        for key, source in sources:
            kind, _, place = source.partition(":")
            if kind == "path" and not (base / place).expanduser().exists():
                raise SinkoriginError(f"{file}: {key}: there is no {place}; correct the path")
    return config


def json_schema() -> str:
    """The JSON schema of config.yaml, for editors."""
    schema = Config.model_json_schema()
    schema["title"] = "sinkorigin study"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
