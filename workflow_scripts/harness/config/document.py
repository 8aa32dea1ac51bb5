"""docs/config.md: every key of a config with its type, default and description, from its JSON schema."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

_HEAD = """# Every setting

The keys of a config file, from `schemas/config.schema.json` (`make config` writes this page, `make schema` that file). Editors complete
and check a config from the schema where its first line is `# yaml-language-server: $schema=PATH/schemas/config.schema.json`.
[your_model.md](your_model.md) explains how files are laid over one another, and what a short config leaves out.

In the column *default*, *required* means that the key must be given, *its own* that the section has defaults of its own, and – that other keys
decide what holds without it. Where no file names `prompts`, `activations` or `interventions`, those of
[standard.yaml](#the-standard-settings) hold. All mistakes in a config are reported at once: one sentence for each, with its file, key, value
and remedy.
"""
_STANDARD = """## The standard settings

`workflow_scripts/harness/config/standard.yaml`: what suits any model. It is taken as far as it fits the prompts of a study.

<!-- read by tests/unit/test_blocks.py::test_every_config_of_the_pages_is_one -->
```yaml
{standard}```
"""
_LIMITS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}


def _code(value: Any) -> str:
    return f"`{value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)}`"


def _type(schema: Mapping[str, Any]) -> str:
    """Type of a value in words, with its limits; an object is told by the name of its section."""
    if "$ref" in schema:
        name = _name(schema)
        return f"[{name}](#{name.lower()})"
    if options := schema.get("anyOf", schema.get("oneOf")):
        return " or ".join(dict.fromkeys(map(_type, options)))
    if "enum" in schema:
        return " or ".join(map(_code, schema["enum"]))
    if "const" in schema:
        return _code(schema["const"])
    if schema.get("type") == "array":
        least = schema.get("minItems", 0)
        return f"list of {_type(schema['items'])}" + (f", at least {least}" if least else "")
    if schema.get("type") == "object":
        return "mapping"
    limits = [text.format(schema[key]) for key, text in _LIMITS.items() if key in schema]
    return " ".join([schema.get("type", "any value"), *limits])


def _name(schema: Mapping[str, Any]) -> str:
    return schema["$ref"].rpartition("/")[2]


def _default(schema: Mapping[str, Any], required: bool) -> str:
    if "default" not in schema:
        return "required" if required else "–"
    default = schema["default"]
    return "its own" if isinstance(default, Mapping) else _code(default)


def _keys(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[str]:
    """Table of an object's keys. A key without a description has that of what it refers to."""
    yield "| key | type | default | what it is |\n|---|---|---|---|"
    required = schema.get("required", ())
    for key, value in schema["properties"].items():
        description = value.get("description") or definitions[_name(value)]["description"]
        cells = [f"`{key}`", _type(value), _default(value, key in required), description]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _sections(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[str]:
    """Names of the objects that a schema leads to, in the order of its keys."""
    if isinstance(schema, Mapping):
        if "$ref" in schema:
            yield _name(schema)
            yield from _sections(definitions[_name(schema)], definitions)
        for key, value in schema.items():
            if key != "$defs":
                yield from _sections(value, definitions)
    elif isinstance(schema, list):
        for value in schema:
            yield from _sections(value, definitions)


def page(schema: Mapping[str, Any], standard: str) -> str:
    """The page, in Markdown.

    Args:
        schema: the config's JSON schema.
        standard: text of the standard settings.
    """
    definitions = schema["$defs"]
    lines = [_HEAD, "## A study\n", *_keys(schema, definitions), ""]
    for name in dict.fromkeys(_sections(schema, definitions)):
        definition = definitions[name]
        lines += [f"## {name}\n", f"{definition['description']}\n", *_keys(definition, definitions), ""]
    return "\n".join([*lines, _STANDARD.format(standard=standard)])
