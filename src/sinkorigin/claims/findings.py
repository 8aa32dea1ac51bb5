"""What a study found, in a few sentences that are made from its ledger alone.

The page of a study, the end of a run and the README say the same sentences.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sinkorigin.claims.claim import Claim
from sinkorigin.claims.first_tokens import CLAIM as SINK
from sinkorigin.claims.first_tokens import NAMES, summary
from sinkorigin.claims.ledger import PRIMARY, TRAININGS
from sinkorigin.claims.row_texts import claim_order
from sinkorigin.claims.tests import CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED

MOST_WORDS = 40  # of a sentence; a longer list of claims goes on in another one
_DEPENDS = "depends"  # in place of a verdict: it is not the same everywhere
# verdict → how its finding begins; what contradicts the paper comes first
_HEADINGS = {CONTRADICTED: "Contradicted", _DEPENDS: "Depends", REPRODUCED: "Reproduced", UNDECIDED: "Undecided"}
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
    """Where the sink is; the claims about models by verdict; and those about trainings by verdict.

    Each sentence can be read alone and has about ``MOST_WORDS`` words at most.

    Args:
        ledger: rows of ``judging.LEDGER_SCHEMA``.
    """
    rows = list(ledger)
    models = [row for row in rows if row["role"] == "pretrained"]
    found = _sink([row for row in models if row["claim"] == SINK])
    chain = [row for row in models if row["claim"] != SINK and row["claim"] in _CLAIMS]
    runs = [row for row in rows if row["claim"] in _RUNS]
    for where, some in (("the chain", chain), ("training", runs)):
        claims: dict[str, list[Mapping]] = {}
        for row in some:
            if row["verdict"] != NOT_APPLICABLE:
                claims.setdefault(row["claim"], []).append(row)
        names = short_labels(row["label"] for row in some)
        alike = {code: _verdict(judged) for code, judged in claims.items()}
        for verdict, word in _HEADINGS.items():
            codes = sorted((code for code in claims if alike[code] == verdict), key=claim_order)
            parts = [(code, _told(_CLAIMS[code], claims[code], names)) for code in codes]
            found += _sentences(f"{word} in {where}", f"{len(parts)} of {len(claims)} claims", parts)
    return found


def _verdict(rows: Sequence[Mapping]) -> str:
    """The verdict of a claim where it is the same in all places."""
    verdicts = {row["verdict"] for row in rows}
    return verdicts.pop() if len(verdicts) == 1 else _DEPENDS


def short_labels(labels: Iterable[str]) -> dict[str, str]:
    """Label → its part before the first comma or bracket where that still tells all of them apart, else the whole label."""
    labels = list(dict.fromkeys(labels))
    short = {label: label.partition(",")[0].partition(" (")[0] or label for label in labels}
    return short if len(set(short.values())) == len(labels) else {label: label for label in labels}


def _sink(rows: Sequence[Mapping]) -> list[Finding]:
    """Under which first tokens each model has a sink, a finding a model."""
    models: dict[str, list[Mapping]] = {}
    for row in rows:
        if row["verdict"] != NOT_APPLICABLE:
            models.setdefault(row["label"], []).append(row)
    told = []
    for label, own in models.items():
        counts = [
            f"{(row['reason'] or '').partition(' sequences')[0]}{{}} with {NAMES[row['first_token']]}" for row in own
        ]
        text = ", ".join(count.format("" if number else " sequences") for number, count in enumerate(counts))
        told.append(Finding("Sink", f"In {label}, position 0 is {summary(own)} ({text}).", (SINK,)))
    return told


def _sentences(heading: str, count: str, parts: Sequence[tuple[str, str]]) -> list[Finding]:
    """Claims with one verdict as a list, in as many sentences as it needs."""
    found: list[Finding] = []
    taken: list[tuple[str, str]] = []
    for part in parts:
        if taken and len(" ".join(text for _, text in [*taken, part]).split()) > MOST_WORDS - 4:
            found.append(_sentence(heading, count, taken, first=not found))
            taken = []
        taken.append(part)
    return [*found, _sentence(heading, count, taken, first=not found)] if taken else found


def _sentence(heading: str, count: str, parts: Sequence[tuple[str, str]], *, first: bool) -> Finding:
    text = f"{count if first else 'Further'}: {'; '.join(text for _, text in parts)}."
    return Finding(heading, text, tuple(code for code, _ in parts))


def _told(claim: Claim, rows: Sequence[Mapping], names: Mapping[str, str]) -> str:
    """A claim with its values; where its verdict is not the same everywhere, with each verdict and its places."""
    verdicts = [
        verdict for verdict in (REPRODUCED, CONTRADICTED, UNDECIDED) if any(row["verdict"] == verdict for row in rows)
    ]
    if verdicts in ([CONTRADICTED], [UNDECIDED]):
        expected = " or ".join(dict.fromkeys(claim.expected(row["threshold"]) for row in rows))
        return f"{claim.words} ({_values(claim, rows)}, predicted {expected})"
    if len(verdicts) == 1:
        return f"{claim.words} ({_values(claim, rows)})"
    parts = []
    for verdict in verdicts:
        own = [row for row in rows if row["verdict"] == verdict]
        parts.append(f"{verdict} {_places(claim, own, rows, names)} ({_values(claim, own)})")
    return f"{claim.words}: {', '.join(parts)}"


def _values(claim: Claim, rows: Sequence[Mapping]) -> str:
    """The range of the values, with their unit."""
    values = [row["value"] for row in rows]
    return claim.amount(min(values), max(values))


def _places(claim: Claim, rows: Sequence[Mapping], judged: Sequence[Mapping], names: Mapping[str, str]) -> str:
    """Where a verdict was found, of the places where the claim was judged: "under BOS in Gemma", "in 2 of 3 runs"."""
    if claim.code in _RUNS:
        return f"in {len(rows)} of {len(judged)} runs"
    models = list(dict.fromkeys(row["label"] for row in judged))
    parts = []
    for label in models:
        here = [row["first_token"] for row in rows if row["label"] == label]
        all_here = [row["first_token"] for row in judged if row["label"] == label]
        if here:
            under = "" if len(here) == len(all_here) else f"under {' and '.join(NAMES[first] for first in here)}"
            parts.append(" ".join(filter(None, [under, f"in {names[label]}" if len(models) > 1 else ""])))
    return " and ".join(dict.fromkeys(parts))
