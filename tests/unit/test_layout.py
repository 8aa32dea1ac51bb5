"""The library stands by itself: its imports go down, in one order, to packages that it declares, and not to the workflow."""

import ast
import re
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
# parts of the library from bottom to top; a part imports from its own level and from those above it in this list
LEVELS = [
    {"errors", "parent_processes", "scratch", "tables"},
    {"sources"},
    {"corpora", "models"},
    {"sites"},
    {"activations"},
    {"interventions"},
    {"statistics", "support"},
    {"pretraining", "variants"},
    {"claims"},
    {"figures", "publish"},
    {"page"},
    {"notebook"},
]
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}
IMPORT_NAMES = {"pyyaml": "yaml", "vl-convert-python": "vl_convert"}  # of packages that are not imported by their name
NEVER_IMPORTED = {"accelerate"}  # transformers needs it to read GGUF files and to spread a model over GPUs
WITH_PYTORCH = {"triton"}  # comes with PyTorch where that can use it


def _files(folder):
    return {
        ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(folder.rglob("*.py"))
    }


MODULES = _files(SOURCE)


def imported_by(path):
    """Dotted names that a file imports anywhere in it, relative imports aside: the house has none."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, path
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _module(name):
    """The module that an imported name is, or is in."""
    return name if name in MODULES else name.rpartition(".")[0]


GRAPH = {
    module: {_module(name) for name in imported_by(path) if name.split(".")[0] == "sinkorigin"}
    for module, path in MODULES.items()
}


def part(module):
    return module.split(".")[1]


def packages(paths):
    """Import names of the packages, neither of Python nor of this project, that these files import."""
    tops = {name.split(".")[0] for path in paths for name in imported_by(path)}
    return tops - sys.stdlib_module_names - {"sinkorigin", "harness"}


@pytest.fixture(scope="module")
def declared():
    """Import names of the packages of the library, of each extra, and of all."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = {"library": project["dependencies"], **project["optional-dependencies"]}
    names = {key: {re.split(r"[<>=~![]", line)[0].lower() for line in lines} for key, lines in lists.items()}
    return {key: {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in those} for key, those in names.items()}


def test_the_library_knows_nothing_of_the_workflow():
    tops = {(name.split(".")[0], path.name) for path in MODULES.values() for name in imported_by(path)}
    assert not [
        found for found in tops if found[0].startswith(("snakemake", "harness", "workflow_scripts", "pydantic"))
    ]


def test_every_part_has_a_level():
    assert {part(module) for module in MODULES if module != "sinkorigin"} == LEVEL.keys()


def test_no_import_goes_up():
    upward = [
        f"{module} imports {imported}"
        for module, others in GRAPH.items()
        for imported in others
        if imported != "sinkorigin" and (module == "sinkorigin" or LEVEL[part(imported)] > LEVEL[part(module)])
    ]
    assert not upward


def test_a_package_holds_a_docstring_only():
    """Its code would be part of the versions of all jobs that import one of its modules."""
    bodies = {
        path.parent.name: ast.parse(path.read_text()).body for path in MODULES.values() if path.name == "__init__.py"
    }
    del bodies["sinkorigin"]
    assert not [name for name, body in bodies.items() if any(not isinstance(line, ast.Expr) for line in body)]


def test_imports_have_no_cycle():
    list(TopologicalSorter(GRAPH).static_order())  # raises CycleError, which shows it


def test_only_what_runs_the_library_reads_a_registry():
    """A line that is added to one must change no version of a job's code."""
    assert not [module for module, others in GRAPH.items() if any(name.endswith(".registry") for name in others)]


def test_the_library_declares_what_it_imports_and_nothing_else(declared):
    figures = [path for module, path in MODULES.items() if module.startswith("sinkorigin.figures")]
    page = [path for module, path in MODULES.items() if module.startswith("sinkorigin.page")]
    others = set(MODULES.values()) - {*figures, *page}
    assert packages(others) - WITH_PYTORCH == declared["library"] - NEVER_IMPORTED
    assert packages(figures) - declared["library"] == declared["figures"]
    assert packages(page) - declared["library"] == declared["page"]


def test_the_workflow_declares_what_it_imports(declared):
    scripts = (ROOT / "workflow_scripts").rglob("*.py")
    assert packages(scripts) <= declared["library"] | declared["workflow"] | declared["figures"]


def test_the_library_is_marked_as_typed():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert all(list((SOURCE / "sinkorigin").glob(name)) for name in setuptools["package-data"]["sinkorigin"])
