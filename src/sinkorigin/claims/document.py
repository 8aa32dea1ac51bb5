"""docs/claims.md: every primary claim with its test, from the claims' declarations."""

from collections.abc import Sequence

from sinkorigin.claims.accounts import Account
from sinkorigin.claims.claim import Claim
from sinkorigin.statistics.uniform import SINK_FACTOR

_HEAD = f"""# The claims, and how each is decided

Each claim has one primary test: what is measured, the *predicate* that the measured value must satisfy and why, and what would contradict the
claim. The tests are code that stands before a run. Prompts, number of sequences, stored positions and strengths are those of the study's config,
so that two studies may judge one claim differently. Claims about the chain that leads to a sink are judged for every model under every condition
of the first token that the study has (drawn, BOS, fixed). Claims about trainings with another kind of attention are judged for every run with that
attention.

- **reproduced**: the whole 95 % interval satisfies the predicate, and so it stays after Holm's correction over the primary tests of that
  model and condition.
- **contradicted**: the whole interval satisfies the opposite, and so it stays after the correction.
- **undecided**: neither; the reason says how many more sequences or seeds would decide it, or that only other models would.
- **not applicable**: the test is not defined there; the ledger gives the reason.

The same test with another position, layer, strength, threshold or prompt set is a *setting*. Settings are not further claims: they are counted
under theirs, the primary test among them ("holds in 11 of 12 settings"), and listed in `robustness.parquet`. What must hold for the measurements
to be right, such as controls and identities, is a *check* (`checks.parquet`).

**A sink** is defined once: a position receives more than {SINK_FACTOR:g} times the attention that uniform attention would give it from later
queries, mean over layers and heads (by layer: mean over heads). A sequence is *converted* where its position becomes one. Where layers are
chosen for an edit, and for value drain, a stronger sink is asked for: a mean attention on position 0 above the paper's ε = 0.3
(`statistics.onset_mass`).

Changed after the first run of the default study, when a referee's objections were met: C7a and C7b were one claim, judged by C7b's test; C1,
C8, C10 and C11 had thresholds without a smallest effect of interest (1 and 0); correlations over heads and layers were judged by intervals over
sequences alone.

This page is made from the declarations in `src/sinkorigin/claims/primary/` by `make claims`.
"""


_ACCOUNTS = """# What accounts of attention sinks predict

Beside this paper's, other explanations of attention sinks make predictions that the same tables test. They are written down like the claims
and judged like them (`accounts.parquet`), all predictions about a model under one condition as one family. An account is not judged as a
whole.
"""


def page(claims: Sequence[Claim], accounts: Sequence[Account] = ()) -> str:
    """The page as Markdown."""
    parts = [_HEAD, *map(_section, claims)]
    for number, account in enumerate(accounts):
        parts += [*([] if number else [_ACCOUNTS]), f"## {_capital(account.name)}", "", f"{account.source}.", ""]
        parts += [_section(prediction, "###") for prediction in account.predictions]
    return "\n".join(parts)


def _section(claim: Claim, heading: str = "##") -> str:
    test = claim.test
    lines = [
        f"{heading} {claim.code}: {claim.words}",
        "",
        f"{_capital(claim.statement)}.",
        "",
        f"- *Paper*: {claim.paper or 'not claimed there; a claim of this project'}.",
        f"- *Measured*: {test.quantity}.",
        f"- *Predicate*: {test.words}, because {test.why}.",
        f"- *Contradicted* where {test.contradicted_by}.",
        *([f"- *Applicable where* {claim.applicable_where}."] if claim.applicable_where else []),
        *(["- Judged in random weights too."] if claim.in_random_weights else []),
        "",
    ]
    return "\n".join(lines)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
