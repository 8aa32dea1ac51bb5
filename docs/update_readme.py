"""Put the claims table, the pretraining comparison and the figures of the default study's results into the README: ``make readme``."""

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "workflow_scripts")]

from sinkorigin.claims.comparison import markdown_table
from sinkorigin.claims.page import value_text
from sinkorigin.claims.pretraining import TABLE as COMPARED
from sinkorigin.tables import read_table

STUDY = ROOT / "results" / "default"
PAPER_POSITION = "10"
FIGURES = ("sink_by_intervention", "necessity", "super_neurons")
OTHER_FIRST_TOKENS = ("random_tokens_bos", "random_tokens_fixed")
TEXT = "natural_text"  # the prompts on which trained models are compared here


def between(readme: str, name: str, content: str) -> str:
    """The README with other content between two of its marks."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, found, rest = readme.partition(start)
    if not found or end not in rest:
        sys.exit(f"README.md lacks the marks {start.strip()} and {end}; put them where the table belongs")
    return before + start + content + "\n" + end + rest.partition(end)[2]


def main() -> None:
    rows = [
        "| claim | model | prompts | paper | here, 95 % interval | predicate | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in read_table(STUDY / "claims.parquet").to_pylist():
        # the README shows the paper's prompts, and text for the models trained here; claims.html has all of them
        compared = row["table"] == COMPARED
        if row["prompts"] is not None and compared != (row["prompts"] == TEXT):
            continue
        if row["prompts"] in OTHER_FIRST_TOKENS:
            continue
        if "seed " in row["model"]:  # a single checkpoint
            continue
        # and of the positions at which interventions were made, the paper's
        position = re.search(r"at position (\d+)", row["statement"])
        if position and position[1] != PAPER_POSITION:
            continue
        cells = [
            row["statement"],
            row["model"],
            (row["prompts"] or "–").replace("_", " "),
            row["paper"] or "–",
            value_text(row),
            row["predicate"],
            f"**{row['verdict']}**",
        ]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    readme = ROOT / "README.md"
    text = between(readme.read_text(), "claims", "\n".join(rows))
    comparison = read_table(STUDY / "statistics" / "pretraining_comparison.parquet")
    readme.write_text(between(text, "pretraining", markdown_table(comparison, TEXT)))
    (ROOT / "docs" / "figures").mkdir(exist_ok=True)
    for name in FIGURES:
        shutil.copy(STUDY / "figures" / f"{name}.svg", ROOT / "docs" / "figures")


if __name__ == "__main__":
    main()
