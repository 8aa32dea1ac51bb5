"""The version of a script: a hash of what it and everything it imports from the library would do.

Snakemake follows a script but not its imports. Each rule therefore carries this hash as a parameter, so that an edit of
a library module reruns exactly the jobs whose script can reach it, and an edit of a comment or docstring none.
"""

import ast
import hashlib
import json
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

_PACKAGE = "sinkorigin"

_parses: dict[str, tuple[str, list[str]]] = {}  # hash of a file's bytes → what _parse makes of it


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return tree


def _module_file(root: Path, dotted: str) -> Path | None:
    base = root.joinpath(*dotted.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _parsed(path: Path) -> tuple[str, tuple[str, ...]]:
    """Hash of one file's code, and the dotted names of the library modules that it imports anywhere."""
    text = path.read_bytes()
    key = hashlib.sha256(text).hexdigest()
    if key not in _parses:
        _parses[key] = _parse(text, path)
    digest, imported = _parses[key]
    return digest, tuple(imported)


def _parse(text: bytes, path: Path) -> tuple[str, list[str]]:
    tree = ast.parse(text, filename=str(path))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            # "from sinkorigin.statistics import variance" may name a module or something inside one
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    digest = hashlib.sha256(ast.dump(_without_docstrings(tree)).encode()).hexdigest()
    return digest, sorted(name for name in imported if name.split(".")[0] == _PACKAGE)


def _with_packages(dotted: str) -> list[str]:
    """``a.b.c`` and the packages whose ``__init__`` runs on its import."""
    parts = dotted.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


@cache
def closure(script: Path) -> tuple[Path, ...]:
    """The script and every library file that importing it can reach, sorted."""
    root = script.parent
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for dotted in _parsed(path)[1]:
            for name in _with_packages(dotted):
                file = _module_file(root, name)
                if file is not None:
                    waiting.append(file)
    return tuple(sorted(found))


@cache
def code_version(script: Path) -> str:
    """Sixteen hex digits that change when, and only when, code in the script's import closure changes.

    Args:
        script: a script in the folder that also holds the library package.
    """
    digest = hashlib.sha256()
    for path in closure(script):
        digest.update(path.relative_to(script.parent).as_posix().encode())
        digest.update(_parsed(path)[0].encode())
    return digest.hexdigest()[:16]


def code_versions(folder: Path, kept: Path) -> dict[str, str]:
    """Name of every script in a folder → its version.

    Args:
        kept: folder for what parsing gave, which takes more than a second. An entry is found by what a source file holds, not
            by its name or time, so that it is never out of date; each version of Python, whose syntax trees differ, has its own.
    """
    file = kept / f"code_versions-{sys.version_info.major}.{sys.version_info.minor}.json"
    with suppress(OSError, ValueError):
        _parses.update(json.loads(file.read_text()))
    known = len(_parses)
    versions = {script.name: code_version(script) for script in folder.glob("*.py")}
    if len(_parses) > known:
        with suppress(OSError):  # planning needs no right to write
            kept.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(_parses))
            os.replace(partial, file)
    return versions
