"""Tables of a study's ledger for README and documentation, as Markdown: one place for what ``make readme`` and ``make robustness`` write."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from sinkorigin.claims.first_tokens import NAMES
from sinkorigin.claims.ledger import TRAININGS
from sinkorigin.claims.row_texts import claim_order, settings_text, value_text
from sinkorigin.claims.tests import ALPHA, CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED
from sinkorigin.tables import read_table

OF_RUNS = {claim.code for claim in TRAININGS}
_OPPOSITE = {REPRODUCED: CONTRADICTED, CONTRADICTED: REPRODUCED}

Rows = Sequence[Mapping]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a table."""
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for cells in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def without_checkpoints(rows: Iterable[Mapping]) -> list[Mapping]:
    """Rows without those of single trained models: what is trained here is judged run by run, over all its seeds."""
    return [row for row in rows if row["role"] != "trained" or row["claim"] in OF_RUNS]


def by_model(rows: Rows) -> Iterator[str]:
    """A section a model, with a row a claim and a column a first token; a run trained here has one column."""
    for (label, of_runs), some in groupby(rows, key=lambda row: (row["label"], row["claim"] in OF_RUNS)):
        yield from (f"### {label}", "", *(_of_run if of_runs else _of_model)(list(some)), "")


def _of_model(rows: Rows) -> Iterator[str]:
    columns = list(dict.fromkeys(row["first_token"] for row in rows))
    cells = {(row["claim"], row["first_token"]): _verdict(row) for row in rows}
    claims = {row["claim"]: row for row in rows}
    yield from table(
        ["claim", "paper", "predicate", *(NAMES[column] for column in columns)],
        (
            [
                _named(claims[code]),
                claims[code]["paper"] or "–",
                _predicates(rows, code),
                *(cells.get((code, one), "") for one in columns),
            ]
            for code in sorted(claims, key=claim_order)
        ),
    )


def _of_run(rows: Rows) -> Iterator[str]:
    cells = ([_named(row), row["paper"] or "–", row["predicate"], _verdict(row)] for row in rows)
    yield from table(["claim", "paper", "predicate", "here"], cells)


def by_claim(rows: Rows) -> Iterator[str]:
    """A row a claim, a column a model, of rows under one first token."""
    columns = list(dict.fromkeys(row["label"] for row in rows))
    cells = {(row["claim"], row["label"]): _verdict(row) for row in rows}
    claims = {row["claim"]: row for row in rows}
    yield from table(
        ["claim", "predicate", *columns],
        ([_named(claims[code]), _predicates(rows, code), *(cells.get((code, one), "") for one in columns)] for code in sorted(claims, key=claim_order)),
    )  # fmt: skip


def _named(row: Mapping) -> str:
    return f"{row['claim']}: {row['words']}"


def _predicates(rows: Rows, code: str) -> str:
    """The predicate of a claim; several where its threshold depends on the data."""
    own = [row for row in rows if row["claim"] == code]
    judged = [row for row in own if row["verdict"] != NOT_APPLICABLE]
    return " or ".join(dict.fromkeys(row["predicate"] for row in judged or own))


def _verdict(row: Mapping) -> str:
    by_itself = row["p"] is not None and row["verdict"] == UNDECIDED and row["p"] < ALPHA <= row["p_adjusted"]
    after_holm = f" (Holm p = {row['p_adjusted']:.2g})" if by_itself else ""
    if row["verdict"] == NOT_APPLICABLE:
        return f"**{NOT_APPLICABLE}**"
    return f"**{row['verdict']}**{after_holm}<br>{value_text(row)}<br>{settings_text(row)}"


def exceptions(rows: Rows, settings: Rows) -> Iterator[str]:
    """Settings that say the opposite of a claim that is reproduced or contradicted, a line a claim and model."""
    for row in rows:
        identity = [row[name] for name in ("claim", "model", "first_token")]
        other = [
            one["setting"] for one in settings
            if [one[name] for name in ("claim", "model", "first_token")] == identity and one["verdict"] == _OPPOSITE.get(row["verdict"])
        ]  # fmt: skip
        if other:
            under = f" under {NAMES[row['first_token']]}" if row["first_token"] else ""
            yield f"- {row['claim']} is {row['verdict']} in {row['label']}{under}, {_OPPOSITE[row['verdict']]} with: {'; '.join(_ranges(other))}."


def _ranges(settings: Sequence[str]) -> Iterator[str]:
    """Settings, with the numbers of consecutive layers as ranges: "layers 3–4, 8"."""
    layers = sorted(int(one.removeprefix("layer ")) for one in settings if one.removeprefix("layer ").isdigit())
    if layers:
        runs = [list(some) for _, some in groupby(enumerate(layers), key=lambda pair: pair[1] - pair[0])]
        shown = (f"{some[0][1]}–{some[-1][1]}" if len(some) > 1 else f"{some[0][1]}" for some in runs)
        yield f"layer{'s' if len(layers) > 1 else ''} {', '.join(shown)}"
    yield from (one for one in settings if not one.removeprefix("layer ").isdigit())


def accounts(rows: Rows, of_runs: set[str]) -> Iterator[str]:
    """A section for each account of attention sinks: a row a prediction and model, a column a first token; below it what is not applicable.

    Args:
        of_runs: codes of the predictions about runs trained here.
    """
    kept = [row for row in rows if row["role"] != "trained" or row["claim"] in of_runs]
    for name in dict.fromkeys(row["account"] for row in kept):
        own = [row for row in kept if row["account"] == name]
        judged = [row for row in own if row["verdict"] != NOT_APPLICABLE]
        yield from (f"### {name[0].upper()}{name[1:]} ({own[0]['source']})", "")
        columns = [one for one in NAMES if any(row["first_token"] == one for row in judged)]
        lines: dict[tuple[str, str, str], dict[str, str]] = {}
        for row in judged:
            place = (f"{row['claim']}: {row['statement']}", row["predicate"], row["label"])
            lines.setdefault(place, {})[row["first_token"]] = f"**{row['verdict']}**<br>{value_text(row)}"
        if lines:
            yield from table(
                ["prediction", "predicate", "model", *(NAMES[one] for one in columns)],
                ([*place, *(cells.get(one, "") for one in columns)] for place, cells in lines.items()),
            )
            yield ""
        reasons: dict[tuple[str, str], list[str]] = {}
        for row in own:
            if row["verdict"] == NOT_APPLICABLE:
                reasons.setdefault((row["claim"], row["reason"] or "not measured"), []).append(
                    f"{row['label']} ({NAMES.get(row['first_token'], row['first_token'] or 'losses')})"
                )
        if reasons:
            yield "Not applicable:"
            yield ""
            yield from (f"- {claim} in {', '.join(places)}: {reason}." for (claim, reason), places in reasons.items())
            yield ""


def checks(path: Path) -> str:
    """In a sentence, how the study's controls and identities came out."""
    rows = read_table(path).to_pylist()
    counts = {
        verdict: [row["verdict"] for row in rows].count(verdict)
        for verdict in ("passed", "undecided", "failed", NOT_APPLICABLE)
    }
    open_ = list(dict.fromkeys(row["check"] for row in rows if row["verdict"] in ("undecided", "failed")))
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    which = f"; what did not pass: {', '.join(open_)}" if open_ else ""
    return f"Controls and identities (`checks.parquet`), {len(rows)} in all: {told}{which}."


def chains(paths: Iterable[Path], label: Callable[[str, str], str]) -> Iterator[str]:
    """The share of an edit's effect that each link carries: a row a model, prompt set and edit, a column a link.

    Args:
        paths: the tables ``mediation``.
        label: (model, prompts) → what a row is called.
    """
    links: list[str] = []
    lines: list[tuple[str, str, dict[str, str]]] = []
    for path in paths:
        rows = [row for row in read_table(path).to_pylist() if row["cause"] and row["control_of"] is None]
        for cause in dict.fromkeys(row["cause"] for row in rows):
            own = [row for row in rows if row["cause"] == cause]
            whole = next(row for row in own if row["direction"] == "all")
            cells: dict[str, str] = {}
            for link in dict.fromkeys(row["mediator"] for row in own if row["mediator"]):
                links += [] if link in links else [link]
                pair = {row["direction"]: row for row in own if row["mediator"] == link}
                cells[link] = "<br>".join(
                    f"{way} {_share(pair[way])}" for way in ("inserted", "restored") if way in pair
                )
            why = next((row["not_applicable"] for row in own if row["not_applicable"]), None)
            if why:
                cells = {links[0]: f"not applicable: {why}"}
            effect = f"{whole['effect']:.3f} [{whole['effect_low']:.3f}, {whole['effect_high']:.3f}]<br>{whole['sinks']} of {whole['sequences']} become sinks"
            lines.append((f"{label(rows[0]['model'], rows[0]['prompts'])}<br>{cause.replace('_', ' ')}", effect, cells))
    yield from table(["edit", "effect on the score", *links], ([name, effect, *(cells.get(one, "–") for one in links)] for name, effect, cells in lines))  # fmt: skip


def _share(row: Mapping) -> str:
    if row["share"] is None:
        return "–"
    return f"{100 * row['share']:.0f} % [{100 * row['share_low']:.0f}, {100 * row['share_high']:.0f}]".replace("-", "−")
