"""Notebooks of the documentation as Markdown: their cells alone, or with what they showed when they were run."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path


def cells_of(path: Path) -> list[dict]:
    """Cells of a notebook, each with its source as one text."""
    cells = json.loads(path.read_text())["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in cells]


def digest_of(cells: list[dict]) -> str:
    """Hash of all code of a notebook: outputs that were written with another one are of other code."""
    code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def pages_of(folder: Path) -> list[Path]:
    """Pages of the documentation, in Markdown or as notebooks."""
    return [*folder.glob("*.md"), *folder.glob("*.ipynb")]


def source_of(page: Path) -> Path:
    """File that a page of the site is made from: the notebook of its name, where there is one."""
    notebook = page.with_suffix(".ipynb")
    return notebook if notebook.is_file() else page


def markdown(path: Path) -> str:
    """Text of a page; that of a notebook is its cells with the code in fences and without outputs."""
    return path.read_text() if path.suffix != ".ipynb" else _joined(_of_cell(cell) for cell in cells_of(path))


def with_outputs(path: Path) -> tuple[str, dict[str, bytes]]:
    """Cells and outputs of a notebook.

    Returns:
        The page, and the figures that it shows by name: PNG files beside it.
    """
    parts: list[str] = []
    figures: dict[str, bytes] = {}
    for cell in cells_of(path):
        parts.append(_of_cell(cell))
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}_{len(figures) + 1}.png"
                figures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![{cell['metadata']['alt']}]({name})")
            elif "text/html" in data:
                # one HTML block without empty lines, in which the site's own style of tables applies
                html = re.sub(r"<style.*?</style>|\s*\n\s*", "", "".join(data["text/html"]), flags=re.DOTALL)
                parts.append(re.sub(r"<table[^>]*>", "<table>", html))
            else:
                parts.append(f"```text\n{''.join(output.get('text') or data['text/plain']).rstrip()}\n```")
    return _joined(parts), figures


def _of_cell(cell: dict) -> str:
    return cell["source"] if cell["cell_type"] == "markdown" else f"```python\n{cell['source']}\n```"


def _joined(parts: Iterator[str] | list[str]) -> str:
    return "\n\n".join(parts) + "\n"
