"""What the page says, as a tree of plain values that its templates write down: nothing here knows HTML."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from sinkorigin.claims.first_tokens import NAMES
from sinkorigin.claims.first_tokens import sentences as sentences_of_first_tokens
from sinkorigin.claims.ledger import PRIMARY, TRAININGS
from sinkorigin.claims.row_texts import claim_order, number, p_text, settings_text, value_text
from sinkorigin.claims.tests import CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED
from sinkorigin.interventions.kind import kind_named
from sinkorigin.interventions.links import LINKS
from sinkorigin.page.page_tables import PageTables

MARKS = {REPRODUCED: "✓", CONTRADICTED: "✗", UNDECIDED: "?", NOT_APPLICABLE: "–", "passed": "✓", "failed": "✗"}
_CLAIMS = {claim.code: claim for claim in (*PRIMARY, *TRAININGS)}
_RUNS = {claim.code for claim in TRAININGS}
PARAGRAPH = "\n\n"


@dataclass(frozen=True)
class Verdict:
    """A verdict with its mark, so that it is told by words, symbol and colour."""

    text: str

    @property
    def mark(self) -> str:
        return MARKS.get(self.text, "?")

    @property
    def css(self) -> str:
        return {"passed": REPRODUCED, "failed": CONTRADICTED}.get(self.text, self.text).replace(" ", "-")


@dataclass(frozen=True)
class ClaimRow:
    """A claim, or a check or prediction, about one model under one condition."""

    model: str
    label: str
    role: str
    where: str
    value: str
    reading: str | None
    predicate: str
    verdict: Verdict
    reason: str | None
    p: str | None
    settings: str
    tried: Sequence[Mapping[str, Any]]
    tables: Sequence[str]


@dataclass(frozen=True)
class ClaimText:
    """A claim with everything that the page says of it."""

    code: str
    words: str
    statement: str
    paper: str | None
    quantity: str
    predicate: str
    why: str
    contradicted_by: str
    rows: Sequence[ClaimRow]
    trained: Sequence[ClaimRow]
    module: str
    said: str

    @property
    def names_of_tables(self) -> list[str]:
        """Names of the tables that it was read from."""
        return list(dict.fromkeys(PurePath(path).stem for row in (*self.rows, *self.trained) for path in row.tables))


@dataclass(frozen=True)
class Cell:
    """A cell of the evidence matrix; empty where the ledger has no row."""

    verdict: Verdict | None = None
    value: str = ""
    told: str = ""


@dataclass(frozen=True)
class Matrix:
    """Verdicts by claim and place.

    Attributes:
        models: (label, name, number of its columns), one a model.
        columns: (name of the model, words for the condition), one a column.
        rows: (code, words, cells), one a claim.
    """

    caption: str
    models: Sequence[tuple[str, str, int]]
    columns: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, str, Sequence[Cell]]]

    @property
    def conditions(self) -> bool:
        """Whether columns are told apart by what stands at position 0, too."""
        return any(condition for _, condition in self.columns)


@dataclass(frozen=True)
class Link:
    """A link of the chain with the shares of the effect that go through it."""

    name: str
    layers: str
    inserted: str | None
    restored: str | None
    reason: str | None = None


@dataclass(frozen=True)
class Chain:
    """The chain from an edit to the sink, in one model on one prompt set."""

    model: str
    label: str
    where: str
    edit: str
    effect: str
    sinks: str
    links: Sequence[Link] = field(default=())


def _number_of(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def where_text(row: Mapping) -> str:
    """Under which first token, and on which prompts, a row was measured."""
    first = NAMES.get(row.get("first_token") or "", row.get("first_token"))
    prompts = (row.get("prompts") or "").replace("_", " ")
    return ", ".join(filter(None, [first, prompts])) or "losses"


def _identity(row: Mapping) -> tuple:
    return row["claim"], row["model"], row["prompts"]


def claim_row(row: Mapping, settings: Sequence[Mapping] = ()) -> ClaimRow:
    """A row of the ledger, the accounts or the checks, in words."""
    tried = [
        {"setting": one["setting"], "value": value_text(one), "predicate": one["predicate"], "verdict": Verdict(one["verdict"]), "reason": one["reason"]}
        for one in settings
    ]  # fmt: skip
    return ClaimRow(
        model=row["model"], label=row["label"], role=row.get("role") or "", where=where_text(row), value=value_text(row),
        reading=row.get("reading"), predicate=row["predicate"], verdict=Verdict(row["verdict"]), reason=row["reason"],
        p=None if row.get("p_adjusted") is None else p_text(row["p_adjusted"]),
        settings=settings_text(row) if row.get("settings") is not None else "", tried=tried, tables=row["tables"] or (),
    )  # fmt: skip


def claim_texts(ledger: Sequence[Mapping], robustness: Sequence[Mapping]) -> dict[str, ClaimText]:
    """Code → everything that the page says of a claim of the ledger."""
    settings: dict[tuple, list[Mapping]] = {}
    for row in robustness:
        settings.setdefault(_identity(row), []).append(row)
    found = {}
    for code in sorted({row["claim"] for row in ledger}, key=claim_order):
        rows = [row for row in ledger if row["claim"] == code]
        claim = _CLAIMS.get(code)
        texts = [claim_row(row, settings.get(_identity(row), ())) for row in rows]
        single = [text for text, row in zip(texts, rows, strict=True) if row["role"] == "trained" and code not in _RUNS]
        if len(single) == len(texts):  # nothing else to show
            single = []
        module = "" if claim is None else claim.settings.__module__
        found[code] = ClaimText(
            code=code, words=rows[0]["words"], statement=_sentence(rows[0]["statement"]), paper=rows[0]["paper"],
            quantity=rows[0]["quantity"], predicate=rows[0]["predicate"], why="" if claim is None else claim.test.why,
            contradicted_by="" if claim is None else claim.test.contradicted_by,
            rows=[text for text in texts if text not in single], trained=single, module=module, said=said_of_claim(rows),
        )  # fmt: skip
    return found


def _sentence(text: str | None) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""


def said_of_claim(rows: Sequence[Mapping]) -> str:
    """One sentence on what was found of a claim: its reading in the first place that has one, and how often it is reproduced."""
    main = [row for row in rows if row["role"] == "pretrained" or row["claim"] in _RUNS] or list(rows)
    known = [row for row in main if row["verdict"] != NOT_APPLICABLE]
    if not known:
        reasons = dict.fromkeys(filter(None, (row["reason"] for row in main)))
        return f"Not applicable here: {next(iter(reasons), 'nothing was measured')}."
    first = known[0]
    claim = _CLAIMS.get(first["claim"])
    values = [row["value"] for row in known if row["value"] is not None]
    said = claim.read(min(values), max(values)) if claim is not None and values else ""
    counts = ", ".join(
        f"{verdict} in {count}"
        for verdict in (REPRODUCED, CONTRADICTED, UNDECIDED)
        if (count := sum(row["verdict"] == verdict for row in known))
    )
    places = "run" if first["claim"] in _RUNS else "model and first token"
    return f"{_sentence(said)} {counts[0].upper()}{counts[1:]} of {len(known)} (each {places}).".strip()


def matrices(ledger: Sequence[Mapping]) -> list[Matrix]:
    """Verdicts of the claims about models, by model and first token, and of those about trainings, by run; then those of controls."""
    models = [row for row in ledger if row["claim"] not in _RUNS]
    runs = [row for row in ledger if row["claim"] in _RUNS]
    by_role = {role: [row for row in models if row["role"] == role] for role in ("pretrained", "random")}
    found = [
        _matrix("Claims by model and what stands at position 0", by_role["pretrained"], lambda row: row["first_token"]),
        _matrix("Claims about models trained here, each run against its baseline", runs, lambda row: ""),
        _matrix("Claims that are about random weights too", by_role["random"], lambda row: row["first_token"]),
    ]
    return [matrix for matrix in found if matrix.rows]


def _matrix(caption: str, rows: Sequence[Mapping], condition: Any) -> Matrix:
    cells = {(row["claim"], row["model"], condition(row)): row for row in rows}
    places: dict[str, dict[str, None]] = {}
    labels = {row["model"]: row["label"] for row in rows}
    for row in rows:
        places.setdefault(row["model"], {})[condition(row)] = None
    columns = [(model, name) for model, names in places.items() for name in names]
    codes = dict.fromkeys((row["claim"], row["words"]) for row in rows)
    lines = [
        (code, words, [_cell(cells.get((code, *column))) for column in columns])
        for code, words in sorted(codes, key=lambda claim: claim_order(claim[0]))
    ]
    heads = [(labels[model], model, len(names)) for model, names in places.items()]
    return Matrix(caption, heads, [(model, NAMES.get(name, name)) for model, name in columns], lines)


def _cell(row: Mapping | None) -> Cell:
    if row is None:
        return Cell()
    told = "; ".join(
        filter(None, [f"{value_text(row)}, predicate {row['predicate']}", settings_text(row), row["reason"]])
    )
    claim = _CLAIMS.get(row["claim"])
    value = "" if row["value"] is None else number(row["value"]) if claim is None else claim.numbers(row["value"])
    return Cell(Verdict(row["verdict"]), value, told)


def chains(tables: PageTables, labels: Mapping[str, str]) -> list[Chain]:
    """The chain of each model on each prompt set on which edits are followed, of the first edit there."""
    found = []
    for model, prompts in tables.files("mediation"):
        table = tables.read("mediation", model, prompts)
        if table is None or model not in labels:
            continue
        rows = [row for row in table.to_dicts() if row["cause"] is not None]
        causes = dict.fromkeys((row["cause"], row["target"]) for row in rows)
        for cause, target in causes:
            own = [row for row in rows if (row["cause"], row["target"]) == (cause, target)]
            whole = next((row for row in own if row["direction"] == "all"), None)
            if whole is None:
                continue
            kind = kind_named(whole["kind"])
            edit = ", ".join(filter(None, [kind.label, kind.strength_text(whole["strength"], None)]))
            found.append(
                Chain(
                    model=model, label=labels[model], where=prompts.replace("_", " "),
                    edit=f"{edit}, at position {target}, layers {_layers(whole['layers'])}",
                    effect=f"attention {100 * whole['unedited']:.1f} % → {100 * whole['score']:.1f} %",
                    sinks=f"a sink in {whole['sinks']} of {whole['sequences']} sequences",
                    links=[_link(name, own) for name in LINKS],
                )
            )  # fmt: skip
            break
    return found


def _layers(layers: Sequence[int]) -> str:
    return "–".join(dict.fromkeys(str(end) for end in (min(layers), max(layers)))) if layers else "all"


def _link(name: str, rows: Sequence[Mapping]) -> Link:
    own = [row for row in rows if row["mediator"] == name and row["control_of"] is None]
    shares = {
        row["direction"]: f"{100 * row['share']:.0f} %".replace("-", "−") + _ends(row)
        for row in own
        if row["share"] is not None and row["direction"] in ("inserted", "restored")
    }
    reason = next((row["not_applicable"] for row in own if row["not_applicable"]), None)
    if not shares and reason is None:
        reason = "this model has no such link, or it was not patched"
    layers = next((_layers(row["mediator_layers"]) for row in own if row["mediator_layers"]), "")
    return Link(name, layers, shares.get("inserted"), shares.get("restored"), None if shares else reason)


def _ends(row: Mapping) -> str:
    if row["share_low"] is None:
        return ""
    return f" [{100 * row['share_low']:.0f}, {100 * row['share_high']:.0f}]".replace("-", "−")


@dataclass(frozen=True)
class Group:
    """Rows under one heading, with how many have each verdict."""

    name: str
    source: str
    counts: str
    rows: Sequence[tuple[str, str, ClaimRow]]


def _counts(rows: Iterable[Mapping]) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["verdict"]] = counts.get(row["verdict"], 0) + 1
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())


def checks_of(rows: Sequence[Mapping]) -> Group | None:
    """Controls and identities."""
    told = [
        (row["statement"], row["what"] or "", claim_row({"claim": row["check"], **row, "settings": None}))
        for row in rows
    ]
    return Group("All checks", "", _counts(rows), told) if rows else None


def accounts_of(rows: Sequence[Mapping]) -> list[Group]:
    """What accounts of attention sinks predict, an account a group."""
    groups: dict[tuple[str, str], list[Mapping]] = {}
    for row in rows:
        groups.setdefault((row["account"], row["source"]), []).append(row)
    return [
        Group(name, source, _counts(some), [(row["statement"], row["quantity"], claim_row(row)) for row in some])
        for (name, source), some in groups.items()
    ]


@dataclass(frozen=True)
class Failed:
    """What a failed job left out: parts, the sentence of the failure, and its log."""

    parts: Sequence[str]
    sentence: str
    log: str


def failures_of(missing: Sequence[Mapping], undrawn: Sequence[Mapping] = ()) -> list[Failed]:
    """One entry for each failure, with the models, tables and figures that are missing because of it."""
    reasons: dict[tuple[str, str], dict[tuple[str, str], list[str]]] = {}
    for part in missing:
        parts = reasons.setdefault((part["sentence"], part["log"]), {})
        parts.setdefault((part["model"] or "", part["what"] or ""), []).append(part["prompts"] or "")
    figures: dict[tuple[str, str], list[str]] = {}
    for part in undrawn:
        figures.setdefault((part["sentence"], part["log"]), []).append(part["figure"])
    found = []
    for sentence, log in dict.fromkeys([*reasons, *figures]):
        parts, drawn = reasons.get((sentence, log), {}), figures.get((sentence, log), [])
        words = [f"figure{'s' if len(drawn) > 1 else ''} {', '.join(drawn)}"] if drawn else []
        for place, ((model, what), prompts) in enumerate(parts.items()):
            on = f" on {', '.join(prompts)}" if any(prompts) else ""
            words.insert(place, ": ".join(filter(None, [f"{model}{on}" if model else "", what])))
        found.append(Failed(words, sentence, log))
    return found


def first_token_sentences(ledger: Sequence[Mapping]) -> list[tuple[str, str]]:
    """(label, sentence) of each model under several first tokens: where its sink is."""
    return list(sentences_of_first_tokens(ledger))


def caption_parts(caption: str) -> tuple[str, list[str]]:
    """First sentence of a caption in reStructuredText, and its paragraphs as plain text."""
    paragraphs = [
        " ".join(paragraph.split()).replace("``", "").replace("*", "")
        for paragraph in caption.strip().split(PARAGRAPH)
        if paragraph.strip()
    ]
    first = paragraphs[0] if paragraphs else ""
    end = first.find(". ")
    colon = first.find(": ")
    cut = min(place for place in (end, colon, len(first)) if place > 0) if first else 0
    return first[:cut].rstrip("."), paragraphs
