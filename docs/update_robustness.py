"""Write docs/robustness.md from the results of config.robustness.yaml: ``make robustness``."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src")]

from sinkorigin.claims.first_tokens import NAMES
from sinkorigin.claims.page import claim_order, settings_text, value_text
from sinkorigin.claims.tests import CONTRADICTED, NOT_APPLICABLE, REPRODUCED
from sinkorigin.tables import read_table

STUDY = ROOT / "results" / "robustness"
_HEAD = """# How far the claims hold

`config.robustness.yaml` tries the claims of the chain on prompts of 16 to 512 tokens, on another draw of random tokens and on held-out text, at
positions 5, 10, 20 and 40, under three first tokens, in two model families, with several thresholds, and in five random initialisations of the
control. The study takes about an hour and a half on two cores. This page is made from its tables by `make robustness`.

A cell holds the verdict of the claim's primary test ([claims.md](claims.md) has each claim with its test and its predicate), the measured value
with its 95 % interval, and in how many settings the claim holds: a setting is the same test with another prompt set, position, threshold or
layer. The columns are the condition of the first token: drawn at random for each sequence, the model's BOS token in all, or one fixed token in all.
*No spread*: all sequences begin with one token, so that a value of position 0 alone is the same in each. An empty cell: not measured there.
"""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def _cell(row: Mapping | None, *parts: Callable[[Mapping], str]) -> str:
    """Verdict of a test and what else is said of it; nothing where it was not made."""
    if row is None:
        return ""
    if row["verdict"] == NOT_APPLICABLE:
        return NOT_APPLICABLE
    return "<br>".join([f"**{row['verdict']}**", *(part(row) for part in parts)])


def _unbroken(row: Mapping) -> str:
    """Value and interval, which a narrow column leaves in one line."""
    return value_text(row).replace(" ", "\u00a0")


def _claims_of(rows: Sequence[Mapping]) -> list[tuple[str, str]]:
    """Code and words of the claims, in their order."""
    return sorted({(row["claim"], row["words"]) for row in rows}, key=lambda claim: claim_order(claim[0]))


def _by_label(rows: Sequence[Mapping]) -> dict[str, list[Mapping]]:
    found: dict[str, list[Mapping]] = {}
    for row in rows:
        found.setdefault(row["label"], []).append(row)
    return found


def _models(rows: Sequence[Mapping]) -> Iterator[str]:
    """A table for each model: a row a claim, a column a condition of the first token."""
    for label, of_model in _by_label(rows).items():
        conditions = list(dict.fromkeys(row["first_token"] for row in of_model))
        cells = {(row["claim"], row["first_token"]): row for row in of_model}
        judged = [row for row in of_model if row["verdict"] != NOT_APPLICABLE]
        claims = _claims_of(judged)
        yield f"### {label}\n"
        yield from _table(
            ["claim", *(NAMES[first] for first in conditions)],
            [
                [f"{code}: {words}", *(_cell(cells.get((code, one)), _unbroken, settings_text) for one in conditions)]
                for code, words in claims
            ],
        )
        if others := [code for code, _ in _claims_of(of_model) if (code, _) not in claims]:
            yield f"Not applicable under any first token: {', '.join(others)}.\n"


def _controls(rows: Sequence[Mapping]) -> Iterator[str]:
    """One table under drawn first tokens: a row a control, a column a claim; and a sentence on the other first tokens."""
    drawn = [row for row in rows if row["first_token"] == "drawn"]
    claims = _claims_of(drawn)
    cells = {(row["label"], row["claim"]): row for row in drawn}
    yield from _table(
        ["control, drawn first tokens", *(f"{code}: {words}" for code, words in claims)],
        [
            [label, *(_cell(cells.get((label, code)), _unbroken, settings_text) for code, _ in claims)]
            for label in _by_label(drawn)
        ],
    )
    others = [row for row in rows if row["first_token"] != "drawn" and row["verdict"] != NOT_APPLICABLE]
    counts = [
        f"{code} is reproduced in {[row['verdict'] for row in of_claim].count(REPRODUCED)} of {len(of_claim)}"
        for code, _ in _claims_of(others)
        for of_claim in [[row for row in others if row["claim"] == code]]
    ]
    yield f"Under BOS or one fixed token: {'; '.join(counts)}. The other claims need a first token that varies.\n"


def _numbers(numbers: Sequence[int]) -> str:
    """Layers in words: "3, 4, 8, 9, 12 to 29"."""
    runs: list[list[int]] = []
    for one in sorted(numbers):
        if runs and one == runs[-1][-1] + 1:
            runs[-1].append(one)
        else:
            runs.append([one])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def _settings_in_words(settings: Sequence[Mapping]) -> str:
    """What differs from the primary test, once for all prompt sets on which it says the same."""
    prompts: dict[str, list[str]] = {}
    for row in settings:
        what = re.sub(rf"(^|, ){row['read_on']}$", "", row["setting"])
        prompts.setdefault(what, []).append(row["read_on"])
    layers: dict[tuple[str, ...], list[int]] = {}
    parts = []
    for what, read_on in prompts.items():
        if found := re.fullmatch(r"layer (\d+)", what):
            layers.setdefault(tuple(read_on), []).append(int(found[1]))
        else:
            parts.append(f"{what} ({', '.join(read_on)})" if what else ", ".join(read_on))
    for read_on, numbers in layers.items():
        parts.append(f"layer{'s' if len(numbers) > 1 else ''} {_numbers(numbers)} ({', '.join(read_on)})")
    return "; ".join(parts).replace("_", " ")


def _exceptions(rows: Sequence[Mapping], settings: Sequence[Mapping]) -> Iterator[str]:
    """Settings that say the opposite of a claim that is reproduced or contradicted: a table a model."""
    opposite = {REPRODUCED: CONTRADICTED, CONTRADICTED: REPRODUCED}
    for label, of_model in _by_label(rows).items():
        lines = []
        for row in of_model:
            others = [
                one
                for one in settings
                if all(one[name] == row[name] for name in ("claim", "model", "first_token"))
                and one["verdict"] == opposite.get(row["verdict"])
            ]
            if others:
                lines.append([row["claim"], NAMES[row["first_token"]], row["verdict"], _settings_in_words(others)])
        if lines:
            yield f"### {label}: settings that differ\n"
            yield from _table(["claim", "first token", "primary test", "the opposite in"], lines)


def _accounts(rows: Sequence[Mapping]) -> Iterator[str]:
    """A table for each account of attention sinks: a row a model and prompt set or a run, a column a prediction."""
    for account in dict.fromkeys(row["account"] for row in rows):
        judged = [row for row in rows if row["account"] == account and row["verdict"] != NOT_APPLICABLE]
        if not judged:
            continue
        cells = {(row["label"], row["prompts"], row["statement"]): row for row in judged}
        predictions = list(dict.fromkeys((row["statement"], row["predicate"]) for row in judged))
        yield f"### {account} ({judged[0]['source']})\n"
        yield from _table(
            ["model or run", *(f"{statement} ({predicate})" for statement, predicate in predictions)],
            [
                [
                    f"{label}<br>{(prompts or '').replace('_', ' ')}",
                    *(_cell(cells.get((label, prompts, statement)), _unbroken) for statement, _ in predictions),
                ]
                for label, prompts in dict.fromkeys((row["label"], row["prompts"]) for row in judged)
            ],
        )


def page(ledger: Sequence[Mapping], settings: Sequence[Mapping], accounts: Sequence[Mapping]) -> str:
    """The page, from the rows of ``claims``, ``robustness`` and ``accounts``."""
    models, controls, trained = (
        [row for row in ledger if row["role"] == role] for role in ("pretrained", "random", "trained")
    )
    lines = [_HEAD, "## Models\n", *_models(models), "## Random weights\n", *_controls(controls)]
    lines += ["## Models trained here\n", *_models(trained), "## What accounts of attention sinks predict\n"]
    lines += ["Other papers explain the sink otherwise. Each prediction is held against the same models.\n"]
    lines += _accounts(accounts)
    lines += ["## Settings that say the opposite\n"]
    lines += [
        "Settings in which a claim that is reproduced is contradicted, or the reverse; prompt sets in parentheses.\n"
    ]
    lines += _exceptions(models, settings)
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    tables = [read_table(STUDY / f"{name}.parquet").to_pylist() for name in ("claims", "robustness", "accounts")]
    (ROOT / "docs" / "robustness.md").write_text(page(*tables))


if __name__ == "__main__":
    main()
