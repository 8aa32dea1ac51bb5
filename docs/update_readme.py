"""Put the ledger of claims, the pretraining comparison and the figures of the default study into the README: ``make readme``."""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "workflow_scripts")]

from sinkorigin.claims.comparison import markdown_table
from sinkorigin.claims.row_texts import settings_text, value_text
from sinkorigin.tables import read_table

STUDY = ROOT / "results" / "default"
# models trained here are in the ledger one by one; the README has the claims about their runs
SINGLE_CHECKPOINTS = {path.name for path in (STUDY / "statistics").glob("*-seed*")}
FIGURES = ("chain", "conversion_curves", "super_neurons")
TEXT = "natural_text"  # the prompts on which trained models are compared here


def between(readme: str, name: str, content: str, page: str = "README.md") -> str:
    """The README, or another page, with other content between two of its marks."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, found, rest = readme.partition(start)
    if not found or end not in rest:
        sys.exit(f"{page} lacks the marks {start.strip()} and {end}; put them where the table belongs")
    return before + start + content + "\n" + end + rest.partition(end)[2]


def ledger_table() -> str:
    """The ledger as Markdown: every claim, of each fetched model under each first token, and of each run trained here."""
    lines = [
        "| claim | model | first token | paper | here, 95 % interval | predicate | verdict | settings |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in read_table(STUDY / "claims.parquet").to_pylist():
        if row["model"] in SINGLE_CHECKPOINTS:
            continue
        cells = [
            f"{row['claim']}: {row['words']}",
            row["label"],
            row["first_token"] or "–",
            row["paper"] or "–",
            value_text(row),
            row["predicate"],
            f"**{row['verdict']}**",
            settings_text(row),
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    readme = ROOT / "README.md"
    text = between(readme.read_text(), "claims", ledger_table())
    comparison = read_table(STUDY / "statistics" / "pretraining_comparison.parquet")
    readme.write_text(between(text, "pretraining", markdown_table(comparison, TEXT)))
    (ROOT / "docs" / "figures").mkdir(exist_ok=True)
    for name in FIGURES:
        shutil.copy(STUDY / "figures" / f"{name}.svg", ROOT / "docs" / "figures")


if __name__ == "__main__":
    main()
