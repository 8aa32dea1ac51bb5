"""Put what the default study found into README.md and docs/found.md: ``make readme``.

The study's ledger, checks, accounts and comparison of trainings are copied into ``docs/study``, so that a test can hold the two pages to them.
"""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "workflow_scripts", "docs")]

import polars as pl

import ledger_tables
from sinkorigin.claims.accounts import TRAINING_PREDICTIONS
from sinkorigin.claims.comparison import markdown_table
from sinkorigin.claims.findings import findings
from sinkorigin.page.sentences import chain_sentence
from sinkorigin.tables import read_table

STUDY = ROOT / "results" / "default"
COPIES = ROOT / "docs" / "study"
TABLES = (
    "claims.parquet",
    "accounts.parquet",
    "checks.parquet",
    "statistics/pretraining_comparison.parquet",
    "statistics/smollm2-135m/random_tokens/mediation.parquet",
)
FIGURES = ("chain",)
TEXT = "natural_text"  # the prompts on which trained models are compared here


def between(text: str, name: str, content: str, page: str = "README.md") -> str:
    """A page with other content between two of its marks."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, found, rest = text.partition(start)
    if not found or end not in rest:
        sys.exit(f"{page} lacks the marks {start.strip()} and {end}; put them where the table belongs")
    return before + start + content + "\n" + end + rest.partition(end)[2]


def _copied(name: str) -> list[dict]:
    return read_table(COPIES / f"{name}.parquet").to_pylist()


def readme(text: str) -> str:
    """README.md with the study's findings."""
    told = findings(ledger_tables.without_checkpoints(_copied("claims")))
    text = between(text, "findings", "\n".join(f"- **{finding.heading}.** {finding.sentence}" for finding in told))
    links = chain_sentence(pl.read_parquet(COPIES / "mediation.parquet"))
    return between(text, "chain", f"{links[0].upper()}{links[1:]}")


def found(text: str) -> str:
    """docs/found.md with the study's tables."""
    ledger = ledger_tables.without_checkpoints(_copied("claims"))
    predicted = ledger_tables.accounts(_copied("accounts"), {one.code for one in TRAINING_PREDICTIONS})
    comparison = read_table(COPIES / "pretraining_comparison.parquet")
    for name, content in (
        ("claims", "\n".join(ledger_tables.by_model(ledger)).rstrip()),
        ("checks", ledger_tables.checks(COPIES / "checks.parquet")),
        ("accounts", "\n".join(predicted).rstrip()),
        ("pretraining", markdown_table(comparison, TEXT)),
    ):
        text = between(text, name, content, page="docs/found.md")
    return text


def main() -> None:
    for table in TABLES:
        shutil.copy(STUDY / table, COPIES)
    for name in FIGURES:
        shutil.copy(STUDY / "figures" / f"{name}.svg", ROOT / "docs" / "figures")
    for path, written in ((ROOT / "README.md", readme), (ROOT / "docs" / "found.md", found)):
        path.write_text(written(path.read_text()))


if __name__ == "__main__":
    main()
