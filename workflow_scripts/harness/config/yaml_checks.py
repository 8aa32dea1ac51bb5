"""Checks of a config file as it is written, before YAML's reading of it hides what was meant."""

import json
import math
import re
from pathlib import Path
from typing import Any

from sinkorigin.errors import SinkoriginError

_MOST_VALUES = 100_000  # of a config with its aliases written out; a study of many models has some thousands


def check_written(file: Path) -> None:
    """Refuse what YAML reads as something else than is written: a key given twice, and numbers of base 8 and 60.

    A file that is JSON is read as JSON by Snakemake, where there are no such numbers.

    Raises:
        SinkoriginError: naming the file, the line, the key and the remedy.
    """
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        try:
            json.loads(
                text, object_pairs_hook=lambda pairs: _check_repeated([(key, None) for key, _ in pairs], str(file))
            )
            return
        except ValueError:
            root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if root is not None and (size := _expanded(root, {})) > _MOST_VALUES:
            what = "an alias of what it stands in" if math.isinf(size) else f"aliases that stand for {size} values"
            raise SinkoriginError(f"{file} has {what}; write it without aliases")
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SinkoriginError(f"{file} is no YAML in UTF-8 ({' '.join(str(error).split())}); correct it") from error
    except RecursionError as error:
        raise SinkoriginError(f"{file} is nested too deeply; correct it") from error
    waiting, seen = [("", root)], set()
    while waiting:
        key, node = waiting.pop()
        if node is None or id(node) in seen:  # an empty file, an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(key, entry) for entry in node.value]
        elif isinstance(node, yaml.MappingNode):
            _check_repeated([(name.value, name.start_mark.line + 1) for name, _ in node.value], str(file))
            waiting += [(name.value, value) for name, value in node.value]
        elif node.tag.endswith((":int", ":float")) and (base := hidden_base(node.value)):
            raise SinkoriginError(
                f"{file}, line {node.start_mark.line + 1}: {key} has {node.value}, which YAML reads as a number of base "
                f"{base}, {yaml.safe_load(node.value)}; write the number that you mean, or put a text in quotes"
            )


def _expanded(node: Any, sizes: dict[int, float]) -> float:
    """Number of values that a node of YAML stands for, aliases written out; infinite for one inside itself.

    Args:
        sizes: what is known of nodes by their identity, which is added to.
    """
    if id(node) not in sizes:
        sizes[id(node)] = math.inf  # until it ends
        inside = node.value if isinstance(node.value, list) else []
        parts = [part for entry in inside for part in (entry if isinstance(entry, tuple) else (entry,))]
        sizes[id(node)] = 1 + sum(_expanded(part, sizes) for part in parts)
    return sizes[id(node)]


def _check_repeated(keys: list[tuple[Any, int | None]], file: str) -> None:
    """Refuse a key that stands twice in one dictionary: its keys, each with its line where that is known."""
    lines: dict[str, int | None] = {}
    for key, line in keys:
        if str(key) in lines:
            where = file if line is None else f"{file}, line {line}"
            too = "twice in one dictionary" if line is None else f"in line {lines[str(key)]} too"
            raise SinkoriginError(f"{where}: {key} stands {too}, and only the last would count; delete one of them")
        lines[str(key)] = line


def hidden_base(written: str) -> int | None:
    """The base of a number whose spelling does not show that it is not 10."""
    if ":" in written:
        return 60
    return 8 if re.match(r"[-+]?0[0-7_]+$", written) else None
