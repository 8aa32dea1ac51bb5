"""Write docs/tables.md, with every column of every table, from the tables' schemas: ``make tables``."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "workflow_scripts")]

from harness.table_catalogue import page

if __name__ == "__main__":
    (ROOT / "docs" / "tables.md").write_text(page((ROOT / "results" / "README.md").read_text()))
