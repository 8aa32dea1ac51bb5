"""Faults that a study must survive: runs and jobs that are killed, files that are damaged, disks that are full.

A *trial* does one fault to a copy of the tiny study, lets a user go on as the messages and the documentation say, and compares the
result with that of a study to which nothing was done. ``benchmarks/faults.py`` makes hundreds of trials, the tests a few.
"""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import psutil
import pyarrow.parquet as pq

from tiny_study import Project, wait_until

# ---- what a study holds


def is_product(path: Path) -> bool:
    """Whether a file of ``results/``, by its path there, is the same after every run: no record of one, and nothing half-made."""
    recorded = {"logs", "benchmarks"} & set(path.parts[:-1])
    hidden = any(part.startswith(".") for part in path.parts)
    return not (recorded or hidden or path.name in ("timing.parquet", "pretraining_timing.parquet", "index.html"))


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def products(project: Project) -> dict[str, str]:
    """Path of every product in the project → its sha256, see :func:`is_product`.

    Without what edits are recognised by, which differs after every edit of the code they are made with: ``made_from.json``, and the
    manifests that list it. The tables beside it are compared themselves.
    """
    results = project.folder / "results"
    return {
        f"results/{place}": _digest(results / place)
        for place in sorted(path.relative_to(results) for path in results.rglob("*") if path.is_file())
        if is_product(place) and not _of_code(results / place)
    }


def _of_code(path: Path) -> bool:
    """Whether a file says which code an edit was made with."""
    return path.name == "made_from.json" or (path.name == "manifest.json" and (path.parent / "made_from.json").exists())


def _is_whole(path: Path) -> bool:
    """Whether a file is a whole one of its kind, by its own format."""
    try:
        match path.suffix:
            case ".parquet":
                pq.read_table(path)
            case ".json":
                json.loads(path.read_text())
            case ".svg" | ".html":
                return path.read_text().rstrip().endswith(f"</{path.suffix[1:]}>")
            case ".png":
                return path.read_bytes().endswith(b"IEND\xaeB`\x82")
            case ".safetensors":
                from safetensors import safe_open

                with safe_open(path, framework="np") as tensors:
                    return len(list(tensors.keys())) > 0
            case _:
                return path.stat().st_size > 0
    except Exception:
        return False
    return True


def half_written(project: Project, *known: Mapping[str, str]) -> list[str]:
    """Files under their final names that are neither of a known study nor whole.

    Args:
        known: :func:`products` of studies between which the project may be.
    """
    results = project.folder / "results"
    return [
        place
        for place, digest in products(project).items()
        if all(study.get(place) != digest for study in known) and not _is_whole(project.folder / place)
    ] + [
        str(path.relative_to(project.folder)) for path in results.glob("*/index.html") if not _is_whole(path)
    ]  # fmt: skip


def differences(project: Project, expected: Mapping[str, str]) -> list[str]:
    """Products that a project lacks or has with other bytes than expected; more than expected there may be."""
    made = products(project)
    return [place for place, digest in expected.items() if made.get(place) != digest]


# ---- what a user does


class Lost(Exception):
    """A study that does not come back by what its messages say."""


@dataclass
class Recovery:
    """How a study came back.

    Attributes:
        commands: how many commands it took.
        said: what each of these wrote.
        verified: what ``verify`` wrote, if it was asked.
        deleted: file or folder that was deleted, because a sentence said so → that sentence.
        unlocked: whether ``--unlock`` was asked for.
    """

    commands: int = 0
    said: list[str] = field(default_factory=list)
    verified: list[str] = field(default_factory=list)
    deleted: dict[str, str] = field(default_factory=dict)
    unlocked: bool = False


_DELETE = re.compile(r"([^;]*?); delete (\S+) and run the same command again")
_UNLOCK = ("add --unlock to this command once", "-m snakemake --unlock")


def remedies(said: str) -> dict[str, str]:
    """File or folder that a sentence says to delete → the sentence."""
    text = " ".join(said.split())
    return {named: f"{sentence.rpartition('sinkorigin: ')[2].strip()}" for sentence, named in _DELETE.findall(text)}


REPRODUCE = ("workflow_scripts/reproduce.py",)  # what `make reproduce` starts
SNAKEMAKE = ("-m", "snakemake")


def start(project: Project, *targets: str, program: Sequence[str] = REPRODUCE, output: IO) -> subprocess.Popen:
    """Start a run in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, *program, *project.arguments, *targets],
        cwd=project.folder, env=project.environment(), stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def finish(project: Project, *targets: str, program: Sequence[str] = REPRODUCE, most: int = 8) -> Recovery:
    """Run the same command until it ends well, doing in between what its messages say; after a second refusal ``verify`` names all damage.

    Raises:
        Lost: it does not end well, or fails twice with nothing to do about it.
    """
    recovery, helpless = Recovery(), 0
    while recovery.commands < most:
        status, said = run(project, *targets, program=program)
        recovery.commands += 1
        recovery.said.append(said)
        if status == 0:
            return recovery
        found = remedies(said)
        if any(sentence in " ".join(said.split()) for sentence in _UNLOCK):
            recovery.unlocked = True
            run(project, "--unlock", program=SNAKEMAKE)
        elif found:
            delete(project, found)
            if recovery.deleted:
                recovery.verified.append(run(project, "verify", program=SNAKEMAKE)[1])
                delete(project, remedies(recovery.verified[-1]))
            recovery.deleted |= found
        else:
            helpless += 1
            if helpless == 2:
                break
    raise Lost(recovery.said[-1][-2000:])


def delete(project: Project, named: Iterable[str]) -> None:
    """Delete what sentences name."""
    for path in named:
        place = project.folder / path
        shutil.rmtree(place, ignore_errors=True) if place.is_dir() and not place.is_symlink() else place.unlink(
            missing_ok=True
        )


def run(project: Project, *targets: str, program: Sequence[str] = REPRODUCE) -> tuple[int, str]:
    """Run a study; the status with which that ends, and all that it says."""
    with TemporaryFile("w+") as output:  # not in the project, whose disk may be full
        with start(project, *targets, program=program, output=output) as process:
            process.wait()
        output.seek(0)
        return process.returncode, output.read()


# ---- kills


@dataclass(frozen=True)
class Kill:
    """How a run is killed.

    Attributes:
        signal: name of the signal.
        group: whether every process of the run gets it, as from a terminal; else Snakemake's own only.
        after: seconds from its start.
    """

    signal: str
    group: bool
    after: float


def draw_kill(rng: random.Random, begun: float = 6, longest: float = 20) -> Kill:
    """A kill at a random moment: in seven of ten cases while a run begins, else later, when jobs that take longer have gone on."""
    name = rng.choice(["SIGKILL", "SIGKILL", "SIGTERM", "SIGINT"])
    after = rng.uniform(0.3, begun) if rng.random() < 0.7 else rng.uniform(begun, longest)
    return Kill(name, rng.random() < 0.5, round(after, 1))


def processes_of(project: Project) -> list[psutil.Process]:
    """Processes that work for a checkout."""
    return [
        process
        for process in psutil.process_iter(["cwd", "pid"])
        if process.info["cwd"] == str(project.folder) and process.info["pid"] != os.getpid()
    ]


def killed(project: Project, kill: Kill, *targets: str, program: Sequence[str] = REPRODUCE) -> bool:
    """Start a run and kill it; False where it ended well before."""
    with TemporaryFile() as output, start(project, *targets, program=program, output=output) as process:
        with suppress(subprocess.TimeoutExpired):
            process.wait(kill.after)
        if process.returncode is None:
            number = signal.Signals[kill.signal]
            os.killpg(process.pid, number) if kill.group else process.send_signal(number)
            process.wait(120)
    return process.returncode != 0


class JobKiller(threading.Thread):
    """Kills processes of jobs at random moments while a run goes on.

    Attributes:
        killed: seconds from the start, and the script, of each that was killed.
    """

    def __init__(self, project: Project, rng: random.Random, longest: float, most: int):
        super().__init__(daemon=True)
        self.killed: list[tuple[float, str]] = []
        self._scripts = re.compile(rf"{re.escape(str(project.folder))}/\.snakemake/scripts/tmp\w+\.(\w+)\.py$")
        self._rng, self._longest, self._most = rng, longest, most
        self._ended = threading.Event()

    def run(self) -> None:
        began = time.monotonic()
        while len(self.killed) < self._most and not self._ended.wait(self._rng.uniform(0.1, self._longest)):
            found = [
                (process, match[1])
                for process in psutil.process_iter(["cmdline"])
                if (match := self._scripts.match((process.info["cmdline"] or [""])[-1]))
            ]
            if found:
                process, script = self._rng.choice(found)
                with suppress(psutil.Error):
                    process.kill()
                    self.killed.append((round(time.monotonic() - began, 1), script))

    def __enter__(self) -> "JobKiller":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        self.join()


def run_with_killed_jobs(
    project: Project, rng: random.Random, *targets: str, longest: float = 2, most: int = 6
) -> list[tuple[float, str]]:
    """Run a study while processes of its jobs are killed; when and which."""
    with JobKiller(project, rng, longest, most) as killer:
        run(project, *targets, program=REPRODUCE)
    return killer.killed


# ---- damage


def _truncate(path: Path, rng: random.Random, _) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def _flip(path: Path, rng: random.Random, _) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _zero(path: Path, rng: random.Random, _) -> None:
    content = bytearray(path.read_bytes())
    begin = rng.randrange(len(content)) // 512 * 512
    length = len(content[begin : begin + 4096])
    content[begin : begin + length] = bytes(length)
    path.write_bytes(content)


def _empty(path: Path, *_) -> None:
    path.write_bytes(b"")


def _remove(path: Path, *_) -> None:
    path.unlink()


def _replace(path: Path, rng: random.Random, others: Sequence[Path]) -> None:
    content = path.read_bytes()
    different = [other.read_bytes() for other in rng.sample(others, min(9, len(others)))]
    path.write_bytes(next(found for found in different if found != content))


DAMAGES: dict[str, Callable[[Path, random.Random, Sequence[Path]], None]] = {
    "truncated": _truncate,
    "a bit flipped": _flip,
    "a block zeroed": _zero,
    "emptied": _empty,
    "deleted": _remove,
    "replaced by another of its kind": _replace,
}


@dataclass(frozen=True)
class Damage:
    """One damage to one file of a project.

    Attributes:
        file: path in the project.
        kind: kind of the file, see :func:`kind_of`.
        how: key of ``DAMAGES``.
        kept_time: whether the file keeps its time of modification, as it does when a disk is at fault.
    """

    file: str
    kind: str
    how: str
    kept_time: bool


def kind_of(file: str) -> str | None:
    """Kind of a file, by its path in the project; None for one that no campaign damages."""
    path = Path(file)
    if path.parts[0] in ("tiny_model", "text"):
        return {"tiny_model": "model of the user", "text": "text of the user"}[path.parts[0]]
    if path.parts[0] == ".snakemake":
        return "record of Snakemake" if path.parts[1] in ("metadata", "parsed_code.json") else None
    if path.parts[0] != "results" or any(part.startswith(".") for part in path.parts):
        return None
    if "logs" in path.parts:
        return "log"
    if "benchmarks" in path.parts:
        return "time and memory of a job"
    kinds = {
        ".parquet": "table", ".safetensors": "weights", ".svg": "figure", ".png": "figure", ".html": "page", ".bin": "tokens",
    }  # fmt: skip
    if path.suffix == ".json":
        return (
            "manifest or JSON of a job"
            if path.name in ("manifest.json", "interventions.json") or "model" not in file
            else "config or tokenizer of a model"
        )
    return kinds.get(path.suffix, "text file")


def level_of(file: str) -> str | None:
    """Part of a study that a file belongs to: what lies in one part is not made of each other's files, or only a little."""
    if kind_of(file) is None:
        return None
    parts = Path(file).parts
    if parts[0] != "results":
        return {"tiny_model": "inputs", "text": "inputs", ".snakemake": "records"}[parts[0]]
    if {"logs", "benchmarks"} & set(parts):
        return "logs"
    if parts[1] == "models":
        return "models"
    below = parts[2]
    if below in ("corpus", "prompts", "provenance") or parts[2:4] == ("pretraining", "data"):
        return "prompts and tokens"
    if below in ("activations", "attention", "weights"):
        return "activations"
    if below in ("pretraining", "statistics", "interventions"):
        return below
    return "claims and figures"


def files_by_level(project: Project) -> dict[str, list[str]]:
    """Level → paths of the files there that a campaign may damage."""
    found: dict[str, list[str]] = {}
    for place in ("results", "tiny_model", "text", ".snakemake/metadata", ".snakemake/parsed_code.json"):
        root = project.folder / place
        for path in sorted([root] if root.is_file() else root.rglob("*")):
            file = path.relative_to(project.folder).as_posix()
            if path.is_file() and path.stat().st_size and (level := level_of(file)):
                found.setdefault(level, []).append(file)
    return found


def draw_damages(project: Project, rng: random.Random, files: Sequence[str], number: int) -> list[Damage]:
    """Damage so many files at random, every kind of file as often, and at most two files of a directory with a manifest."""
    by_kind: dict[str, list[str]] = {}
    for file in files:
        by_kind.setdefault(kind_of(file), []).append(file)
    done: list[Damage] = []
    taken: Counter[Path] = Counter()
    for _ in range(20 * number):
        file = rng.choice(by_kind[rng.choice(sorted(by_kind))])
        whole = _whole_of(project.folder, Path(file))
        if taken[whole] >= 2 or any(damage.file == file for damage in done):
            continue
        how, kept_time = rng.choice(sorted(DAMAGES)), rng.random() < 0.5
        others = [
            project.folder / other
            for other in by_kind[kind_of(file)]
            # one may have been deleted here
            if Path(other).suffix == Path(file).suffix and other != file and (project.folder / other).is_file()
        ]
        path = project.folder / file
        times = path.stat()
        before = path.read_bytes()
        try:
            DAMAGES[how](path, rng, others)
        except (StopIteration, ValueError):
            continue
        if path.exists() and path.read_bytes() == before:  # zeros where zeros were
            continue
        if kept_time and path.exists():
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        taken[whole] += 1
        done.append(Damage(file, kind_of(file), how, kept_time and how != "deleted"))
        if len(done) == number:
            break
    return done


def _whole_of(folder: Path, file: Path) -> Path:
    """What is made as a whole around a file: the nearest directory with a manifest, else the file."""
    lists = ("manifest.json", "interventions.json")
    return next((parent for parent in file.parents if any((folder / parent / name).is_file() for name in lists)), file)


def output_of_record(file: str) -> str:
    """The output that a record of Snakemake is about, by the record's name."""
    name = "".join(part.removeprefix("@") for part in Path(file).parts[2:])
    with suppress(ValueError):
        return urlsafe_b64decode(name).decode(errors="replace")
    return file


REBUILT, REFUSED, FOUND, HARMLESS, AS_EDIT = "rebuilt", "refused", "found", "harmless", "taken as an edit"
LOST, OTHER = "lost", "silently other"


def outcomes(project: Project, damages: Sequence[Damage], expected: Mapping[str, str]) -> list[tuple[Damage, str, str]]:
    """Let a user go on after damage, and tell what became of each: run, do what the messages say, verify, and compare.

    Returns:
        Each damage with its outcome, and the sentence that named the file or what else there is to say of it.
    """
    named: dict[str, tuple[str, str]] = {}  # file → outcome, sentence

    def note(outcome: str, sentences: Mapping[str, str]) -> None:
        for damage in damages:
            for sentence in sentences.values():
                if damage.file in (word.rstrip(",;:") for word in sentence.split()):
                    named.setdefault(damage.file, (outcome, sentence))

    damaged = {damage.file: _digest(project.folder / damage.file) for damage in damages}
    try:
        first = finish(project)
        for said in first.said:
            note(REFUSED, remedies(said))
        for said in first.verified:
            note(FOUND, remedies(said))
        rebuilt = {
            file
            for file, digest in damaged.items()
            if (now := _digest(project.folder / file)) not in (None, digest) and expected.get(file, now) == now
        }
        for _ in range(5):
            status, said = run(project, "verify", program=SNAKEMAKE)
            if status == 0:
                break
            found = remedies(said)
            note(FOUND, found)
            delete(project, found)
            finish(project)
        else:
            raise Lost(f"verify does not pass: {said[-1500:]}")
    except Lost as error:
        return [(damage, LOST, str(error)) for damage in damages]
    other = differences(project, expected)
    told = []
    for damage in damages:
        file = output_of_record(damage.file) if damage.kind == "record of Snakemake" else damage.file
        if file in other:
            told.append((damage, OTHER, f"{len(other)} products differ, {file} among them"))
        elif damage.file in named:
            told.append((damage, *named[damage.file]))
        elif damage.file in rebuilt:
            told.append((damage, REBUILT, ""))
        elif damage.file in expected:
            told.append((damage, REBUILT, "with what it belongs to"))
        else:
            told.append((damage, HARMLESS, ""))
    blamed = {file for damage, outcome, _ in told if outcome == OTHER for file in [damage.file]}
    if other and not blamed:  # nobody knows by which
        return [(damage, OTHER, f"{other[:5]} differ") for damage in damages]
    return told


# ---- full disks


def room_left(folder: Path, kilobytes: int) -> Path:
    """Fill the file system of a folder until so many kilobytes are free; the file that fills it."""
    filler = folder / "filler"
    free = os.statvfs(folder)
    with filler.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, max(1, free.f_bavail * free.f_frsize - kilobytes * 1024))
    return filler


def run_on_full_disk(project: Project, disk: Path, kilobytes: int, after: float, *targets: str) -> tuple[int, str]:
    """Run a study whose disk has no more room than so many kilobytes from a moment on; as :func:`run`, and with room again afterwards.

    Args:
        after: seconds from the start of the run.
    """
    with TemporaryFile("w+") as output:
        filler = room_left(disk, kilobytes) if not after else None
        with start(project, *targets, output=output) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(after or None)
            filler = filler or room_left(disk, kilobytes)
            process.wait()
        filler.unlink()
        output.seek(0)
        return process.returncode, output.read()


def ends_with_a_sentence(said: str) -> bool:
    """Whether the last that a run says is a sentence of the project, and no traceback."""
    return said.rfind("sinkorigin: ") > said.rfind("Traceback (most recent call last)")


def orphans_end(project: Project, seconds: float = 10) -> bool:
    """Whether every process of a killed run ends by itself within so many seconds."""
    return wait_until(lambda: not processes_of(project), seconds)
