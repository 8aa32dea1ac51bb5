"""Judging the claims about trainings: each run against its baseline, paired by seed, one family of primary tests a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from sinkorigin import tables
from sinkorigin.claims.claim import Setting, not_applicable
from sinkorigin.claims.judging import rows_of_family
from sinkorigin.claims.ledger import TRAININGS
from sinkorigin.claims.run_pairs import TABLE, RunPair, TrainingClaim, sink_text
from sinkorigin.errors import SinkoriginError

ROLE = "trained"


def judge_trainings(
    by_seed: Sequence[str | Path],
    *,
    runs: Sequence[Mapping[str, str | None]],
    prompts: Sequence[str],
    missing: Sequence[Mapping] = (),
    claims: Sequence[TrainingClaim] = TRAININGS,
) -> tuple[list[dict], list[dict]]:
    """Judge the claims about trainings.

    A claim's primary test is made on the first prompt set on which it has one, and its tests on the others are settings.

    Args:
        by_seed: path of ``pretraining_by_seed``; none in a study that trains nothing, or where it is missing.
        runs: ``name`` of each run, its ``variant``, its ``baseline`` (its own name for a baseline, null where there is none) and its
            ``label``, which says which reading of the variant it is.
        prompts: names of the prompt sets that trained models are measured on, the one that they are trained for first.
        missing: what could not be measured because a job failed, see :func:`sinkorigin.claims.judging.judge`.
        claims: the claims.

    Returns:
        Rows of ``judging.LEDGER_SCHEMA`` and of ``judging.ROBUSTNESS_SCHEMA``.

    Raises:
        SinkoriginError: the table lacks a run that it should have, or cannot be read.
    """
    table = pl.DataFrame(tables.read_table(by_seed[0])) if by_seed else None
    failures = [part["sentence"] for part in missing if part["model"] is None]
    ledger: list[dict] = []
    robustness: list[dict] = []
    for run in runs:
        asked = [claim for claim in claims if claim.variant == run["variant"]]
        if not asked or run["baseline"] == run["name"]:
            continue
        pairs: list[RunPair] = []
        reason = "not measured"
        if run["baseline"] is None:
            reason = "the study has no softmax run of the same data, size and number of tokens to compare it with"
        elif table is None:
            sentences = [f"because a job failed: {sentence}" for sentence in dict.fromkeys(failures)]
            reason = ", ".join([reason, *sentences])
        else:
            pairs = _pairs(table, str(run["name"]), run["baseline"], prompts)
        measured: list[tuple[TrainingClaim, list[tuple[RunPair, Setting]]]] = []
        for claim in asked:
            settings = [(pair, setting) for pair in pairs for setting in claim.settings(pair)]
            measured.append((claim, settings or [(_nothing(run), not_applicable("", reason, TABLE))]))
        about = {"model": run["name"], "label": run["label"], "role": ROLE}
        primaries = [settings[0][0] for _, settings in measured]
        places = [about | {"prompts": pair.prompts, "first_token": pair.first_token} for pair in primaries]
        rows, tried = rows_of_family(measured, places)
        ledger += rows
        robustness += tried
    return ledger, robustness


def _nothing(run: Mapping[str, str | None]) -> RunPair:
    return RunPair(str(run["name"]), str(run["baseline"]), None, None, pl.DataFrame())


def _pairs(table: pl.DataFrame, run: str, baseline: str, prompts: Sequence[str]) -> list[RunPair]:
    """Run and baseline as far as losses go, then on each prompt set."""
    rows = table.filter(pl.col("run").is_in([run, baseline]))
    lacking = [name for name in (run, baseline) if name not in rows["run"]]
    if lacking:
        raise SinkoriginError(
            f"{TABLE}.parquet has no rows of run {' and '.join(lacking)}; delete it and run the same command again"
        )
    conditions = dict(
        rows.filter(run=run).drop_nulls("prompts").select("prompts", "first_token").unique(maintain_order=True).rows()
    )
    drawn = "drawn" in conditions.values()
    sets = [
        RunPair(run, baseline, name, conditions[name], rows.filter(prompts=name), drawn=drawn)
        for name in prompts
        if name in conditions
    ]
    losses = rows.filter(pl.col("prompts").is_null())
    sink = sink_text(sets[0]) if sets else f"whether {baseline} has a sink was not measured"
    return [RunPair(run, baseline, None, None, losses, sink, drawn), *sets]
