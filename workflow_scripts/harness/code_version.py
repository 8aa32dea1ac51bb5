"""The version of a script: a hash of what it and everything it imports from the library would do.

Snakemake follows a script but not its imports. Each rule therefore carries this hash as a parameter, so that an edit of
a library module reruns exactly the jobs whose script can reach it, and an edit of a comment or docstring none. The pinned
versions of the packages that this code imports count too.
"""

import ast
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from harness.pins import pins_of
from sinkorigin.errors import SinkoriginError

_PACKAGE = "sinkorigin"
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree


def _parse(source: str, filename: str) -> list:
    """Hash of one file's code, and the dotted names of the modules that it imports anywhere."""
    tree = ast.parse(source, filename=filename)
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            # "from sinkorigin.statistics import variance" may name a module or something inside one
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return [hashlib.sha256(ast.dump(_without_docstrings(tree)).encode()).hexdigest(), sorted(imported)]


def _sealed(parsed: dict[str, list]) -> str:
    """What was parsed as a text of two lines, the first of which is the hash of the second."""
    text = json.dumps(parsed)
    return f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}"


def _unsealed(text: str) -> dict[str, list]:
    """What :func:`_sealed` wrote; nothing where the text is damaged: a lost import would hide later edits of its module."""
    recorded, _, parsed = text.partition("\n")
    return json.loads(parsed) if hashlib.sha256(parsed.encode()).hexdigest() == recorded else {}


def _with_packages(dotted: str) -> list[str]:
    """``a.b.c`` and the packages whose ``__init__`` runs on its import."""
    parts = dotted.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


class Code:
    """The code of the workflow: every script of a folder, and the library package in it.

    Args:
        root: the checkout, with the scripts in ``workflow_scripts`` and the library in ``src``.
        lock: requirements.lock.
        memory: a file to keep what was parsed in, by content: parsing takes a second, half of Snakemake's start.
    """

    def __init__(self, root: Path, lock: Path, memory: Path | None = None):
        self._root, self._lock, self._memory = root, lock, memory
        self._remembered: dict[str, list] = {}
        if memory is not None:
            with suppress(OSError, ValueError):
                self._remembered = _unsealed(memory.read_text())
        self._parsed: dict[Path, list] = {}
        self._used: dict[str, list] = {}
        self._reached: dict[Path, list[Path]] = {}
        self._module_files: dict[str, Path | None] = {}
        self._versions: dict[tuple[str, ...], str] = {}

    def parsed(self, path: Path) -> list:
        """Hash of one file's code, and the dotted names of the modules that it imports."""
        if path not in self._parsed:
            source = path.read_bytes()
            # the same syntax gives another tree in another Python
            key = hashlib.sha256(sys.version.encode() + source).hexdigest()
            found = self._remembered.get(key) or _parse(source.decode(), str(path))
            self._used[key] = self._parsed[path] = found
        return self._parsed[path]

    def closure(self, script: str, *modules: str) -> list[Path]:
        """The script and every library file that importing it can reach, sorted.

        Args:
            script: name of a file in ``workflow_scripts``.
            modules: dotted names of library modules that the script imports by name, which its syntax does not show; a
                :class:`SinkoriginError` says if there is no such module.
        """
        found: set[Path] = set()
        waiting = [self._root / "workflow_scripts" / script]
        for module in modules:
            if self._module_file(module) is None:
                raise SinkoriginError(
                    f"{script}: there is no module {module} in {self._root / 'src'}; correct its name"
                )
            waiting += self._files([module])
        while waiting:
            path = waiting.pop()
            if path not in found:
                found.add(path)
                waiting += self._files_below(path)
        return sorted(found)

    def _files_below(self, path: Path) -> list[Path]:
        """The library files that run on the imports of a file."""
        if path not in self._reached:
            names = [name for name in self.parsed(path)[1] if name.split(".")[0] == _PACKAGE]
            self._reached[path] = self._files(names)
        return self._reached[path]

    def _files(self, modules: Iterable[str]) -> list[Path]:
        """The files that run on the import of these modules, as far as they are modules."""
        names = {name for dotted in modules for name in _with_packages(dotted)}
        return [file for name in names if (file := self._module_file(name)) is not None]

    def _module_file(self, dotted: str) -> Path | None:
        if dotted not in self._module_files:
            base = self._root.joinpath("src", *dotted.split("."))
            files = (base.with_suffix(".py"), base / "__init__.py")
            self._module_files[dotted] = next((file for file in files if file.is_file()), None)
        return self._module_files[dotted]

    def packages(self, script: str, *modules: str) -> dict[str, str]:
        """The pins that the import closure depends on, see :meth:`closure`: package → version."""
        imported = {name.split(".")[0] for path in self.closure(script, *modules) for name in self.parsed(path)[1]}
        return pins_of(sorted(imported), self._lock)

    def version(self, script: str, *modules: str) -> str:
        """Sixteen hex digits that change when code in the closure, see :meth:`closure`, or the pin of a package below it, changes."""
        key = (script, *sorted(modules))
        if key not in self._versions:
            digest = hashlib.sha256()
            for path in self.closure(*key):
                digest.update(path.relative_to(self._root).as_posix().encode())
                digest.update(self.parsed(path)[0].encode())
            digest.update(repr(self.packages(*key)).encode())
            self._versions[key] = digest.hexdigest()[:16]
        return self._versions[key]

    def remember(self) -> None:
        """Keep what was parsed for the next start."""
        if self._memory is None or self._used.keys() == self._remembered.keys():
            return
        partial = self._memory.with_name(f".{self._memory.name}.{os.getpid()}")
        with suppress(OSError):  # a directory that this process may not write to: it parses every time
            partial.write_text(_sealed(self._used))
            os.replace(partial, self._memory)
