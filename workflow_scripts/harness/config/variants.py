"""Attention variants of a run, and a key for the options of each that has some: all as the variants declare them."""

import json
from pathlib import Path
from typing import Any

from pydantic import Field, create_model

from harness.config.values import Strict
from sinkorigin.variants import registry
from sinkorigin.variants.declaration import Variant, declared

# name → declaration
VARIANTS: dict[str, Variant] = {name: declared(name) for name in registry.VARIANTS}


def _options_model(variant: Variant) -> type[Strict]:
    """Section of the config for a variant's options."""
    fields: dict[str, Any] = {
        name: (option.type, Field(option.default, gt=option.above, description=option.description))
        for name, option in variant.options.items()
    }
    name = "".join(part.capitalize() for part in variant.key.split("_"))
    return create_model(name, __base__=Strict, __doc__=f"Parameters of {variant.description}.", **fields)


OPTIONS = {variant.key: _options_model(variant) for variant in VARIANTS.values() if variant.options}
OPTION_KEYS = {name: variant.key for name, variant in VARIANTS.items() if variant.options}  # variant → key

_FIELDS: dict[str, Any] = {
    key: (OPTIONS[key] | None, Field(None, description=f"{variant} only: its parameters; null takes their defaults."))
    for variant, key in OPTION_KEYS.items()
}
# part of a run: a key for each variant with options
VariantOptions: Any = create_model("VariantOptions", __base__=Strict, **_FIELDS)


def variant_module(variant: str) -> str:
    """Library module of a variant, which jobs import by its name; see ``harness.code_version``."""
    return f"sinkorigin.variants.{variant}"


def variant_modules(config: Any, model: str) -> list[str]:
    """Library modules of the variant that a model of a study was trained as.

    It is known of models that the study trains, and of ``path:`` models from their config.json; a downloaded one counts as a
    model of transformers.
    """
    if model in config.trained:
        return [variant_module(config.trained[model][0].variant)]
    kind, place = next((entry.kind, entry.place) for entry in config.models if entry.name == model)
    if kind == "random":
        return variant_modules(config, place)
    try:
        model_type = json.loads((Path(place).expanduser() / "config.json").read_text())["model_type"]
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
    ):  # none, or a damaged one, which its fetch refuses
        return []
    return [variant_module(name) for name in VARIANTS if kind == "path" and model_type == f"{name}_llama"]
