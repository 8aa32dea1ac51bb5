"""What the page is told of a study beside its tables: models, prompts, files, and what its jobs recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class PromptSet:
    """Prompts that models read.

    Attributes:
        name: of the prompt set.
        text: what it is, in words.
    """

    name: str
    text: str


@dataclass(frozen=True)
class TableMaker:
    """Where a table comes from.

    Attributes:
        rule: name of the rule that makes it.
        file: file of the rule, in the repository.
        module: file of the code that computes it, in the repository.
    """

    rule: str
    file: str
    module: str


@dataclass(frozen=True)
class RunRecord:
    """What the logs of a study say of its jobs. It may differ between two runs of the same study.

    Attributes:
        jobs: number of logs of finished jobs.
        seconds: that these jobs took, one after the other.
        memory, gpu_memory: the largest peak, MB.
        began, ended: first and last time at which a job began, "2026-11-29 13:08 UTC"; None where no log has it.
        machines: what the jobs ran on.
        other_code: rule → number of its jobs whose log has another version of the code than the page's.
    """

    jobs: int = 0
    seconds: float = 0.0
    memory: float = 0.0
    gpu_memory: float = 0.0
    began: str | None = None
    ended: str | None = None
    machines: Sequence[str] = ()
    other_code: Mapping[str, int] = field(default_factory=dict)

    @property
    def period(self) -> str:
        """When the jobs ran."""
        if self.began is None or self.ended is None:
            return "not recorded"
        same_day = self.began[:10] == self.ended[:10]
        return f"{self.began.removesuffix(' UTC')} to {self.ended[11:] if same_day else self.ended}"

    @property
    def hardware(self) -> str:
        """What the jobs ran on."""
        return "; ".join(self.machines) or "not recorded"

    @property
    def effort(self) -> str:
        """What the jobs took."""
        if not self.jobs:
            return "not recorded"
        minutes = self.seconds / 60
        time = (
            f"{minutes / 60:.1f} hours"
            if minutes > 180
            else f"{minutes:.0f} minutes"
            if minutes > 3
            else f"{self.seconds:.0f} seconds"
        )
        gpu = f" and {self.gpu_memory / 1024:.1f} GB of a GPU" if self.gpu_memory else ""
        return f"{self.jobs:,} jobs, {time} one after the other; at most {self.memory / 1024:.1f} GB of memory{gpu}"


@dataclass(frozen=True)
class FigureFile:
    """A figure of the study.

    Attributes:
        name: of the figure.
        path: its file, or None where it has none that a page can show.
        other: names of its other files, beside the page in ``figures/``.
        caption: its caption, reStructuredText, or what it shows in a line.
    """

    name: str
    path: str | None
    other: Sequence[str]
    caption: str


@dataclass(frozen=True)
class StudyFacts:
    """What the page tells of a study beside its tables.

    Attributes:
        name: of the study.
        version: of sinkorigin.
        models: name, label, role and, of fetched models, source and licence.
        prompts: prompt sets.
        trainings: a sentence on the models trained here, or "".
        record: what the logs of its jobs say.
        missing, undrawn: what the study lacks because jobs failed, as :func:`sinkorigin.claims.judging.judge` takes it with the
            log of each, and figures, likewise.
        older: table → columns that it lacks, because another version wrote it.
        makers: name of a table → what makes it.
        repository: address of the repository with "/blob/…" to which paths are added; "" where none is known.
    """

    name: str
    version: str
    models: Sequence[Mapping[str, Any]]
    prompts: Sequence[PromptSet]
    trainings: str = ""
    record: RunRecord = field(default_factory=RunRecord)
    missing: Sequence[Mapping] = ()
    undrawn: Sequence[Mapping] = ()
    older: Mapping[str, Sequence[str]] = field(default_factory=dict)
    makers: Mapping[str, TableMaker] = field(default_factory=dict)
    repository: str = ""
