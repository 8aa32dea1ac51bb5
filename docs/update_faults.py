"""Write the tables of docs/faults.md from the trials of benchmarks/faults.py: ``make faults``."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "workflow_scripts", "tests", "docs")]

import fault_trials
from ledger_tables import table
from update_readme import between

TRIALS = ROOT / "results" / "faults" / "trials.jsonl"
BAD = (fault_trials.LOST, fault_trials.OTHER, "half-written", "without a sentence")
WORDS = (fault_trials.REBUILT, fault_trials.REFUSED, fault_trials.FOUND, fault_trials.AS_EDIT, fault_trials.HARMLESS)

Row = Mapping


def counted(rows: Sequence[Row], name: Callable[[Row], str], head: str, good: Sequence[str], bad: Sequence[str]) -> str:
    """A table with a row for each name: how many trials, and how many of each outcome."""
    cells = {one: Counter(row["outcome"] for row in rows if name(row) == one) for one in sorted(set(map(name, rows)))}
    cells["**all**"] = Counter(row["outcome"] for row in rows)
    lines = [
        [one, f"{found.total()}", *(f"{found[outcome]}" for outcome in (*good, *bad))] for one, found in cells.items()
    ]
    return "\n".join(table([head, "tried", *good, *bad], lines))


def killed(row: Row) -> str:
    """What was killed, and when."""
    if row["campaign"] == "jobs":
        return f"one job, {row['edit'] if row['edit'] == 'first run' else 'after an edit: ' + row['edit']}"
    which = "run with its jobs" if row["group"] else "run"
    return f"{which}, {row['signal']}, {row['edit'] if row['edit'] == 'first run' else 'after an edit'}"


def damaged(row: Row) -> str:
    """How a file was damaged."""
    return f"{row['how']}{', time kept' if row['kept_time'] else ''}"


def result(rows: Sequence[Row]) -> str:
    """The tables, in Markdown."""
    trials = {name: [row for row in rows if row.get("campaign") in names] for name, names in _CAMPAIGNS.items()}
    ends = [row for row in rows if "seconds" in row]
    seconds, spent = (sum(row[name] for row in ends) for name in ("seconds", "processor_seconds"))
    seeds = ", ".join(map(str, sorted({row["seed"] for row in ends})))
    kinds = [outcome for outcome in ("survived", *BAD[:3])]
    return "\n\n".join(
        [
            f"Seed {seeds}: {len(trials['kills'])} kills, {len(trials['damages'])} damages and {len(trials['disks'])} full disks in {len(ends)} rounds, "
            f"which took {seconds / 60:.0f} minutes, and {spent / 60:.0f} of a processor.",
            "## Kills",
            counted(trials["kills"], killed, "killed", kinds[:1], kinds[1:]),
            "## Damage",
            counted(trials["damages"], lambda row: row["kind"], "file", WORDS, BAD[:2]),
            counted(trials["damages"], damaged, "damage", WORDS, BAD[:2]),
            "## Full disks",
            counted(
                trials["disks"],
                lambda row: f"{row['room']} kB free, {'at its start' if not row['after'] else 'while it runs'}",
                "disk",
                ("survived", "it was enough"),
                BAD,
            ),
        ]
    )


_CAMPAIGNS = {"kills": ("runs", "jobs"), "damages": ("damages", "inputs"), "disks": ("disks",)}


def main() -> None:
    rows = [json.loads(line) for line in (Path(sys.argv[1]) if len(sys.argv) > 1 else TRIALS).read_text().splitlines()]
    page = ROOT / "docs" / "faults.md"
    page.write_text(between(page.read_text(), "faults", result(rows), page="docs/faults.md"))


if __name__ == "__main__":
    main()
