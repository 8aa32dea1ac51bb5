"""One sentence for what pydantic found wrong: the key, its value and the remedy."""

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from typing import Any


def sentence(problem: Mapping[str, Any], raw: Any) -> str:
    """One pydantic problem as ``key: what is wrong, value, remedy``."""
    path, here = [], raw
    for part in problem["loc"]:
        if isinstance(here, dict) and part not in here and here.get("kind") == part:
            continue  # pydantic's mark of the kind that it checked the entry as
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
