"""Checks of the registries: each ``sinkorigin/{package}/registry.py`` lists names, and every name is a module of that package.

Modules are read and not imported, since some of them import PyTorch.
"""

import ast
import symtable
from collections.abc import Iterator
from pathlib import Path

from sinkorigin.errors import SinkoriginError

# package → what each module that its registry names defines; a kind of intervention is a class called as its module
_DEFINED = {
    "sites": "SITE",
    "interventions": "{class_name}",
    "variants": "VARIANT",
    "statistics": "compute",
    "figures": "draw",
}


def check_registries(library: Path) -> None:
    """Check every registry of the library, the package ``sinkorigin`` in this folder.

    Raises:
        SinkoriginError: a name stands twice in a registry, has no module, or its module lacks what it must define.
    """
    for registry in sorted(library.glob("*/registry.py")):
        package, seen = registry.parent, set()
        for name, line in _registered(registry):
            where = f"{registry}, line {line}"
            if name in seen:
                raise SinkoriginError(f"{where}: {name} is registered twice; delete one of its lines")
            seen.add(name)
            modules = [*package.glob(f"*/{name}.py"), *package.glob(f"{name}.py")]  # sites/attention.py is no site
            if not modules:
                raise SinkoriginError(
                    f"{where}: {name} is registered, but there is no module {name}.py in {package} or a folder in it; add the "
                    "module, or delete the line"
                )
            class_name = "".join(word.capitalize() for word in name.split("_"))
            wanted = _DEFINED.get(package.name, "").format(class_name=class_name)
            if wanted and wanted not in _defined(modules[0]):
                raise SinkoriginError(
                    f"{where}: {name} is registered, but {modules[0]} does not define {wanted}; define it"
                )


def _registered(registry: Path) -> Iterator[tuple[str, int]]:
    """Names in a registry, with their lines: the entries of its list or tuple in capitals, or the keys of a dictionary."""
    for statement in ast.parse(registry.read_bytes()).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            value = statement.value
            for entry in value.keys if isinstance(value, ast.Dict) else getattr(value, "elts", []):
                if isinstance(entry, ast.Constant) and isinstance(entry.value, str):
                    yield entry.value, entry.lineno


def _defined(module: Path) -> set[str]:
    """Names that a module defines or imports."""
    names = symtable.symtable(module.read_text(encoding="utf-8"), str(module), "exec").get_symbols()
    return {name.get_name() for name in names if name.is_assigned() or name.is_imported() or name.is_annotated()}
