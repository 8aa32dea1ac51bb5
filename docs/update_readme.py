"""Put what the default study found into README.md and docs/found.md: ``make readme``.

The study's ledger and its comparison of trainings are copied into ``docs/study``, so that a test can hold the two pages to them.
"""

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "workflow_scripts")]

from sinkorigin.claims.comparison import markdown_table
from sinkorigin.claims.findings import findings
from sinkorigin.claims.first_tokens import NAMES
from sinkorigin.claims.ledger import TRAININGS
from sinkorigin.claims.page import claim_order, settings_text, value_text
from sinkorigin.tables import read_table

STUDY = ROOT / "results" / "default"
COPIES = ROOT / "docs" / "study"
TABLES = ("claims.parquet", "statistics/pretraining_comparison.parquet")
FIGURES = ("chain",)
_OF_RUNS = {claim.code for claim in TRAININGS}
TEXT = "natural_text"  # the prompts on which trained models are compared here


def between(text: str, name: str, content: str, page: str = "README.md") -> str:
    """A page with other content between two of its marks."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, found, rest = text.partition(start)
    if not found or end not in rest:
        sys.exit(f"{page} lacks the marks {start.strip()} and {end}; put them where the table belongs")
    return before + start + content + "\n" + end + rest.partition(end)[2]


def _ledger() -> list[dict]:
    """The study's ledger without single checkpoints: what is trained here is judged run by run."""
    rows = read_table(COPIES / "claims.parquet").to_pylist()
    return [row for row in rows if row["role"] != "trained" or row["claim"] in _OF_RUNS]


def findings_list() -> str:
    """The findings as a list."""
    return "\n".join(f"- **{finding.heading}.** {finding.sentence}" for finding in findings(_ledger()))


def _verdict(row: Mapping | None) -> str:
    if row is None:
        return ""
    return f"**{row['verdict']}**<br>{value_text(row)}<br>{settings_text(row)}"


def _table(head: Sequence[str], rows: Iterator[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for cells in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _of_model(rows: Sequence[Mapping]) -> Iterator[str]:
    """A row a claim, a column a first token."""
    columns = list(dict.fromkeys(row["first_token"] for row in rows))
    cells = {(row["claim"], row["first_token"]): row for row in rows}
    claims = {row["claim"]: row for row in rows}

    def lines() -> Iterator[list[str]]:
        for code in sorted(claims, key=claim_order):
            row = claims[code]
            verdicts = [_verdict(cells.get((code, column))) for column in columns]
            yield [f"{code}: {row['words']}", row["paper"] or "–", row["predicate"], *verdicts]

    yield from _table(["claim", "paper", "predicate", *(NAMES[column] for column in columns)], lines())


def _of_run(rows: Sequence[Mapping]) -> Iterator[str]:
    """A row a claim."""
    cells = ([f"{row['claim']}: {row['words']}", row["paper"] or "–", row["predicate"], _verdict(row)] for row in rows)
    yield from _table(["claim", "paper", "predicate", "verdict"], cells)


def ledger_tables() -> str:
    """A table for each model, with a column a first token, and for each run trained here."""
    lines: list[str] = []
    for (label, role), some in groupby(_ledger(), key=lambda row: (row["label"], row["role"])):
        rows = list(some)
        lines += [f"### {label}", "", *(_of_run if role == "trained" else _of_model)(rows), ""]
    return "\n".join(lines).rstrip()


def readme(text: str) -> str:
    """README.md with the study's findings."""
    return between(text, "findings", findings_list())


def found(text: str) -> str:
    """docs/found.md with the study's tables."""
    text = between(text, "claims", ledger_tables(), page="docs/found.md")
    comparison = read_table(COPIES / "pretraining_comparison.parquet")
    return between(text, "pretraining", markdown_table(comparison, TEXT), page="docs/found.md")


def main() -> None:
    for table in TABLES:
        shutil.copy(STUDY / table, COPIES)
    for name in FIGURES:
        shutil.copy(STUDY / "figures" / f"{name}.svg", ROOT / "docs" / "figures")
    for path, written in ((ROOT / "README.md", readme), (ROOT / "docs" / "found.md", found)):
        path.write_text(written(path.read_text()))


if __name__ == "__main__":
    main()
