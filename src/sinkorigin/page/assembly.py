"""The page of a study from its files, and from what the workflow knows of it."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import sinkorigin
from sinkorigin.claims import accounts, checks
from sinkorigin.claims.judging import LEDGER_SCHEMA, ROBUSTNESS_SCHEMA
from sinkorigin.models.labels import complete_labels
from sinkorigin.page.embedding import shown_file
from sinkorigin.page.facts import FigureFile, PromptSet, RunRecord, StudyFacts, TableMaker
from sinkorigin.page.page import ChartSpec, Judgements, render
from sinkorigin.page.page_tables import PageTables, rows_of
from sinkorigin.page.sentences import sentences
from sinkorigin.tables import read_table

# input → schema of its rows
_JUDGED = {
    "claims": LEDGER_SCHEMA,
    "robustness": ROBUSTNESS_SCHEMA,
    "checks": checks.SCHEMA,
    "accounts": accounts.SCHEMA,
}
# tables of the whole study, which a reader may download beside those of each model and prompt set
_OF_STUDY = (*_JUDGED, "pretraining_comparison", "pretraining_by_seed")


def page_of_study(files: Mapping[str, Sequence[str]], about: Mapping[str, Any], record: RunRecord) -> str:
    """The page as HTML.

    Args:
        files: input → its files: ``claims``, ``robustness``, ``checks`` and ``accounts``, each empty where it could not be made;
            ``provenance`` of fetched models; ``figures``; ``pretraining_comparison`` and ``pretraining_by_seed``; ``edited``, manifests
            of interventions; and statistics by the name of their table.
        about: the parameters of the rule ``make_page``.
        record: what the logs of the study's jobs say.
    """
    statistics = dict(files)
    whole = {name: paths[0] for name in _OF_STUDY if (paths := statistics.get(name))}
    judged, lacking = {}, {}
    for name, schema in _JUDGED.items():
        judged[name], lacking[name] = rows_of(statistics.pop(name), schema)
    labels = complete_labels({model["name"]: model["label"] for model in about["models"]}, statistics.pop("provenance"))
    models = [{**model, "label": labels[model["name"]]} for model in about["models"]]
    comparison = [read_table(path) for path in statistics.pop("pretraining_comparison")]
    statistics.pop("pretraining_by_seed", None)
    drawn: dict[str, list[str]] = {}
    for file in statistics.pop("figures"):
        drawn.setdefault(Path(file).stem, []).append(file)
    edited = {tuple(Path(path).parts[-4:-2]): Path(path).parents[1] for path in statistics.pop("edited")}
    tables = PageTables(statistics, edited, whole)
    fetched = {model["name"]: model["label"] for model in models if model["role"] != "trained"}
    facts = StudyFacts(
        name=about["study"],
        version=sinkorigin.__version__,
        models=models,
        prompts=[PromptSet(**one) for one in about["prompts"]],
        trainings=about["trainings"],
        record=record,
        missing=about["missing"],
        undrawn=about["undrawn"],
        older={name: columns for name, columns in lacking.items() if columns},
        makers={name: TableMaker(**maker) for name, maker in about["makers"].items()},
        repository=about["repository"],
    )
    return render(
        facts,
        Judgements(*judged.values()),
        tables,
        figures=[_figure(files=drawn[figure["name"]], **figure) for figure in about["figures"]],
        charts=[chart for name, table in about["charts"] if (chart := _chart(name, table, tables, fetched))],
        sentences=sentences(tables, fetched),
        comparison=comparison[0] if comparison else None,
    )


def _figure(name: str, caption: str, files: Sequence[str]) -> FigureFile:
    return FigureFile(name, shown_file(files), [Path(file).name for file in files], caption)


def _chart(name: str, table: str, tables: PageTables, labels: Mapping[str, str]) -> ChartSpec | None:
    """A chart by the name of its module; None where the study has nothing for it to show."""
    module = import_module(f"sinkorigin.page.charts.{name}")
    chart = module.draw(tables, labels)
    if chart is None:
        return None
    return ChartSpec(
        name, module.TITLE, module.DESCRIPTION, chart.to_dict(validate=False), module.say(tables, labels), table
    )
