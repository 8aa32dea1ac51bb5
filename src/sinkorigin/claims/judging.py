"""Judging the primary claims: one verdict for each claim, model and condition of the first token, and all settings beside it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from sinkorigin import tables as files
from sinkorigin.claims.claim import Claim, Setting
from sinkorigin.claims.tests import CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED, decide
from sinkorigin.claims.verdicts import Judged, StudyTables

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
}
_TABLES = {
    "reason": (pa.string(), "numbers behind the verdict, or why there is none"),
    "tables": (pa.list_(pa.string()), "tables that it was read from, below the study's folder"),
}

LEDGER_SCHEMA = files.schema(
    **_ABOUT,
    statement=(pa.string(), "the claim in a sentence"),
    paper=(pa.string(), "what the paper reports; null for claims of this project"),
    **_VALUE,
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
    verdict=(pa.string(), "of the interval by itself"),
    **_TABLES,
)


@dataclass(frozen=True)
class Place:
    """A prompt set on which a model is judged.

    Attributes:
        prompts: its name.
        first_token: the condition that it stands for.
        further: other prompt sets under the same condition, whose tests are settings.
    """

    prompts: str
    first_token: str
    further: Sequence[str] = field(default=())


def judge_primary(
    claims: Sequence[Claim],
    tables: Mapping[str, Sequence[str | Path]],
    models: Sequence[Judged],
    places: Mapping[str, Sequence[Place]],
) -> tuple[list[dict], list[dict]]:
    """Judge primary claims about models.

    Args:
        claims: the claims.
        tables: name of a table → its files, as :func:`ledger.judge` takes them.
        models: the models, in the order of the ledger.
        places: name of a model → the prompt sets on which it is judged.

    Returns:
        Rows of ``LEDGER_SCHEMA`` and of ``ROBUSTNESS_SCHEMA``.
    """
    found = {name: {path.parts[-3:-1]: path for path in map(Path, paths)} for name, paths in tables.items()}
    ledger: list[dict] = []
    robustness: list[dict] = []
    for model in models:
        asked = [claim for claim in claims if claim.in_random_weights or not model.is_control]
        for place in places.get(model.name, ()):
            rows, settings = _judged(asked, model, place, lambda name, model=model: StudyTables(found, model, name))
            ledger += rows
            robustness += settings
    return ledger, robustness


def _judged(claims: Sequence[Claim], model: Judged, place: Place, tables_on) -> tuple[list[dict], list[dict]]:
    """Rows of one model under one condition, whose primary tests are one family."""
    measured: list[tuple[Claim, list[tuple[str, StudyTables, Setting]]]] = []
    for claim in claims:
        settings = [
            (name, tables, setting)
            for name in (place.prompts, *place.further)
            for tables in [tables_on(name)]
            for setting in claim.settings(tables)
        ]
        if settings and settings[0][0] == place.prompts:
            measured.append((claim, settings))
    primaries = [settings[0][2] for _, settings in measured]
    alone = [claim.verdict(primary) for (claim, _), primary in zip(measured, primaries, strict=True)]
    p_values = [_p(claim, primary) for (claim, _), primary in zip(measured, primaries, strict=True)]
    verdicts, adjusted = decide(alone, p_values)
    ledger, robustness = [], []
    for (claim, settings), verdict, p, p_adjusted in zip(measured, verdicts, p_values, adjusted, strict=True):
        about = {
            "claim": claim.code, "words": claim.words, "model": model.name, "label": model.label, "role": model.role,
            "prompts": place.prompts, "first_token": place.first_token,
        }  # fmt: skip
        rows = [
            about | _setting_row(claim, name, tables, setting, number, place)
            for number, (name, tables, setting) in enumerate(settings)
        ]
        robustness += rows
        counted = [row["verdict"] for row in rows if row["verdict"] != NOT_APPLICABLE]
        first = rows[0]
        ledger.append(
            about
            | {name: first[name] for name in (*_VALUE, *_TABLES)}
            | {
                "statement": claim.statement, "paper": claim.paper, "verdict": verdict, "p": p, "p_adjusted": p_adjusted,
                "holds": counted.count(REPRODUCED), "opposite": counted.count(CONTRADICTED), "settings": len(counted),
            }
        )  # fmt: skip
        if verdict == UNDECIDED and rows[0]["verdict"] != UNDECIDED:
            ledger[-1]["reason"] = "; ".join(
                filter(
                    None,
                    [
                        first["reason"],
                        f"{rows[0]['verdict']} by itself, but not among the {len(primaries)} primary tests together",
                    ],
                )
            )
    return ledger, robustness


def _p(claim: Claim, setting: Setting) -> float | None:
    if not setting.applicable:
        return None
    if setting.p is not None:
        return setting.p
    if setting.low is None or setting.high is None:
        return None
    return (setting.test or claim.test).p(setting.value, setting.low, setting.high)


def _setting_row(claim: Claim, prompts: str, tables: StudyTables, setting: Setting, number: int, place: Place) -> dict:
    test = setting.test or claim.test
    what = [setting.what or ("primary" if not number else ""), *([prompts] if prompts != place.prompts else [])]
    return {
        "setting": ", ".join(filter(None, what)), "read_on": prompts, "quantity": test.quantity, "value": setting.value,
        "low": setting.low, "high": setting.high, "predicate": test.words, "verdict": claim.verdict(setting),
        "reason": setting.reason, "tables": [tables.path(name) for name in setting.tables],
    }  # fmt: skip


def counted(rows: Sequence[Mapping]) -> Iterator[tuple[str, int]]:
    """(verdict, number of rows that have it), for the verdicts in their order."""
    for verdict in (REPRODUCED, CONTRADICTED, UNDECIDED, NOT_APPLICABLE):
        yield verdict, sum(row["verdict"] == verdict for row in rows)
