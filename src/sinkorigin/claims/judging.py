"""Judging the primary claims: one verdict for each claim, model and condition of the first token, and all settings beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from sinkorigin import tables as files
from sinkorigin.claims.checks import check
from sinkorigin.claims.claim import Claim, Setting, not_applicable
from sinkorigin.claims.ledger import PRIMARY
from sinkorigin.claims.tests import ALPHA, CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED, decide
from sinkorigin.claims.verdicts import Judged, StudyTables, places_of

_ABOUT = {
    "claim": (pa.string(), "code of the claim, C1 … C14, see docs/claims.md"),
    "words": (pa.string(), "what it claims, in short"),
    "model": (pa.string(), "name of the model; of claims about trainings, the run"),
    "label": (pa.string(), "its label"),
    "role": (pa.string(), "pretrained, random (the control) or trained (here)"),
    "prompts": (pa.string(), "prompt set; null for claims about losses"),
    "first_token": (pa.string(), "what stands at position 0: drawn, bos or fixed"),
}
_VALUE = {
    "quantity": (pa.string(), "what value is"),
    "value": (pa.float64(), "its value"),
    "low": (pa.float64(), "lower end of its 95 % interval"),
    "high": (pa.float64(), "upper end of it"),
    "predicate": (pa.string(), "what the interval is held against"),
    "threshold": (pa.float64(), "its number"),
}
_TABLES = {
    "reason": (pa.string(), "numbers behind the verdict, or why there is none"),
    "tables": (pa.list_(pa.string()), "tables that it was read from, below the study's folder"),
}

LEDGER_SCHEMA = files.schema(
    **_ABOUT,
    statement=(pa.string(), "the claim in a sentence"),
    scale=(pa.string(), "difference, or ratio: of which averages over models are taken as logarithms"),
    paper=(pa.string(), "what the paper reports; null for claims of this project"),
    **_VALUE,
    reading=(pa.string(), "what the value says, in words"),
    verdict=(pa.string(), "reproduced, contradicted, undecided or not applicable"),
    p=(
        pa.float64(),
        "two-sided p-value of the threshold, from the exact test where there is one, else from the interval",
    ),
    p_adjusted=(pa.float64(), "after Holm's correction over the primary tests of the model under this condition"),
    holds=(pa.int32(), "settings in which the whole interval satisfies the predicate, the primary one among them"),
    opposite=(pa.int32(), "settings in which the whole interval satisfies the opposite"),
    settings=(pa.int32(), "settings that are applicable"),
    **_TABLES,
)

ROBUSTNESS_SCHEMA = files.schema(
    **_ABOUT,
    setting=(pa.string(), "how the test differs from the primary one, which is called primary"),
    read_on=(pa.string(), "prompt set that the setting was measured on"),
    **_VALUE,
    verdict=(pa.string(), "of the setting by itself"),
    p=(pa.float64(), "its two-sided p-value; where it is 0.05 or more, the interval alone decides nothing"),
    **_TABLES,
)


class Source(Protocol):
    """Where a setting was read.

    Attributes:
        prompts: name of the prompt set; None for what has none, such as losses.
    """

    @property
    def prompts(self) -> str | None: ...

    def path(self, name: str) -> str:
        """Place of a table below the study's folder."""


@dataclass(frozen=True)
class Place:
    """A condition of the first token under which a model is judged.

    Attributes:
        first_token: drawn, bos or fixed.
        prompts: name of the prompt set on which the primary tests are made.
        further: other prompt sets under the same condition, on which all tests are settings.
    """

    first_token: str
    prompts: str
    further: Sequence[str] = field(default=())


def judge(
    tables: Mapping[str, Sequence[str | Path]],
    *,
    models: Sequence[Judged],
    places: Mapping[str, Sequence[Place]],
    missing: Sequence[Mapping] = (),
    claims: Sequence[Claim] = PRIMARY,
) -> tuple[list[dict], list[dict]]:
    """Judge claims about models.

    Args:
        tables: name of a table → its files in this study: one for each model and prompt set that has it, whose path ends in
            ``{model}/{prompts}/{name}.parquet``. A study that has none of a table gives no files.
        models: the models, in the order of the ledger.
        places: name of a model → the conditions under which it is judged.
        missing: what could not be measured because a job failed: ``model`` and ``prompts`` (null: of all prompt sets), ``what`` is missing
            of them (null: everything), and the ``sentence`` that says why.
        claims: the claims; of one model under one condition they are one family of tests.

    Returns:
        Rows of ``LEDGER_SCHEMA``, one a claim, model and condition of the first token; and of ``ROBUSTNESS_SCHEMA``, one a setting of these.

    Raises:
        KeyError: a claim reads a table whose name is not among ``tables``.
        SinkoriginError: a table cannot be read.
    """
    files = places_of(tables)
    ledger: list[dict] = []
    robustness: list[dict] = []
    for model in models:
        asked = [claim for claim in claims if claim.in_random_weights or not model.is_control]
        for place in places.get(model.name, ()):
            study = [StudyTables(files, model, name, missing) for name in (place.prompts, *place.further)]
            rows, settings = _judged(asked, model, place, study)
            ledger += rows
            robustness += settings
    return ledger, robustness


def checked(
    tables: Mapping[str, Sequence[str | Path]], *, models: Sequence[Judged], places: Mapping[str, Sequence[Place]]
) -> list[dict]:
    """Rows of ``checks.SCHEMA``, of every model on all its prompt sets; arguments as in :func:`judge`."""
    files = places_of(tables)
    return [
        row
        for model in models
        for place in places.get(model.name, ())
        for name in (place.prompts, *place.further)
        for row in check(model, name, StudyTables(files, model, name))
    ]


def _settings(claim: Claim, tables: StudyTables) -> list[Setting]:
    """Settings of a claim on one prompt set; one without a value that says why, where tables that it reads should be there and are not."""
    found = list(claim.settings(tables))
    lacking = tables.lacking()
    if not lacking or any(setting.applicable for setting in found):
        return found
    return [not_applicable("", "; ".join(dict.fromkeys(lacking.values())), *lacking)]


def _judged(
    claims: Sequence[Claim], model: Judged, place: Place, study: Sequence[StudyTables]
) -> tuple[list[dict], list[dict]]:
    """Rows of one model under one condition, whose primary tests are one family. The first tables are those of the primary tests."""
    measured: list[tuple[Claim, list[tuple[StudyTables, Setting]]]] = []
    for claim in claims:
        settings = [(tables, setting) for tables in study for setting in _settings(claim, tables)]
        if settings and settings[0][0] is study[0]:
            measured.append((claim, settings))
    about = {
        "model": model.name, "label": model.label, "role": model.role, "prompts": place.prompts, "first_token": place.first_token,
    }  # fmt: skip
    return rows_of_family(measured, [about] * len(measured))


def rows_of_family(
    measured: Sequence[tuple[Claim, Sequence[tuple[Source, Setting]]]], abouts: Sequence[Mapping[str, str | None]]
) -> tuple[list[dict], list[dict]]:
    """Rows of claims whose primary tests are one family: the verdicts in the ledger hold together.

    Args:
        measured: each claim with its settings, the primary one first, and the tables that each was read from.
        abouts: of each claim, model, label, role, prompts and first_token.

    Returns:
        Rows of ``LEDGER_SCHEMA``, one a claim; and of ``ROBUSTNESS_SCHEMA``, one a setting.
    """
    primaries = [settings[0][1] for _, settings in measured]
    alone = [claim.verdict(primary) for (claim, _), primary in zip(measured, primaries, strict=True)]
    p_values = [claim.p(primary) for (claim, _), primary in zip(measured, primaries, strict=True)]
    verdicts, adjusted = decide(alone, p_values)
    family = max(1, sum(p is not None for p in p_values))
    ledger: list[dict] = []
    robustness: list[dict] = []
    for (claim, settings), about, verdict, by_itself, p, p_adjusted in zip(
        measured, abouts, verdicts, alone, p_values, adjusted, strict=True
    ):
        claimed = {"claim": claim.code, "words": claim.words, **about}
        rows = [
            claimed | _setting_row(claim, setting, tables, about["prompts"], primary=not number)
            for number, (tables, setting) in enumerate(settings)
        ]
        robustness += rows
        counted = [row["verdict"] for row in rows if row["verdict"] != NOT_APPLICABLE]
        first = rows[0]
        reason = first["reason"]
        if verdict != by_itself:
            alone_only = f"{by_itself} by itself, but not among the {family} primary tests together (p = {p_adjusted:.2g} after Holm)"
            reason = "; ".join(filter(None, [reason, alone_only]))
        if verdict == UNDECIDED:
            needed = claim.undecided_because(settings[0][1], ALPHA / family)
            reason = "; ".join(filter(None, [reason, needed]))
        ledger.append(
            claimed
            | {name: first[name] for name in (*_VALUE, *_TABLES)}
            | {
                "statement": claim.statement, "paper": claim.paper, "scale": claim.scale,
                "reading": None if first["value"] is None else claim.read(first["value"]), "verdict": verdict, "reason": reason,
                "p": p, "p_adjusted": p_adjusted, "holds": counted.count(REPRODUCED), "opposite": counted.count(CONTRADICTED),
                "settings": len(counted),
            }
        )  # fmt: skip
    return ledger, robustness


def _setting_row(claim: Claim, setting: Setting, tables: Source, prompts: str | None, *, primary: bool) -> dict:
    test = setting.test or claim.test
    elsewhere = tables.prompts not in (None, prompts)
    what = [setting.what or ("primary" if primary else ""), *([tables.prompts] if elsewhere else [])]
    return {
        "setting": ", ".join(filter(None, what)), "read_on": tables.prompts, "quantity": test.quantity, "value": setting.value,
        "low": setting.low, "high": setting.high, "predicate": test.words, "threshold": test.threshold, "verdict": claim.verdict(setting),
        "p": claim.p(setting) if setting.applicable else None,
        "reason": setting.reason, "tables": [tables.path(name) for name in setting.tables],
    }  # fmt: skip
