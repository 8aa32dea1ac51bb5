"""In words: under which first tokens a model has a sink, so whether the sink belongs to the position or to the token."""

from collections.abc import Iterable, Iterator, Mapping

from sinkorigin.claims.tests import NOT_APPLICABLE, REPRODUCED

CLAIM = "C0"  # that position 0 is a sink
NAMES = {"drawn": "drawn tokens", "bos": "BOS", "fixed": "one fixed token"}  # condition → how sentences call it


def sentences(ledger: Iterable[Mapping]) -> Iterator[tuple[str, str]]:
    """(label, sentence) of each model that is judged under several first tokens, from the rows of the ledger."""
    models: dict[str, list[Mapping]] = {}
    for row in ledger:
        if row["claim"] == CLAIM and row["role"] == "pretrained":
            models.setdefault(row["label"], []).append(row)
    for label, rows in models.items():
        if len(rows) > 1:
            known = [row for row in rows if row["verdict"] != NOT_APPLICABLE]
            yield label, "; ".join([*([summary(rows)] if len(known) > 1 else []), *map(_numbers, rows)])


def _numbers(row: Mapping) -> str:
    if row["verdict"] == NOT_APPLICABLE:
        return f"not under {NAMES[row['first_token']]}: {row['reason']}"
    return f"{NAMES[row['first_token']]}: {row['reason']}"


def summary(rows: Iterable[Mapping]) -> str:
    """What the conditions under which a model is judged say together: "a sink under BOS only: it belongs to the token"."""
    known = {row["first_token"]: row["verdict"] == REPRODUCED for row in rows if row["verdict"] != NOT_APPLICABLE}
    having = [condition for condition, has in known.items() if has]
    if len(known) < 2:
        return "a sink" if having else "no sink"
    if len(having) == len(known):
        return "a sink under each first token: it belongs to the position"
    if having == ["bos"]:
        return "a sink under BOS only: it belongs to the token"
    if having:
        return f"a sink under {' and '.join(NAMES[condition] for condition in having)} only"
    return "no sink under any first token"
