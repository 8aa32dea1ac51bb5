"""Write the model and the text of the test study, which git holds so that the study runs without a step before it.

The model is a Llama of random weights, the text is made of random words: those of the tests (``tests/tiny_study.py``).
"""

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / folder) for folder in ("src", "workflow_scripts", "tests")]

from tiny_study import write_model, write_text


def write_inputs(folder: Path) -> None:
    """Write ``model`` and ``text`` in a folder that has neither."""
    write_text(folder / "text")
    write_model(folder / "model", folder / "text")


if __name__ == "__main__":
    for name in ("model", "text"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    write_inputs(HERE)
