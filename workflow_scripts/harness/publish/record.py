"""The record of a finished study: its files with their hashes, and which job made each from which, by seals and logs."""

import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq

from harness.job import Record
from sinkorigin.tables import MANIFEST, SEALED, file_hash, place_of, read_json

# Beginning of a place → the word of the config's ``publish.large_files`` that takes its files in; all other files are always taken in.
_LARGE = {
    r"activations/": "activations",
    r"attention/": "activations",
    r"interventions/": "activations",
    r"corpus/": "texts",
    r"prompts/": "texts",
    r"pretraining/data/[^/]+/(documents|tokens|prompts)": "texts",
    r"pretraining/[^/]+/seed=[^/]+/(model|checkpoints)/": "weights",
}
_INPUTS = b"sinkorigin.inputs"  # key of a table's metadata under which its seal names what it was made from: sinkorigin.tables
_CODE = re.compile(r"^code in .+, version (\w+)$", re.MULTILINE)
_BEGAN = re.compile(r"^began (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC on (.+)$", re.MULTILINE)
_GPUS = re.compile(r"^used GPU (.+)$", re.MULTILINE)
# Of models that were fetched, whose files are never taken in: who wants them gets them where this study did.
_FETCHED = "models/"
# Table that the page of a study links to; it holds means of at most 64 positions, and is small.
_LINKED = "attention_map.parquet"


@dataclass(frozen=True)
class StudyFile:
    """A file of a study.

    Attributes:
        place: its path below ``results/{study}``, or from ``models`` on.
        path: where it lies.
        bytes, sha256: size and hash.
        large: word of ``publish.large_files`` that takes it in; "fetched" of a fetched model's, which nothing takes in; None of all others.
    """

    place: str
    path: Path
    bytes: int
    sha256: str
    large: str | None


@dataclass(frozen=True)
class Job:
    """A job of a study.

    Attributes:
        name: rule and wildcards, as in the path of its log: ``compute_sinks/smollm2-135m/random_tokens``.
        inputs, outputs: places of what it read and made.
        code: version of its code.
        start, end: when it ran; None where its log does not say.
        taken: what it took; None likewise.
        machine: kind of machine that it ran on, with its GPUs if it used some; None where its log does not say.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    code: str | None
    start: datetime | None
    end: datetime | None
    taken: Record | None
    machine: str | None

    @property
    def rule(self) -> str:
        """Name of its rule."""
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class StudyRecord:
    """Files and jobs of a study, each in the order of their names."""

    files: tuple[StudyFile, ...]
    jobs: tuple[Job, ...]

    @property
    def end(self) -> datetime | None:
        """When the last job ended."""
        return max((job.end for job in self.jobs if job.end is not None), default=None)

    @property
    def start(self) -> datetime | None:
        """When the first job began."""
        return min((job.start for job in self.jobs if job.start is not None), default=None)


def large(place: str) -> str | None:
    """What takes a file in, see :class:`StudyFile`. Manifests and provenance are small, and say what is left out."""
    name = Path(place).name
    if name in (MANIFEST, _LINKED) or name.endswith(("provenance.json", "interventions.json")):
        return None
    if place.startswith(_FETCHED):
        return "fetched"
    return next((word for pattern, word in _LARGE.items() if re.match(pattern, place)), None)


def read_record(
    logs: Mapping[str, str | None], further_inputs: Mapping[str, Iterable[str]], threads: int
) -> StudyRecord:
    """Read a study's record.

    Args:
        logs: file → log of the job that made it; of a directory, its manifest.
        further_inputs: rule → files that it reads; they count where its outputs carry no seal, which would name them.
        threads: that compute hashes.
    """
    paths = {path: Path(path) for path in logs}
    with ThreadPoolExecutor(threads) as pool:
        hashes = dict(zip(paths, pool.map(file_hash, paths), strict=True))
    files = {
        place_of(path): StudyFile(place_of(path), where, where.stat().st_size, hashes[path], large(place_of(path)))
        for path, where in paths.items()
    }
    for where in paths.values():
        if where.suffix == ".json" and "files" in (facts := read_json(where)):
            for name, entry in facts["files"].items():
                place = place_of(where.parent / name)
                files.setdefault(
                    place, StudyFile(place, where.parent / name, entry["bytes"], entry["sha256"], large(place))
                )
    by_log: dict[str, list[str]] = {}
    for path, log in logs.items():
        if log is not None:
            by_log.setdefault(log, []).append(path)
    jobs = [_job(log, outputs, further_inputs) for log, outputs in by_log.items()]
    return StudyRecord(tuple(files[place] for place in sorted(files)), tuple(sorted(jobs, key=lambda job: job.name)))


def _inputs(path: Path) -> Iterable[str]:
    """Places of what a file with a seal was made from; the seal itself was verified before."""
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))["seal"]["inputs"]
    return json.loads(pq.read_metadata(path).metadata[_INPUTS])


def job_of(log: str) -> str:
    """Name of the job whose log this is: ``results/{study}/logs/{name}.log``; a model may be called logs too."""
    found = re.search(r"(?:^|/)results/(?:[^/]+/)?logs/(.+)\.log$", log)
    return found[1] if found else Path(log).stem


def _job(log: str, outputs: list[str], further_inputs: Mapping[str, Iterable[str]]) -> Job:
    name = job_of(log)
    sealed = [path for path in outputs if Path(path).suffix in SEALED]
    inputs = {place for path in sealed for place in _inputs(Path(path))}
    if not sealed:
        inputs = {
            place_of(path) for path in further_inputs.get(name.partition("/")[0], []) if Path(path).suffix in SEALED
        }
    text = Path(log).read_text(encoding="utf-8", errors="replace") if Path(log).is_file() else ""
    version, began, gpus = (pattern.search(text) for pattern in (_CODE, _BEGAN, _GPUS))
    taken, end, start = Record.read(log), None, None
    if taken is not None:
        # the log of an older version does not say when its job began, only how long it took before its last line was written
        length = timedelta(seconds=taken.seconds)
        written = datetime.fromtimestamp(Path(log).stat().st_mtime, UTC)
        start = datetime.strptime(began[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) if began else written - length
        end = start + length
    machine = ", ".join([began[2], *([gpus[1]] if gpus else [])]) if began else None
    return Job(
        name,
        tuple(sorted(inputs)),
        tuple(sorted(map(place_of, outputs))),
        version[1] if version else None,
        start,
        end,
        taken,
        machine,
    )
