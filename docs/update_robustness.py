"""Write docs/robustness.md from the results of config.robustness.yaml: ``make robustness``."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src")]

from sinkorigin.claims.first_tokens import NAMES
from sinkorigin.claims.row_texts import claim_order, settings_text, value_text
from sinkorigin.claims.tests import NOT_APPLICABLE, REPRODUCED
from sinkorigin.tables import read_table

STUDY = ROOT / "results" / "robustness"
_HEAD = """# How far the claims hold

What `config.robustness.yaml` found: prompts of 16 to 512 tokens, another draw, held-out text, positions 5, 10, 20 and 40, three first tokens, two
model families, several thresholds, and five random initialisations of the control. The ledger has the primary test of each claim
([claims.md](claims.md)); every other test is a setting of it, and counted ("holds in m of n"). *No spread*: all sequences begin with one token, so
that a value of position 0 alone is the same in each. The study takes about an hour and a half on two cores. This page is made from the study's tables by `make robustness`.
"""


def _cell(row: Mapping) -> str:
    return f"**{row['verdict']}**<br>{value_text(row)}<br>{settings_text(row)}"


def _matrix(rows: list[dict]) -> Iterator[str]:
    """A row a claim, a column a model and first token."""
    columns = list(dict.fromkeys((row["label"], row["first_token"]) for row in rows))
    cells = {(row["claim"], row["label"], row["first_token"]): _cell(row) for row in rows}
    yield "| claim | " + " | ".join(f"{label}<br>{NAMES[first]}" for label, first in columns) + " |"
    yield "|---" * (1 + len(columns)) + "|"
    claims = sorted({(row["claim"], row["words"]) for row in rows}, key=lambda claim: claim_order(claim[0]))
    for code, words in claims:
        yield f"| {code}: {words} | " + " | ".join(cells.get((code, *column), "") for column in columns) + " |"


def _other_tokens(rows: list[dict]) -> str:
    """How the controls' claims are judged where every sequence begins with the same token."""
    others = [row for row in rows if row["first_token"] != "drawn" and row["verdict"] != NOT_APPLICABLE]
    counts = [
        f"{claim} is reproduced in {[row['verdict'] for row in own].count(REPRODUCED)} of {len(own)}"
        for claim in sorted({row["claim"] for row in others})
        for own in [[row for row in others if row["claim"] == claim]]
    ]
    return f"Under BOS or one fixed token: {'; '.join(counts)}. The other claims need a first token that varies."


def _exceptions(rows: list[dict], settings: list[dict]) -> Iterator[str]:
    """Settings that say the opposite of a claim that is reproduced or contradicted, a line a claim and model."""
    said = {"reproduced": "contradicted", "contradicted": "reproduced"}
    for row in rows:
        identity = [row[name] for name in ("claim", "model", "first_token")]
        other = [
            one["setting"]
            for one in settings
            if [one[name] for name in ("claim", "model", "first_token")] == identity
            and one["verdict"] == said.get(row["verdict"])
        ]
        if other:
            yield f"- {row['claim']} is {row['verdict']} in {row['label']} under {NAMES[row['first_token']]}, but not: {'; '.join(other)}."


def _accounts(rows: list[dict]) -> Iterator[str]:
    """A table for each account of attention sinks: a row a prediction, a column a model and prompt set or a run."""
    for account in dict.fromkeys(row["account"] for row in rows):
        own = [row for row in rows if row["account"] == account and row["verdict"] != NOT_APPLICABLE]
        if not own:
            continue
        columns = list(dict.fromkeys((row["label"], row["prompts"]) for row in own))
        cells = {
            (row["statement"], row["label"], row["prompts"]): f"**{row['verdict']}**<br>{value_text(row)}"
            for row in own
        }
        yield f"### {account} ({own[0]['source']})"
        yield ""
        yield "| prediction | " + " | ".join(f"{label}<br>{prompts or ''}" for label, prompts in columns) + " |"
        yield "|---" * (1 + len(columns)) + "|"
        for statement, predicate in dict.fromkeys((row["statement"], row["predicate"]) for row in own):
            verdicts = (cells.get((statement, *column), "") for column in columns)
            yield f"| {statement} ({predicate}) | " + " | ".join(verdicts) + " |"
        yield ""


def main() -> None:
    ledger = read_table(STUDY / "claims.parquet").to_pylist()
    settings = read_table(STUDY / "robustness.parquet").to_pylist()
    models = [row for row in ledger if row["role"] == "pretrained"]
    controls = [row for row in ledger if row["role"] == "random"]
    lines = [_HEAD, "## Models", "", *_matrix(models), "", "## Random weights", ""]
    lines += [*_matrix([row for row in controls if row["first_token"] == "drawn"]), "", _other_tokens(controls), ""]
    lines += ["## Models trained here", "", *_matrix([row for row in ledger if row["role"] == "trained"]), ""]
    lines += ["## What accounts of attention sinks predict", ""]
    lines += _accounts(read_table(STUDY / "accounts.parquet").to_pylist())
    lines += ["## Settings that say the opposite", "", *_exceptions(models, settings)]
    (ROOT / "docs" / "robustness.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
