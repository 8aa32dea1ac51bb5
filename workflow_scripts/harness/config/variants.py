"""Attention variants of a run, and a key for the options of each that has some: all as the variants declare them."""

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


_OPTIONS = {variant.key: _options_model(variant) for variant in VARIANTS.values() if variant.options}
OPTION_KEYS = {variant.key: name for name, variant in VARIANTS.items() if variant.options}  # key → variant

_FIELDS: dict[str, Any] = {
    key: (
        _OPTIONS[key] | None,
        Field(None, description=f"{variant} only: its parameters; null takes their defaults."),
    )
    for key, variant in OPTION_KEYS.items()
}
# part of a run: a key for each variant with options
VariantOptions: Any = create_model("VariantOptions", __base__=Strict, **_FIELDS)


def options_of(run: Any) -> dict[str, Any]:
    """Options of a run's variant, with their defaults."""
    key = VARIANTS[run.variant].key
    return (getattr(run, key) or _OPTIONS[key]()).model_dump() if key in _OPTIONS else {}
