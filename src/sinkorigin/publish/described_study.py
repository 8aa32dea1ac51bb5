"""All that cards, records and checklist are told of a study: its config, its models, its rows, and what its jobs recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Run:
    """What the jobs of a study took.

    Attributes:
        jobs: number of them.
        start, end: of the first and the last; None where no log says it.
        hours: of all jobs, one after the other.
        memory, gpu_memory: largest peak of a job, MB.
        machines: kinds of machines that they ran on; empty where no log says it.
    """

    jobs: int
    start: datetime | None
    end: datetime | None
    hours: float
    memory: float
    gpu_memory: float
    machines: Sequence[str] = ()


@dataclass(frozen=True)
class DescribedStudy:
    """A finished study.

    Attributes:
        name: of the study.
        config: its settings, completed by their defaults.
        models: name, label and role of every model that is judged, and run, variant and seed of one that was trained here.
        provenance: model → its provenance: where it came from, or how it was trained. Trained models that are not judged are here too.
        ledger, robustness, checks: rows of the tables of these names.
        trainings: rows of ``statistics/pretraining.parquet``, run and seed first; none in a study without trainings.
        measured: rows of ``statistics/pretraining_by_seed.parquet``, likewise.
        documents: split of the corpus → number of its documents; none where no corpus was read.
        run: what its jobs took.
        versions: package → version that requirements.lock pins, of the packages that compute.
        citation: CITATION.cff of the workflow.
        publication: section ``publish`` of the config.
    """

    name: str
    config: Mapping[str, Any]
    models: Sequence[Mapping[str, Any]]
    provenance: Mapping[str, Mapping[str, Any]]
    ledger: Sequence[Mapping[str, Any]]
    robustness: Sequence[Mapping[str, Any]]
    checks: Sequence[Mapping[str, Any]]
    trainings: Sequence[Mapping[str, Any]]
    measured: Sequence[Mapping[str, Any]]
    documents: Mapping[str, int]
    run: Run
    versions: Mapping[str, str]
    citation: Mapping[str, Any]
    publication: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Title of the record."""
        paper = self.paper["title"].partition(":")[0]
        return self.publication.get("title") or f"Study {self.name}: tests of “{paper}”"

    @property
    def licence(self) -> str:
        """SPDX identifier of the licence of the results."""
        return self.publication["licence"]

    @property
    def paper(self) -> Mapping[str, Any]:
        """The paper whose claims are tested, as CITATION.cff has it."""
        return self.citation["references"][0]

    @property
    def software(self) -> str:
        """Name and version of the workflow."""
        return f"{self.citation['title'].partition(':')[0]} {self.citation['version']}"

    @property
    def corpora(self) -> list[Mapping[str, Any]]:
        """Every corpus that was read: the study's, and those of single data that a model is trained on."""
        pretraining = self.config["pretraining"]
        trained_on = {run["data"] for run in pretraining["runs"]}
        separate = [data["corpus"] for data in pretraining["data"] if data["name"] in trained_on and data.get("corpus")]
        return [self.config["corpus"], *separate] if self.documents else separate

    def of_role(self, role: str) -> list[Mapping[str, Any]]:
        """Models of a role: pretrained, random or trained."""
        return [model for model in self.models if model["role"] == role]
