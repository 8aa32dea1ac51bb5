"""What cards and records are told of a study, read from its tables, its models' provenance and its logs."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name

from harness.pins import read_lock
from harness.publish.record import StudyRecord
from sinkorigin.publish.described_study import DescribedStudy, Run
from sinkorigin.tables import not_applicable, read_json, read_table

# packages that a result may depend on, in the order in which cards name them
_COMPUTING = ("torch", "transformers", "tokenizers", "numpy", "scipy", "polars", "pyarrow", "matplotlib", "snakemake")


def describe(
    folder: Path,
    root: Path,
    record: StudyRecord,
    *,
    config: Mapping[str, Any],
    models: Sequence[Mapping[str, Any]],
    provenances: Iterable[str],
) -> DescribedStudy:
    """Read what is told of a study.

    Args:
        folder: of its results.
        root: of the workflow.
        config: its settings, completed by their defaults.
        models: name, label and role of every model that is judged, and run, variant and seed of one that was trained here.
        provenances: of every model, fetched or trained.
    """

    def rows(place: str) -> list[dict[str, Any]]:
        path = folder / place
        return read_table(path).to_pylist() if path.is_file() and not not_applicable(path) else []

    ledger = rows("claims.parquet")
    labels = {row["model"]: row["label"] for row in ledger}  # with what a model was dequantised from
    provenance = [read_json(path) for path in provenances]
    pins = read_lock(root / "requirements.lock")
    corpus = folder / "corpus/documents.parquet"
    splits = read_table(corpus, ["split"]).column("split").to_pylist() if corpus.is_file() else []
    return DescribedStudy(
        name=config["study"],
        config=config,
        models=[{**model, "label": labels.get(model["name"], model["label"])} for model in models],
        provenance={
            facts["model"]: {"label": labels.get(facts["model"], facts["model"])} | facts for facts in provenance
        },
        ledger=ledger,
        robustness=rows("robustness.parquet"),
        checks=rows("checks.parquet"),
        trainings=rows("statistics/pretraining.parquet"),
        measured=rows("statistics/pretraining_by_seed.parquet"),
        documents={split: splits.count(split) for split in sorted(set(splits))},
        run=_run(record),
        versions={name: pins[canonicalize_name(name)] for name in _COMPUTING if canonicalize_name(name) in pins},
        citation=yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8")),
        publication=config["publish"],
    )


def _run(record: StudyRecord) -> Run:
    taken = [job.taken for job in record.jobs if job.taken is not None]
    return Run(
        jobs=len(record.jobs),
        start=record.start,
        end=record.end,
        hours=sum(one.seconds for one in taken) / 3600,
        memory=max((one.memory for one in taken), default=0.0),
        gpu_memory=max((one.gpu_memory for one in taken), default=0.0),
        machines=sorted({job.machine for job in record.jobs if job.machine}),
    )
