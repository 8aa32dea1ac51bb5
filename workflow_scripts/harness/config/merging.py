"""One config out of the workflow's own and what the user lays over it: files, options of the command line, a module's config."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.models import name_from
from harness.config.yaml_checks import hidden_base
from sinkorigin.errors import SinkoriginError


@dataclass(frozen=True)
class Layer:
    """Settings from one place.

    Attributes:
        name: the place, for messages: a file, ``--config``.
        values: the settings.
        is_file: whether it is a file.
    """

    name: str
    values: Mapping[str, Any]
    is_file: bool = True

    @classmethod
    def of_options(cls, name: str, values: Mapping[str, Any]) -> "Layer":
        """Settings of ``--config``. Snakemake leaves text what stands inside a value: it is read as in a file."""
        inside = {key: value if isinstance(value, str) else _typed(value) for key, value in values.items()}
        return cls(name, inside, is_file=False)


@dataclass(frozen=True)
class Merged:
    """A config and the layers that it is made of, the last one on top."""

    values: dict[str, Any]
    layers: Sequence[Layer]

    @property
    def files(self) -> str:
        """What the user gave, for messages."""
        return ", ".join(layer.name for layer in self.layers[1:]) or self.layers[0].name

    def origin(self, key: Sequence[str]) -> str:
        """Name of the layer that a key is from: the last one that has most of it. What no layer has is the user's to give."""
        depths = [_depth(layer.values, key) for layer in self.layers]
        deepest = max(depths)
        if not deepest:
            return self.files
        return self.layers[len(depths) - 1 - depths[::-1].index(deepest)].name


def merge(own: Layer | None, overlays: Sequence[Layer], folder: Path) -> Merged:
    """Lay settings over the workflow's own config: dictionaries are merged key by key, all else is replaced.

    A part of the own config that belongs to what an overlay replaces goes with it: the default's pretraining and the study's name
    with its models, and the settings of a corpus with its source.

    Args:
        own: the workflow's config file, or None where it does not count.
        overlays: later ones count more.
        folder: where paths of ``model`` start.

    Returns:
        The config. What a run merged at its beginning, and gives to its jobs on other machines with ``snapshot: true``, is
        taken as it is.

    Raises:
        SinkoriginError: ``model`` names nothing, or stands in a file or beside ``models``.
    """
    for layer in overlays:
        if layer.values.get("snapshot"):
            return Merged({key: value for key, value in layer.values.items() if key != "snapshot"}, [layer])
    overlays = [Layer(layer.name, _with_models(layer, folder), layer.is_file) for layer in overlays]
    models = [layer for layer in overlays if "models" in layer.values]
    short = next((layer for layer in models if "model" in layer.values), None)
    if short is not None and len(models) > 1:
        other = next(layer for layer in models if layer is not short)
        raise SinkoriginError(
            f"{short.name}: model is {short.values['model']}, but {other.name} has models; delete one of the two"
        )
    values = dict(own.values) if own else {}
    if models:
        if not any("pretraining" in layer.values for layer in overlays):
            values.pop("pretraining", None)
        if not any("study" in layer.values for layer in overlays):
            values["study"] = _name_of_first(models[-1])
    for layer in overlays:
        values = _merged(values, {key: value for key, value in layer.values.items() if key != "model"})
    return Merged(values, [*([own] if own else []), *overlays])


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(below)
    for key, value in above.items():
        under = values.get(key)
        if isinstance(under, Mapping) and isinstance(value, Mapping):
            if key == "corpus" and value.get("source", under.get("source")) != under.get("source"):
                under = {name: under[name] for name in ("validation_share", "seed") if name in under}
            value = _merged(under, value)
        values[key] = value
    return values


def _name_of_first(layer: Layer) -> str:
    """Name of a study: that of the first model."""
    models = layer.values["models"]
    first = models[0] if isinstance(models, list) and models else None
    if first is None:
        raise SinkoriginError(f"{layer.name}: study is missing, and there is no model to name it after; add it")
    if not isinstance(first, Mapping) or not isinstance(first.get("source"), str | list):
        return "unnamed"  # what is wrong with the model is told with everything else
    member, file = (first[key] if isinstance(first.get(key), str) else None for key in ("member", "file"))
    return str(first.get("name") or name_from(first["source"], member, file))


def _with_models(layer: Layer, folder: Path) -> Mapping[str, Any]:
    """A layer's settings in which ``model`` is spelled out as ``models``."""
    if "model" not in layer.values:
        return layer.values
    if layer.is_file:
        raise SinkoriginError(f"{layer.name}: model is for the command line; write models: [{{source: …}}]")
    if "models" in layer.values:
        raise SinkoriginError(f"{layer.name}: it has both model and models; delete one of the two")
    return {**layer.values, "models": [{"source": source_named(layer.values["model"], layer.name, folder)}]}


def source_named(model: Any, where: str, folder: Path) -> str:
    """The source that a user means by a path, a name of the Hugging Face hub, or a source.

    Raises:
        SinkoriginError: it is none of these, saying what was tried.
    """
    if model is None or model == "" or isinstance(model, Mapping | list):
        raise SinkoriginError(f"{where}: model is one path or hub name; write model=PATH, or models for several")
    text = str(model)
    if text.startswith(("hub:", "path:", "pypi:")):
        return text
    place = folder / os.path.expanduser(text)  # not of Path, which raises an error where there is no such user
    if place.exists():
        return f"path:{text}"
    is_path = text.startswith((".", "/", "~")) or text.endswith((".gguf", "/"))
    if not is_path and re.fullmatch(r"[\w.-]+/[\w.-]+(@\S+)?", text):
        return f"hub:{text}"
    raise SinkoriginError(
        f"{where}: model is {text}, but there is no {place}"
        + ("" if is_path else ", and it is no owner/repository of the Hugging Face hub")
        + "; correct it"
    )


def _typed(value: Any) -> Any:
    """A value in which texts that YAML reads as a number, true, false or null are that."""
    import yaml

    if isinstance(value, Mapping):
        return {key: _typed(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_typed(entry) for entry in value]
    if isinstance(value, str) and not hidden_base(value):
        with suppress(yaml.YAMLError):
            read = yaml.safe_load(value)
            if isinstance(read, int | float | None) and value:
                return read
    return value


def _depth(values: Any, key: Sequence[str]) -> int:
    """How many parts of a key some settings have."""
    for depth, part in enumerate(key):
        if not isinstance(values, Mapping) or part not in values:
            return depth
        values = values[part]
    return len(key)
