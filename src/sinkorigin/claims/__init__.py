"""The paper's claims, each a predicate over the study's tables with its uncertainty.

A claim is *seen* when the whole interval satisfies its predicate, *undecided* when only the estimate does, *not seen at
this scale* when the estimate does not, and *not applicable* when the quantity is not defined or was not measured.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from sinkorigin.claims.interventions import of_interventions
from sinkorigin.claims.model import of_model
from sinkorigin.claims.page import number, render_html, value_text
from sinkorigin.claims.pretraining import of_pretraining
from sinkorigin.claims.structure import of_structure
from sinkorigin.claims.verdicts import NOT_APPLICABLE, NOT_SEEN, SCHEMA, SEEN, UNDECIDED, Judged, StudyTables, verdict

__all__ = [
    "NOT_APPLICABLE",
    "NOT_SEEN",
    "SCHEMA",
    "SEEN",
    "UNDECIDED",
    "Judged",
    "judge",
    "number",
    "render_html",
    "value_text",
    "verdict",
]


def judge(
    root: str | Path, *, models: Sequence[Judged], prompts: Sequence[str], interventions: Sequence[Mapping]
) -> pa.Table:
    """Judge every claim that the study's tables speak of.

    Args:
        root: the study's folder.
        models: the models, in the order of the table.
        prompts: names of the prompt sets.
        interventions: name, kind, models, prompts, layers, position and strengths of each.

    Returns:
        A table of ``SCHEMA``.
    """
    root = Path(root)
    rows: list[dict] = []
    for model in models:
        for name in prompts:
            own = StudyTables(root, model.name, name)
            rows += of_model(own, model, name)
            rows += of_structure(own, model, name)
            edits = [e for e in interventions if model.name in e["models"] and name in e["prompts"]]
            if edits:
                rows += of_interventions(own, model, name, edits)
    rows += of_pretraining(root, models, prompts)
    return pa.Table.from_pylist(rows, schema=SCHEMA)
