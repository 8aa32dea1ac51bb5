"""Reading and checking a study's configuration at the start of every run, before any rule."""

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config.merging import Layer, Merged
from harness.config.models import Model, name_from
from harness.config.pretraining import TextData
from harness.config.standard import with_standard
from harness.config.study import Config
from harness.config.yaml_checks import check_written
from sinkorigin.errors import SinkoriginError
from sinkorigin.models.shapes import check_layers

Problem = tuple[Sequence[str], str]  # parts of the key, and the sentence


def _plain(value: Any) -> Any:
    """A config as plain dicts and lists, whatever the YAML reader made; half a character in a key, which pydantic does not take, is escaped."""
    if isinstance(value, Mapping):
        return {str(key).encode("utf-8", "backslashreplace").decode(): _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def read_config(raw: Mapping[str, Any], file: str = "config.yaml", base: Path | None = None) -> Config:
    """Check a study's configuration.

    Args:
        raw: the parsed YAML.
        file: its name, for messages.
        base: folder that relative ``path:`` sources start from; they are checked to exist when it is given.

    Raises:
        SinkoriginError: a sentence for each thing that is wrong, naming the file, the key, its value and the remedy.
    """
    return _read(Merged(dict(raw), [Layer(file, raw)]), base)


def read_study(merged: Merged, *, first: bool, fetched_elsewhere: bool = False) -> Config:
    """Read and check the config, and look into what it names on this machine.

    Args:
        merged: the config, and the files and options that it is from.
        first: whether this is the process that the user started. Jobs have what their run began with, whatever became of the
            files, and check nothing again.
        fetched_elsewhere: whether models may have been fetched to a storage; then the files here need not be there any more.

    Raises:
        SinkoriginError: a sentence for each thing that is wrong.
    """
    if first:
        for layer in merged.layers:
            if layer.is_file and Path(layer.name).is_file():
                check_written(Path(layer.name))
    study = _read(merged, base=Path.cwd())
    if first and not fetched_elsewhere:
        _end_with(_local_problems(study, merged))
    return study


def _read(merged: Merged, base: Path | None) -> Config:
    raw = with_standard(_plain(merged.values))
    config, problems = _validated(raw)
    sound = config
    if sound is None and (rest := _without_faults(raw, problems)) is not None:
        # what is wrong between the sections that are right by themselves
        sound, more = _validated(rest)
        problems += more
    if sound is not None and base is not None:
        problems += _missing_sources(sound, base)
    _end_with(f"{merged.origin(key)}: {sentence}" for key, sentence in problems)
    assert config is not None
    return config


def _end_with(sentences: Iterable[str]) -> None:
    if lines := list(dict.fromkeys(sentences)):
        raise SinkoriginError(*lines)


def _validated(raw: Any) -> tuple[Config | None, list[Problem]]:
    """The config, or everything that is wrong with it. Texts in ``raw`` that stand for a number become that number."""
    while True:
        try:
            return Config.model_validate(raw), []
        except ValidationError as error:
            problems = error.errors(include_url=False)
        if not any([_understood(raw, problem) for problem in problems]):
            return None, [found for problem in problems for found in _sentences(problem, raw)]


def _understood(raw: Any, problem: Mapping[str, Any]) -> bool:
    """Replace a text where a number is wanted by the number that it spells, such as 1e-3, which YAML 1.1 takes for text."""
    if problem["type"] != "float_type" or not isinstance(problem["input"], str):
        return False
    with suppress(ValueError):
        number = float(problem["input"])
        if math.isfinite(number):
            *parents, last = _place(problem["loc"], raw)
            for part in parents:
                raw = raw[part]
            raw[last] = number
            return True
    return False


def _without_faults(raw: Mapping[str, Any], problems: Sequence[Problem]) -> dict[str, Any] | None:
    """The config without what is wrong, where nothing else refers to that; None where something may."""
    rest = dict(raw)
    for (section, *inside), _ in problems:
        if section == "interventions" and inside and all(isinstance(edit, dict) for edit in raw[section]):
            rest[section] = [edit for edit in rest[section] if edit.get("name") != inside[0]]
        elif section in ("device", "dtype", "machine", "statistics", "figures") or section not in Config.model_fields:
            rest.pop(section, None)
        else:
            return None
    return rest


def _missing_sources(config: Config, base: Path) -> list[Problem]:
    """``path:`` sources that are not there."""
    sources = [(["models", model.name, "source"], model.source_text) for model in config.models]
    sources += [([*key.split("."), "source"], corpus.source) for key, corpus in config.corpora.items()]
    texts = [data for data in config.pretraining.data if isinstance(data, TextData) and data.tokenizer]
    sources += [(["pretraining", "data", data.name, "tokenizer"], data.tokenizer) for data in texts]
    found: list[Problem] = []
    for key, source in sources:
        kind, _, place = source.partition(":")
        if kind == "path" and not (base / os.path.expanduser(place)).exists():
            found.append((key, f"{'.'.join(key)}: there is no {place}; correct the path"))
    return found


def _local_problems(study: Config, merged: Merged) -> list[str]:
    """What is wrong with the models and corpora on this machine, and with what is asked of models whose shape is known."""
    sentences = []
    lengths = {prompts.name: prompts.length for prompts in study.prompts}
    reads_text = any(prompts.kind == "natural_text" for prompts in study.prompts)
    for model in study.models:
        layers = _layers_asked_of(model, study, merged)
        if model.kind == "path":
            # here, because it imports what other studies need not wait for
            from sinkorigin.models.before_fetch import local_problems

            place, fetched = model.place, Path("results/models", model.name)
            sentences += local_problems(
                place, lengths, layers, model=model.name, reads_text=reads_text, fetched=fetched
            )
        elif model.shape is not None:
            for key, numbers in layers.items():
                sentences += _told(check_layers, numbers, model.shape.layers, model.name, key)
    for key, corpus in study.corpora.items():
        if corpus.source.startswith("path:"):
            from sinkorigin.corpora.fetching import check_local_corpus  # imports pyarrow

            what = f"{merged.origin(key.split('.'))}: {key}"
            sentences += _told(check_local_corpus, what, **corpus.model_dump(include={"source", "members", "column"}))
    return sentences


def _layers_asked_of(model: Model, study: Config, merged: Merged) -> dict[str, list[int]]:
    """Layers that interventions name by number in a model or its random-weight control: key of the config → numbers."""
    names = {model.name, *(other.name for other in study.models if other.source == f"random:{model.name}")}
    return {
        f"{merged.origin(['interventions'])}: interventions.{edit.name}.layers": edit.layers
        for edit in study.interventions
        if isinstance(edit.layers, list) and names & {*(edit.models or ())}
    }


def _told(check: Callable[..., Any], *arguments: Any, **named: Any) -> list[str]:
    """The sentence with which a check ends, if it does."""
    try:
        check(*arguments, **named)
    except SinkoriginError as error:
        return [str(error)]
    return []


def json_schema() -> str:
    """The JSON schema of a config file, for editors: no section is demanded, as what a file leaves out is in another one."""
    schema = Config.model_json_schema()
    for section in (schema, schema["$defs"]["Activations"]):
        del section["required"]
    schema["title"] = "sinkorigin study"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _place(loc: Sequence[str | int], raw: Any) -> list[str | int]:
    """Keys and indices that lead to a value: pydantic's location without its marks of the type that it checked the value as."""
    path: list[str | int] = []
    here = raw
    for part in loc:
        if isinstance(here, dict) and part not in here and here.get("kind") == part:
            continue  # one kind of entry among several
        if isinstance(here, list) and isinstance(part, str):
            continue  # a list where one value could stand too
        if path and here is not None and not isinstance(here, dict | list):
            continue  # one value where a list could stand too
        here = here[part] if _has(here, part) else None
        path.append(part)
    return path


def _names(place: Sequence[str | int], raw: Any) -> list[str]:
    """A place as messages call it: entries of lists by their names."""
    names: list[str] = []
    for part in place:
        raw = raw[part] if _has(raw, part) else None
        named = _entry_name(raw, among=names[-1]) if names and isinstance(part, int) else None
        names.append(named or str(part))
    return names


def _entry_name(entry: Any, among: str) -> str | None:
    """What messages call an entry of the list ``among``: its name or site, or a model after its source."""
    if not isinstance(entry, dict):
        return None
    if among == "models" and isinstance(entry.get("source"), str) and entry.get("name") is None:
        return name_from(entry["source"], None, None)
    name = entry.get("name", entry.get("site"))
    return None if name is None else str(name)


def _sentences(problem: Mapping[str, Any], raw: Any) -> list[Problem]:
    """Sentences for what pydantic found wrong, with the key that each is about."""
    names = _names(_place(problem["loc"], raw), raw)
    if problem["type"] == "default_factory_not_called":
        return []  # the default depends on another key, which is told
    if problem["type"] != "value_error":
        return [(names, _sentence(".".join(names), problem))]
    sentences = re.sub(r"^Value error, ", "", problem["msg"]).split("\n")
    if names:
        return [(names, f"{'.'.join(names)}: {sentence}") for sentence in sentences]
    # of the whole study: they begin with the key
    return [(sentence.partition(":")[0].split("."), sentence) for sentence in sentences]


def _sentence(key: str, problem: Mapping[str, Any]) -> str:
    """One sentence for a value of a wrong type or size: ``key: what is wrong, value, remedy``."""
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
    message = problem["msg"]
    shown = str(value) if isinstance(value, date) else json.dumps(value, default=str)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return f"{key} is {shown}: {message[0].lower()}{message[1:]}{_remedy(kind, value)}"


def _remedy(kind: str, value: Any) -> str:
    """What to do about a value of a wrong type, which is often one that YAML takes for another than is meant."""
    if kind == "string_type" and isinstance(value, bool | int | float | date):
        read_as = {bool: "true or false", int: "a number", float: "a number"}.get(type(value), "a date")
        return f", but YAML reads this as {read_as}; put it in quotes"
    if kind == "int_type" and isinstance(value, str):
        with suppress(ValueError, OverflowError):
            if float(value).is_integer():
                return f", but YAML reads this as text; write {int(float(value))}, without quotes"
    return "; write true or false" if kind == "bool_type" else "; change it"


def _has(container, part) -> bool:
    if isinstance(container, dict):
        return part in container
    return isinstance(container, list) and isinstance(part, int) and part < len(container)
