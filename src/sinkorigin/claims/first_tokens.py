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
            yield label, "; ".join([*_summary(rows), *map(_numbers, rows)])


def _numbers(row: Mapping) -> str:
    if row["verdict"] == NOT_APPLICABLE:
        return f"not under {NAMES[row['first_token']]}: {row['reason']}"
    return f"{NAMES[row['first_token']]}: {row['reason']}"


def _summary(rows: Iterable[Mapping]) -> Iterator[str]:
    """What the conditions say together; nothing for one."""
    known = {row["first_token"]: row["verdict"] == REPRODUCED for row in rows if row["verdict"] != NOT_APPLICABLE}
    having = [condition for condition, has in known.items() if has]
    if len(known) < 2:
        return
    if len(having) == len(known):
        yield "a sink under each: it belongs to the position"
    elif having == ["bos"]:
        yield "a sink under BOS only: it belongs to the token"
    elif having:
        yield f"a sink under {' and '.join(NAMES[condition] for condition in having)} only"
    else:
        yield "no sink under any"
