"""What a study found, in a few sentences that are made from its ledger alone.

The page of a study, the end of a run and the README say the same sentences.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sinkorigin.claims.claim import Claim
from sinkorigin.claims.first_tokens import CLAIM as SINK
from sinkorigin.claims.first_tokens import NAMES, summary
from sinkorigin.claims.ledger import PRIMARY, TRAININGS
from sinkorigin.claims.tests import CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED

# verdict → how its finding begins; what contradicts the paper comes first
_HEADINGS = {CONTRADICTED: "Contradicted", REPRODUCED: "Reproduced", UNDECIDED: "Undecided"}
_CLAIMS = {claim.code: claim for claim in (*PRIMARY, *TRAININGS)}
_RUNS = {claim.code for claim in TRAININGS}


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        heading: what it is about, in a word or two.
        sentence: the finding, with its numbers.
        claims: codes of the claims that it is made from.
    """

    heading: str
    sentence: str
    claims: tuple[str, ...]


def findings(ledger: Iterable[Mapping]) -> list[Finding]:
    """At most seven findings: where the sink is; the claims about models by verdict; and those about trainings by verdict.

    Args:
        ledger: rows of ``judging.LEDGER_SCHEMA``.
    """
    rows = list(ledger)
    models = [row for row in rows if row["role"] == "pretrained"]
    found = _sink([row for row in models if row["claim"] == SINK])
    for heading, some in (
        ("", [row for row in models if row["claim"] != SINK]),
        (" in training", [row for row in rows if row["claim"] in _RUNS]),
    ):
        several = len({row["label"] for row in some}) > 1
        for verdict, word in _HEADINGS.items():
            if own := [row for row in some if row["verdict"] == verdict]:
                found.append(_of_verdict(word + heading, own, several=several))
    return found


def _sink(rows: Sequence[Mapping]) -> list[Finding]:
    """Under which first tokens each model has a sink."""
    models: dict[str, list[Mapping]] = {}
    for row in rows:
        if row["verdict"] != NOT_APPLICABLE:
            models.setdefault(row["label"], []).append(row)
    if not models:
        return []
    told = []
    for label, own in models.items():
        numbers = "; ".join(f"{NAMES[row['first_token']]}: {row['reason'].partition(';')[0]}" for row in own)
        told.append(f"In {label} position 0 is {summary(own)} ({numbers}).")
    return [Finding("Sink", " ".join(told), (SINK,))]


def _of_verdict(heading: str, rows: Sequence[Mapping], *, several: bool) -> Finding:
    """Claims with one verdict, each with its values and what was predicted.

    Args:
        several: whether models have to be named.
    """
    claims: dict[str, list[Mapping]] = {}
    for row in rows:
        claims.setdefault(row["claim"], []).append(row)
    told = [_of_claim(_CLAIMS[code], own, several=several) for code, own in claims.items()]
    return Finding(heading, ". ".join(one[0].upper() + one[1:] for one in told) + ".", tuple(claims))


def _of_claim(claim: Claim, rows: Sequence[Mapping], *, several: bool) -> str:
    """A claim in the places where it has one verdict, with the range of its values."""
    low, high = (extreme(rows, key=lambda row: row["value"]) for extreme in (min, max))
    reading = claim.read(low["value"], high["value"])
    expected = " or ".join(dict.fromkeys(claim.expected(row["threshold"]) for row in rows))
    where = _joined(dict.fromkeys(_place(row, several) for row in rows))
    return f"{claim.words}: {reading}{where} (predicted {expected})"


def _joined(places: Iterable[str]) -> str:
    known = [place for place in places if place]
    return f", {', '.join(known)}" if known else ""


def _place(row: Mapping, several: bool) -> str:
    """Where a value was found: "in Gemma under BOS"."""
    condition = f"under {NAMES[row['first_token']]}" if row["first_token"] and row["claim"] not in _RUNS else ""
    return " ".join(filter(None, [f"in {row['label']}" if several else "", condition]))
