"""What a run that failed left unmade, and which job is to blame for each file."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness.job import Record

VARIABLE = "SINKORIGIN_MISSING"  # environment variable: file of what is missing, in the pass that makes the rest


@dataclass(frozen=True)
class Failure:
    """A job that failed.

    Attributes:
        rule, wildcards: which job it is.
        sentence: what went wrong, in one sentence.
        log: its log.
    """

    rule: str
    wildcards: Mapping[str, str]
    sentence: str
    log: str

    @classmethod
    def of_job(cls, rule: str, wildcards: Mapping[str, str], log: str) -> "Failure":
        """The failure of a job, as far as its log tells it."""
        return cls(rule, wildcards, reason(log) or f"{job_name(rule, wildcards)} ended without a word", log)


@dataclass(frozen=True)
class Missing:
    """What is missing in a study.

    Attributes:
        failures: the jobs that failed.
        files: file that was not made, or is out of date → place in ``failures`` of the job that it needs.
        remade: those of the files that are made of what is there.
    """

    failures: list[Failure] = field(default_factory=list)
    files: Mapping[str, int] = field(default_factory=dict)
    remade: list[str] = field(default_factory=list)

    @classmethod
    def read(cls) -> "Missing":
        """What this process is to make claims and figures without: nothing, but in the pass after a failed run."""
        if VARIABLE not in os.environ:
            return cls()
        written = json.loads(Path(os.environ[VARIABLE]).read_text())
        return cls(**written | {"failures": [Failure(**failure) for failure in written["failures"]]})

    def write(self, path: Path) -> None:
        """Write it for :meth:`read`."""
        path.write_text(json.dumps(asdict(self)))

    def lacks(self, file: str) -> bool:
        """Whether there is no such file, and none made of what is there."""
        return file in self.files and file not in self.remade

    def without(self, files: Iterable[str]) -> list[str]:
        """Those of these files that are there."""
        return [file for file in files if not self.lacks(file)]

    def parts(self, folder: str) -> list[dict[str, str | None]]:
        """What is missing of models and trainings, for the claims.

        Args:
            folder: of the study's results.

        Returns:
            ``model`` and ``prompts`` (null: of a training, or of all prompt sets), ``what`` is missing (null: everything), and the
            ``sentence`` and ``log`` of the failure that is to blame.
        """
        found: dict[tuple[str | None, str | None], dict[str, int]] = {}
        for file, place in self.files.items():
            if file in self.remade:
                continue
            model, prompts, what = _part(Path(file.removeprefix(f"{folder}/")).parts)
            if what is not None:
                found.setdefault((model, prompts), {})[what] = place
        parts: list[dict[str, str | None]] = []
        without_anything = {model for (model, _), whats in found.items() if "" in whats}
        for (model, prompts), whats in found.items():
            if prompts is None and model in without_anything:  # what is of all its prompt sets
                continue
            everything = {"": whats[""]} if "" in whats else whats
            for place in sorted({*everything.values()}):
                names = [what for what, blamed in everything.items() if blamed == place]
                failure = self.failures[place]
                parts.append(
                    {"model": model, "prompts": prompts, "what": ", ".join(names) or None, "sentence": failure.sentence, "log": failure.log}
                )  # fmt: skip
        return parts

    def undrawn(self, files: Iterable[str]) -> list[dict[str, str]]:
        """Figures that are not made without what is missing: ``figure``, and ``sentence`` and ``log`` of the failure to blame.

        Args:
            files: of the figures that a study has.
        """
        found = {}
        for file in sorted(files):
            place = self.files.get(file)
            if place is not None and self.lacks(file):
                failure = self.failures[place]
                found[Path(file).stem] = {"figure": Path(file).stem, "sentence": failure.sentence, "log": failure.log}
        return list(found.values())


def _part(place: tuple[str, ...]) -> tuple[str | None, str | None, str | None]:
    """Model, prompt set and words for a missing file, by its path below the study's folder; "" stands for everything."""
    match place:
        case ("attention", model, prompts, _):  # without them there is no statistic
            return model, prompts, ""
        case ("statistics", "training", run, "manifest.json"):
            return None, None, f"the statistics over the trainings of {run}"
        case ("statistics", model, table) if table.endswith(".parquet"):
            return model, None, Path(table).stem
        case ("statistics", model, prompts, table):
            return model, prompts, Path(table).stem
        case ("pretraining", run, seed, "history.parquet"):
            return None, None, f"the training of {run} with {seed.replace('=', ' ')}"
        case ("statistics", "pretraining_comparison.parquet"):
            return None, None, "the comparison of trainings"
        case ("claims.parquet",):
            return None, None, "the claims"
    return None, None, None


def job_name(rule: str, wildcards: Mapping[str, str]) -> str:
    """What a job is called in messages."""
    which = ", ".join(f"{name} {value}" for name, value in wildcards.items())
    return f"rule {rule}{which and f' ({which})'}"


def reason(log: str | Path) -> str | None:
    """The sentence with which a failed job ended, by its log; None where there is none, because it was killed for instance."""
    path = Path(log)
    # a log that ends with a record is that of an earlier job: this one was stopped before it began its own
    if not path.is_file() or Record.read(path) is not None:
        return None
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    # it may stand behind a progress bar
    sentences = [line.partition("sinkorigin: ")[2] for line in lines if "sinkorigin: " in line]
    if sentences:
        return sentences[-1]
    unexpected = any(line.startswith("Traceback ") for line in lines)
    return f"an unexpected {lines[-1]}" if unexpected else None
