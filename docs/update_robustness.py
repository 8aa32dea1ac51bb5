"""Write docs/robustness.md from the results of config.robustness.yaml: ``make robustness``."""

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "docs")]

import ledger_tables
from sinkorigin.claims.accounts import TRAINING_PREDICTIONS
from sinkorigin.claims.first_tokens import NAMES
from sinkorigin.claims.tests import NOT_APPLICABLE, REPRODUCED
from sinkorigin.tables import read_table

STUDY = ROOT / "results" / "robustness"
_HEAD = """# How far the claims hold

`config.robustness.yaml` tries the claims of the chain on prompts of 16 to 512 tokens, on another draw of random tokens and on held-out text, at
positions 5, 10, 20 and 40, under three first tokens, in two model families, with several thresholds, and in five random initialisations of the
control. A cell holds the verdict, the value and the interval of a claim's primary test ([claims.md](claims.md)); every other test is a setting of
it, and all are counted, the primary one too ("holds in m of n"). A column is a condition of the first token: drawn for each sequence, the model's
BOS token in all, or one fixed token in all.
*No spread*: all sequences begin with one token, so that a value of position 0 alone is the same in each.

Where a primary test has another value here than in the default study, it is because of the config: edits are made on 32 sequences here and on 64
there (C9 to C11), with strengths to 16 here and to 32 there (C10), and vectors are stored of positions 0 to 12 here and of 0, 1, 2, 4, 8, 16, 32
and 48 there (C3, whose groups of positions are of those).

The study takes about two hours on two cores. This page is made from the study's tables by `make robustness`.
"""
_TRAINED = """The copying models were trained on sequences that begin with one token (`copies_softmax_drawn` with a drawn one), so drawn tokens at
position 0 are new to them. Each column is seed 0; claims about runs ([pretraining.md](pretraining.md)) are judged over all seeds."""
_TUNING = """Sandwich norm, QK-norm and learned sink logits train at the rate that is best for softmax; they have no sweep of their own."""


def _other_tokens(rows: list[dict]) -> str:
    """How the controls' claims are judged where every sequence begins with the same token."""
    others = [row for row in rows if row["first_token"] != "drawn" and row["verdict"] != NOT_APPLICABLE]
    counts = [
        f"{claim} is reproduced in {[row['verdict'] for row in own].count(REPRODUCED)} of {len(own)}"
        for claim in sorted({row["claim"] for row in others})
        for own in [[row for row in others if row["claim"] == claim]]
    ]
    return f"Under BOS or one fixed token: {'; '.join(counts)}. The other claims need a first token that varies."


def _variance_and_sink() -> Iterator[str]:
    """Where the variance at position 0 and the sink go together in training, and where not: ranges over seeds."""
    rows = read_table(STUDY / "statistics" / "pretraining_by_seed.parquet").to_pylist()
    yield "Variance at position 0 over that of the others, of what enters W_O in layer 0, and attention on position 0 in the layer where it is"
    yield "largest, over uniform attention: the smallest and the largest of the seeds."
    yield ""
    cells: dict[tuple[str, str, str, int], dict[str, str]] = {}
    for run, prompts in dict.fromkeys((row["run"], row["prompts"]) for row in rows if row["prompts"]):
        own = [row for row in rows if (row["run"], row["prompts"]) == (run, prompts)]
        masses = {row["seed"]: row["value"] / row["uniform"] for row in own if row["quantity"] == "sink_mass"}
        ratios = [row["value"] for row in own if row["quantity"] == "variance_ratio"]
        where = cells.setdefault((run, prompts, NAMES[own[0]["first_token"]], len(masses)), {})
        where |= {"variance": _range(ratios), "sink": _range(list(masses.values()))}
    yield from ledger_tables.table(
        ["run", "prompts", "first token", "seeds", "variance", "sink"],
        ([run, prompts, first, str(seeds), found["variance"], found["sink"]] for (run, prompts, first, seeds), found in cells.items()),
    )  # fmt: skip


def _range(values: list[float]) -> str:
    return f"{min(values):.3g} – {max(values):.3g}" if values else "–"


def main() -> None:
    ledger, settings, accounts = (
        read_table(STUDY / f"{name}.parquet").to_pylist() for name in ("claims", "robustness", "accounts")
    )
    models = [row for row in ledger if row["role"] == "pretrained"]
    controls = [row for row in ledger if row["role"] == "random"]
    trained = [row for row in ledger if row["role"] == "trained" and row["claim"] not in ledger_tables.OF_RUNS]
    runs = [row for row in ledger if row["claim"] in ledger_tables.OF_RUNS]
    labels = {row["model"]: row["label"] for row in ledger}
    firsts = {(row["model"], row["prompts"]): NAMES[row["first_token"]] for row in models}
    chains = sorted((STUDY / "statistics").glob("*/*/mediation.parquet"))
    lines = [_HEAD, "## Models", "", *ledger_tables.by_model(models)]
    lines += ["## The chain, link by link", "", _CHAIN, ""]
    lines += [*ledger_tables.chains(chains, lambda model, prompts: f"{labels[model]}, {firsts[model, prompts]}"), ""]
    lines += ["## Random weights", ""]
    lines += [*ledger_tables.by_claim([row for row in controls if row["first_token"] == "drawn"]), ""]
    lines += [_other_tokens(controls), "", "## Models trained here", "", _TRAINED, ""]
    for first, name in NAMES.items():
        if own := [row for row in trained if row["first_token"] == first and row["verdict"] != NOT_APPLICABLE]:
            lines += [f"### Trained models under {name}", "", *ledger_tables.by_claim(own), ""]
    lines += ledger_tables.by_model(runs)
    lines += ["## Variance and sink of each run", "", *_variance_and_sink(), ""]
    lines += ["## What accounts of attention sinks predict", "", _TUNING, ""]
    lines += ledger_tables.accounts(accounts, {one.code for one in TRAINING_PREDICTIONS})
    lines += ["## Controls", "", ledger_tables.checks(STUDY / "checks.parquet"), ""]
    lines += ["## Settings that say the opposite", ""]
    lines += ledger_tables.exceptions([*models, *controls, *trained, *runs], settings)
    (ROOT / "docs" / "robustness.md").write_text("\n".join(lines) + "\n")


_CHAIN = """The share of an edit's effect on the score of its target that each link carries: *inserted*, the unedited model in which this link alone has its
edited value; *restored*, the edited model in which this link alone has its unedited value (the effect that this takes away). Value aggregation
and attention output carry all of it by construction, and the key is where the score is read. The super neurons and the dims are what part:
they are what the paper's chain goes through."""

if __name__ == "__main__":
    main()
