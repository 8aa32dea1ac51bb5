"""What a study found, in a few sentences that are made from its ledger alone.

The page of a study and the README say the same sentences, and the end of a run says them with less on the numbers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sinkorigin.claims.claim import Claim
from sinkorigin.claims.first_tokens import CLAIM as SINK
from sinkorigin.claims.first_tokens import NAMES, summary
from sinkorigin.claims.ledger import PRIMARY, TRAININGS
from sinkorigin.claims.row_texts import claim_order
from sinkorigin.claims.tests import CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED

_DEPENDS = "depends"  # in place of a verdict: it is not the same everywhere
# in this order: what contradicts the paper comes first
_WORDS = {CONTRADICTED: "Contradicted", _DEPENDS: "Mixed", REPRODUCED: "Reproduced", UNDECIDED: "Undecided"}
_JUDGED = (REPRODUCED, CONTRADICTED, UNDECIDED)
_CLAIMS = {claim.code: claim for claim in (*PRIMARY, *TRAININGS)}
_RUNS = {claim.code for claim in TRAININGS}
# what a finding is about → numbers of its claims
_SUBJECTS = {
    "Variance": range(1, 4),
    "Super neurons, dims and key": range(4, 9),
    "Sinks made and taken away": range(9, 12),
    "Models trained here": range(12, 15),
}


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        heading: what it is about, in a few words.
        parts: a verdict, or "" for none, and what has it, in words with numbers.
        claims: codes of the claims that it is made from.
        brief_parts: the parts with less said of the numbers.
    """

    heading: str
    parts: tuple[tuple[str, str], ...]
    claims: tuple[str, ...]
    brief_parts: tuple[tuple[str, str], ...]

    @property
    def sentence(self) -> str:
        """The parts as text."""
        return _joined(self.parts)

    @property
    def brief(self) -> str:
        """The brief parts as text, for a place with few lines."""
        return _joined(self.brief_parts)


def _joined(parts: Iterable[tuple[str, str]]) -> str:
    return " ".join(f"{verdict}: {text}" if verdict else text for verdict, text in parts)


def findings(ledger: Iterable[Mapping]) -> list[Finding]:
    """Five findings at most: where the sink is, and of each link of the chain and of the trainings, what has which verdict.

    Args:
        ledger: rows of ``judging.LEDGER_SCHEMA``.
    """
    rows = list(ledger)
    models = [row for row in rows if row["role"] == "pretrained"]
    found = _sink([row for row in models if row["claim"] == SINK])
    judged: dict[str, list[Mapping]] = {}
    for row in [*models, *(row for row in rows if row["claim"] in _RUNS)]:
        if row["claim"] in _CLAIMS and row["verdict"] != NOT_APPLICABLE:
            judged.setdefault(row["claim"], []).append(row)
    names = short_labels(row["label"] for row in models)
    for heading, numbers in _SUBJECTS.items():
        codes = sorted((code for code in judged if claim_order(code)[0] in numbers), key=claim_order)
        parts: list[tuple[str, str]] = []
        brief: list[tuple[str, str]] = []
        for verdict, word in _WORDS.items():
            own = [code for code in codes if _verdict(judged[code]) == verdict]
            if own:
                for told, written in ((parts, _told), (brief, _told_briefly)):
                    told.append((word, f"{'; '.join(written(_CLAIMS[code], judged[code], names) for code in own)}."))
        if parts:
            found.append(Finding(heading, tuple(parts), tuple(codes), tuple(brief)))
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
    """Under which first tokens each model has a sink."""
    models: dict[str, list[Mapping]] = {}
    for row in rows:
        if row["verdict"] != NOT_APPLICABLE:
            models.setdefault(row["label"], []).append(row)
    told, brief = [], []
    for label, own in models.items():
        counts = [
            f"{(row['reason'] or '').partition(' sequences')[0]}{{}} with {NAMES[row['first_token']]}" for row in own
        ]
        text = ", ".join(count.format("" if number else " sequences") for number, count in enumerate(counts))
        said = f"In {label}, position 0 is {summary(own)}"
        told.append(("", f"{said} ({text})."))
        brief.append(("", f"{said}."))
    return [Finding("Sink", tuple(told), (SINK,), tuple(brief))] if told else []


def _told(claim: Claim, rows: Sequence[Mapping], names: Mapping[str, str]) -> str:
    """A claim with its values; where its verdict is not the same everywhere, with each verdict and its places."""
    verdict = _verdict(rows)
    if verdict != _DEPENDS:
        test = "" if verdict == REPRODUCED else f"; test: {_expected(claim, rows)}"
        return f"{claim.words} ({_values(rows, claim.told)}{_reach(claim, rows)}{test})"
    parts = _by_verdict(claim, rows, names, claim.numbers, _reach)
    expected = _expected(claim, rows)
    known = all(row["threshold"] is not None for row in rows)
    return f"{claim.words} (test: {claim.told_of(expected) if known else expected}): {parts}"


def _told_briefly(claim: Claim, rows: Sequence[Mapping], names: Mapping[str, str]) -> str:
    """A claim with its values and verdicts, without its test and how far intervals reach."""
    if _verdict(rows) != _DEPENDS:
        return f"{claim.words} ({_values(rows, claim.amount)})"
    return f"{claim.words}: {_by_verdict(claim, rows, names, claim.amount)}"


def _by_verdict(
    claim: Claim,
    rows: Sequence[Mapping],
    names: Mapping[str, str],
    written: Callable[[float, float], str],
    reach: Callable[[Claim, Sequence[Mapping]], str] = lambda claim, rows: "",
) -> str:
    """Each verdict with its places and values."""
    parts = []
    for verdict in _JUDGED:
        own = [row for row in rows if row["verdict"] == verdict]
        if own:
            parts.append(f"{verdict} {_places(claim, own, rows, names)} ({_values(own, written)}{reach(claim, own)})")
    return ", ".join(parts)


def _values(rows: Sequence[Mapping], written: Callable[[float, float], str]) -> str:
    """The range of the values."""
    values = [row["value"] for row in rows]
    return written(min(values), max(values))


def _expected(claim: Claim, rows: Sequence[Mapping]) -> str:
    """What the test asks of the values; several where the threshold depends on the data.

    In the words of the ledger where it has no threshold: another version wrote it.
    """
    told = (row["predicate"] if row["threshold"] is None else claim.expected(row["threshold"]) for row in rows)
    return " or ".join(dict.fromkeys(told))


def _reach(claim: Claim, rows: Sequence[Mapping]) -> str:
    """How far the intervals of undecided values reach."""
    if rows[0]["verdict"] != UNDECIDED or any(row["low"] is None or row["high"] is None for row in rows):
        return ""
    ends = claim.numbers(min(row["low"] for row in rows), max(row["high"] for row in rows))
    return f", {'interval' if len(rows) == 1 else 'intervals'} from {ends}"


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
