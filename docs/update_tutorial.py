"""Run docs/tutorial.ipynb from beginning to end and keep what it shows: ``make tutorial``."""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "docs")]

from notebook_pages import cells_of, digest_of

TUTORIAL = ROOT / "docs" / "tutorial.ipynb"


def main() -> None:
    os.environ["PYTHONPATH"] = str(ROOT / "src")  # of the kernel
    notebook = nbformat.read(TUTORIAL, as_version=4)
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=None,
        record_timing=False,  # else the file holds the time of day
        resources={"metadata": {"path": str(TUTORIAL.parent)}},
    )
    client.execute()
    for cell in [one for one in notebook.cells if one.cell_type == "code"]:
        # progress bars and warnings, which differ from run to run
        cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    # without the version of the Python that ran it
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "code_sha256": digest_of(cells_of(TUTORIAL)),
    }
    nbformat.write(notebook, TUTORIAL)


if __name__ == "__main__":
    main()
