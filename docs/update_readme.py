"""Put the claims table and the figures of the default study's results into the README: ``make readme``."""

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "workflow_scripts"))

from sinkorigin.claims import value_text
from sinkorigin.tables import read_table

STUDY = ROOT / "results" / "default"
PAPER_POSITION = "10"
FIGURES = ("sink_by_intervention", "necessity", "super_neurons")
START, END = "<!-- claims -->\n", "<!-- /claims -->"


def main() -> None:
    rows = [
        "| claim | model | prompts | paper | here, 95 % interval | predicate | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in read_table(STUDY / "claims.parquet").to_pylist():
        # the README shows the paper's prompts; claims.html has all of them
        if row["prompts"] == "natural_text" and not row["claim"].startswith("less"):
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
    before, _, rest = readme.read_text().partition(START)
    readme.write_text(before + START + "\n".join(rows) + "\n" + END + rest.partition(END)[2])
    (ROOT / "docs" / "figures").mkdir(exist_ok=True)
    for name in FIGURES:
        shutil.copy(STUDY / "figures" / f"{name}.svg", ROOT / "docs" / "figures")


if __name__ == "__main__":
    main()
