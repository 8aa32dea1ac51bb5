"""The ledger: every claim that the tables of a study speak of, judged."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from sinkorigin.claims.first_tokens import first_token_claims
from sinkorigin.claims.interventions import intervention_claims
from sinkorigin.claims.model import model_claims
from sinkorigin.claims.pretraining import pretraining_claims
from sinkorigin.claims.structure import structure_claims
from sinkorigin.claims.verdicts import NOT_MEASURED, SCHEMA, Judged, StudyTables, row_of


def judge(
    tables: Mapping[str, Sequence[str | Path]],
    *,
    models: Sequence[Judged],
    prompts: Sequence[str],
    first_tokens: Sequence[Mapping[str, str]] = (),
    missing: Sequence[Mapping] = (),
) -> pa.Table:
    """Judge every claim that the study's tables speak of.

    Args:
        tables: name of a table → its files in this study: one for each model and prompt set that has it, whose path ends in
            ``{model}/{prompts}/{name}.parquet``, or one for the whole study (``pretraining_by_seed``). A study that has
            none of a table gives no files.
        models: the models, in the order of the ledger.
        prompts: names of the prompt sets.
        first_tokens: condition of the first token → name, for each group of prompt sets that differ in nothing else.
        missing: what could not be measured because a job failed: ``model`` and ``prompts`` (null: of a training, or of all prompt sets), ``what`` is
            missing of them (null: everything), and the ``sentence`` that says why. Each is a row that is not applicable.

    Returns:
        A table of ``verdicts.SCHEMA``.

    Raises:
        KeyError: a claim reads a table whose name is not among ``tables``.
        SinkoriginError: a table cannot be read.
    """
    places = {name: {path.parts[-3:-1]: path for path in map(Path, paths)} for name, paths in tables.items()}
    rows: list[dict] = []
    for model in models:
        for name in prompts:
            study = StudyTables(places, model, name)
            rows += study.not_applicable_claims()
            rows += model_claims(study)
            rows += structure_claims(study)
            rows += intervention_claims(study)
            rows += [
                _not_measured(part, model.label)
                for part in missing
                if (part["model"], part["prompts"]) == (model.name, name)
            ]
        for group in first_tokens:
            rows += first_token_claims({key: StudyTables(places, model, name) for key, name in group.items()})
    rows += [_not_measured(part, part["model"] or part["what"]) for part in missing if part["prompts"] is None]
    rows += pretraining_claims(tables["pretraining_by_seed"], models, prompts)
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _not_measured(part: Mapping, model: str) -> dict:
    """Row for what a study lacks because a job failed."""
    statement = f"not measured, because a job failed: {part['what'] or 'everything'}"
    return row_of(
        NOT_MEASURED, statement, "–", model, part["prompts"], None, "–", "–", reason=part["sentence"]
    )  # fmt: skip
