"""Put the ledger of claims, the pretraining comparison and the figures of the default study into the README: ``make readme``."""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "workflow_scripts", "docs")]

import ledger_tables

from sinkorigin.claims.accounts import TRAINING_PREDICTIONS
from sinkorigin.claims.comparison import markdown_table
from sinkorigin.tables import read_table

STUDY = ROOT / "results" / "default"
FIGURES = ("chain", "conversion_curves", "super_neurons")
TEXT = "natural_text"  # the prompts on which trained models are compared here


def between(readme: str, name: str, content: str, page: str = "README.md") -> str:
    """The README, or another page, with other content between two of its marks."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, found, rest = readme.partition(start)
    if not found or end not in rest:
        sys.exit(f"{page} lacks the marks {start.strip()} and {end}; put them where the table belongs")
    return before + start + content + "\n" + end + rest.partition(end)[2]


def main() -> None:
    readme = ROOT / "README.md"
    ledger = ledger_tables.without_checkpoints(read_table(STUDY / "claims.parquet").to_pylist())
    comparison = read_table(STUDY / "statistics" / "pretraining_comparison.parquet")
    predicted = ledger_tables.accounts(
        read_table(STUDY / "accounts.parquet").to_pylist(), {one.code for one in TRAINING_PREDICTIONS}
    )
    text = readme.read_text()
    for name, content in (
        ("claims", "\n".join(ledger_tables.by_model(ledger)).rstrip()),
        ("checks", ledger_tables.checks(STUDY / "checks.parquet")),
        ("accounts", "\n".join(predicted).rstrip()),
        ("pretraining", markdown_table(comparison, TEXT)),
    ):
        text = between(text, name, content)
    readme.write_text(text)
    (ROOT / "docs" / "figures").mkdir(exist_ok=True)
    for name in FIGURES:
        shutil.copy(STUDY / "figures" / f"{name}.svg", ROOT / "docs" / "figures")


if __name__ == "__main__":
    main()
