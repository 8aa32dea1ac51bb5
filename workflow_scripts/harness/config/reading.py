"""Reading and checking a study's configuration at the start of every run, before any rule."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config.pretraining import TextData
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
        raise SinkoriginError(f"{file}: {_sentence(problems[0], raw)}{more}") from None
    if base is not None:
        sources = [(f"models.{model.name}.source", f"{model.kind}:{model.place}") for model in config.models]
        sources += [(f"{key}.source", corpus.source) for key, corpus in config.corpora.items()]
        texts = [data for data in config.pretraining.data if isinstance(data, TextData) and data.tokenizer]
        sources += [(f"pretraining.data.{data.name}.tokenizer", data.tokenizer) for data in texts]
        for key, source in sources:
            kind, _, place = source.partition(":")
            if kind == "path" and not (base / Path(place).expanduser()).exists():
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
        _check_local_sources(study, names)
    return study


def _check_local_sources(study: Config, files: str) -> None:
    """Look into the models and corpora on this machine: no prompt may be longer than the positions that a model has learned."""
    lengths = {prompts.name: prompts.length for prompts in study.prompts}
    for model in study.models:
        if model.kind == "path":
            check_local_model(model.place, lengths, model=model.name)
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


def _sentence(problem: Mapping[str, Any], raw: Any) -> str:
    """One sentence for what pydantic found wrong: ``key: what is wrong, value, remedy``."""
    path, here = [], raw
    for part in problem["loc"]:
        if isinstance(here, dict) and part not in here and here.get("kind") == part:
            continue  # pydantic's mark of the kind that it checked the entry as
        if isinstance(here, str | int | float | list) and isinstance(part, str):
            continue  # its mark of the form of a source
        here = here[part] if isinstance(here, dict | list) and _has(here, part) else None
        # entries of lists are called by their names
        if isinstance(part, int) and isinstance(here, dict) and ("name" in here or "site" in here):
            path.append(str(here.get("name", here.get("site"))))
        else:
            path.append(str(part))
    key = ".".join(path)
    kind, value = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        return f"{key} is not a key of the config; correct its spelling or delete it"
    if kind == "missing":
        return f"{key} is missing; add it"
    if kind == "union_tag_not_found":
        return f"{key}.kind is missing; add it"
    if kind == "union_tag_invalid":
        context = problem["ctx"]
        return f"{key}.kind is {json.dumps(context['tag'])}: input should be {context['expected_tags']}; change it"
    message = re.sub(r"^Value error, ", "", problem["msg"])
    if kind == "value_error":
        return f"{key}: {message}" if key else message
    shown = str(value) if isinstance(value, date) else json.dumps(value, default=str)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return f"{key} is {shown}: {message[0].lower()}{message[1:]}{_remedy(kind, value)}"


def _remedy(kind: str, value: Any) -> str:
    """What to do about a value of a wrong type, which is often one that YAML takes for another than is meant."""
    if kind == "string_type" and isinstance(value, bool | int | float | date):
        read_as = {bool: "true or false", int: "a number", float: "a number"}.get(type(value), "a date")
        return f", but YAML reads this as {read_as}; put it in quotes"
    if kind in ("int_type", "float_type") and isinstance(value, str):
        with suppress(ValueError):
            number = float(value)
            if math.isfinite(number) and (kind == "float_type" or number.is_integer()):
                return f", but YAML reads this as text; write {_in_yaml(number)}, without quotes"
    return "; write true or false" if kind == "bool_type" else "; change it"


def _in_yaml(number: float) -> str:
    """A number as YAML 1.1 reads it: one with an exponent has a point."""
    if number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    mantissa, exponent, power = repr(number).partition("e")
    return f"{mantissa if '.' in mantissa or not exponent else f'{mantissa}.0'}{exponent}{power}"


def _has(container, part) -> bool:
    if isinstance(container, dict):
        return part in container
    return isinstance(part, int) and -len(container) <= part < len(container)
