"""Reading and checking a study's configuration at the start of every run, before any rule."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config.pretraining import TextData
from harness.config.sentences import sentence
from harness.config.study import Config
from harness.config.yaml_checks import check_written
from sinkorigin.errors import SinkoriginError
from sinkorigin.models.shapes import check_local_model


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


def read_study(config: Mapping[str, Any], files: Sequence[str | Path], *, first: bool) -> Config:
    """Read and check the config, and look into what it names on this machine.

    Args:
        config: Snakemake's, merged from the files and the command line.
        files: config files of the command line, for messages.
        first: whether this is the process that the user started. Jobs have what their run began with, whatever became of the
            files, and check nothing again.

    Raises:
        SinkoriginError: the first thing that is wrong.
    """
    names = ", ".join(map(str, files)) or "config.yaml"
    if first:
        for file in map(Path, ["config.yaml", *files]):
            if file.is_file():
                check_written(file)
    study = read_config(config, names, base=Path.cwd())
    if first:
        _check_local_models(study)
        _check_local_corpora(study, names)
    return study


def _check_local_models(study: Config) -> None:
    """Check that no prompt is longer than the positions that a model on this machine has learned."""
    for model in study.models:
        if model.kind == "path":
            place = model.source.partition(":")[2]
            check_local_model(place, {prompts.name: prompts.length for prompts in study.prompts}, model=model.name)


def _check_local_corpora(study: Config, files: str) -> None:
    """Look into the corpora on this machine."""
    for key, corpus in study.corpora.items():
        if corpus.source.startswith("path:"):
            # here, because it imports pyarrow, for which other studies need not wait
            from sinkorigin.corpora.fetching import check_local_corpus

            check_local_corpus(f"{files}: {key}", **corpus.model_dump(include={"source", "members", "column"}))


def json_schema() -> str:
    """The JSON schema of config.yaml, for editors."""
    schema = Config.model_json_schema()
    schema["title"] = "sinkorigin study"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
