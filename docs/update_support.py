"""Write docs/support.md, and the sentence of the README with its counts, from results/support.parquet: ``make support``."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "docs")]

from sinkorigin.support.page import page, summary
from sinkorigin.tables import read_table
from update_readme import between


def main() -> None:
    table = read_table(ROOT / "results" / "support.parquet")
    (ROOT / "docs" / "support.md").write_text(page(table))
    readme = ROOT / "README.md"
    readme.write_text(between(readme.read_text(), "support", summary(table)))


if __name__ == "__main__":
    main()
