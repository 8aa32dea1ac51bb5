"""docs/paper.md speaks of the code as it is: its tables, columns, modules and figures exist, and it defines every code."""

import ast
import importlib
import re
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pytest

from tiny_study import ROOT

LIBRARY = ROOT / "src" / "sinkorigin"
PAGE = (ROOT / "docs" / "paper.md").read_text()
CODE = r"(?<!DeepSeek )\b[VSDKAEPIC]\d{1,2}\b"


def sections() -> dict[str, str]:
    """Heading → text, of the sections that say where something is stored."""
    parts = re.split(r"^##+ (.*)$", PAGE, flags=re.MULTILINE)
    return {heading: text for heading, text in zip(parts[1::2], parts[2::2], strict=True) if "- Stored" in text}


def modules(text: str) -> list[str]:
    return re.findall(r"`(\w+/\w+\.py)`", text)


def columns(text: str) -> dict[str, set[str]]:
    """Table → its columns, of places such as `sink_mass.uniform`."""
    found = defaultdict(set)
    for table, column in re.findall(r"`(\w+)\.(\w+)`", text):
        if column != "parquet":
            found[table].add(column)
    return found


def schemas(module: str) -> list[pa.Schema]:
    """Schemas that a module of the library defines or names."""
    names = vars(importlib.import_module("sinkorigin." + module.removesuffix(".py").replace("/", ".")))
    values = [inner for value in names.values() for inner in (value.values() if isinstance(value, dict) else [value])]
    return [value for value in values if isinstance(value, pa.Schema)]


def stored_tables() -> set[str]:
    """Names of the tables that the rules make."""
    rules = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    return set(re.findall(r"/(\w+)\.parquet", rules))


@pytest.mark.parametrize("heading", sections())
def test_every_table_and_column_is_in_a_schema_of_the_modules_named_beside_it(heading):
    text = sections()[heading]
    known = [schema for module in modules(text) for schema in schemas(module)]
    assert columns(text)
    for table, cited in columns(text).items():
        assert table in stored_tables(), table
        assert any(cited <= set(schema.names) for schema in known), (table, cited)


def test_the_quantities_of_every_link_are_stored_somewhere():
    assert len(sections()) >= 15


def test_every_module_and_figure_is_there():
    for module in modules(PAGE):
        assert (LIBRARY / module).is_file(), module
    for listed in re.findall(r"figures? ((?:`\w+`(?:,\s+)?)+)", PAGE):
        for figure in re.findall(r"`(\w+)`", listed):
            assert (LIBRARY / "figures" / f"{figure}.py").is_file(), figure


def test_every_function_that_the_pages_place_in_a_file_is_there():
    pages = PAGE + (ROOT / "docs" / "layout.md").read_text()
    places = re.findall(r"`(\w+)` in `(?:src/sinkorigin/)?(\w+/[\w/]+\.py)`", pages)
    assert len(places) >= 3
    for name, file in places:
        assert f"def {name}(" in (LIBRARY / file).read_text(), name


def defined_codes() -> set[str]:
    return set(re.findall(rf"^(?:### |\| )({CODE})(?::| \|)", PAGE, re.MULTILINE))


def documentation(path: Path) -> str:
    """Docstrings and column descriptions of a module: its strings of several words."""
    tree = ast.parse(path.read_text())
    strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return "\n".join(text for text in strings if " " in text)


def test_every_code_in_docstrings_columns_captions_and_pages_is_defined():
    texts = {path: documentation(path) for path in LIBRARY.rglob("*.py")}
    texts |= {path: path.read_text() for folder in ("docs", "captions") for path in (ROOT / folder).glob("*.[mr][ds]*")}
    used = {code: path.name for path, text in texts.items() for code in re.findall(CODE, text)}
    assert {"V1", "S1", "K2", "I3"} <= used.keys()
    assert {code: name for code, name in used.items() if code not in defined_codes()} == {}


def test_no_module_points_at_a_page_that_is_not_there():
    for path in [*LIBRARY.rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]:
        for page in re.findall(r"\bdocs/\w+\.md|\b[A-Z]{3,}\.md", path.read_text()):
            assert (ROOT / page).is_file() or page in ("README.md", "docs/extending.md"), (path.name, page)
