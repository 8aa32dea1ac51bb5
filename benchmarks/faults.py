"""Campaigns of faults on a tiny study: runs and jobs killed, files damaged, disks full; what became of each.

    python benchmarks/faults.py [--seed 0] [--minutes 5] [--folder results/faults]

The study is a part of that of the tests in which every rule has a job. It is made first, twice killed or not, in ``work`` of the folder; then
come the rounds of the plan below, each with draws of its own seed, whose trials are appended to ``trials.jsonl`` there when the round is over.
The same command goes on with the rounds that are not there yet. docs/update_faults.py makes the page of it: ``make faults`` does both.
"""

import argparse
import copy
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import fault_trials
from tiny_study import TINY, Project, checkout, write_model, write_text

STUDY = "results/tiny"
Apply = Callable[[Project], None]

# ---- edits after which a run is killed, or that let jobs read what was damaged


def module(path: str) -> Apply:
    """Change a module so that all that it makes is made again, to the same bytes."""

    def apply(project: Project) -> None:
        with (project.folder / "src/sinkorigin" / path).open("a") as file:
            file.write(f"\n_CHANGED = {time.time_ns()}\n")

    return apply


def setting(change: Callable[[dict], object]) -> Apply:
    """Change the config, and so the tables."""

    def apply(project: Project) -> None:
        file = project.folder / "tiny.yaml"
        config = yaml.safe_load(file.read_text())
        change(config)
        file.write_text(yaml.safe_dump(config, sort_keys=False))

    return apply


EPSILON, EVERYTHING = "ε in the config", "every module"
EDITS: dict[str, Apply] = {
    EVERYTHING: module("errors.py"),
    "module of a statistic": module("statistics/sinks.py"),
    EPSILON: setting(lambda config: config["statistics"].update(epsilons=[0.1])),
}
CHANGING = {EPSILON}  # the tables are other ones then
READERS = {  # level of what is damaged → module whose edit lets jobs read it
    "activations": "statistics/norms.py",
    "statistics": "claims/judging.py",
    "interventions": "statistics/effects.py",
    "pretraining": "statistics/pretraining.py",
    "claims and figures": "page/page.py",
    "prompts and tokens": "activations/pipeline.py",
    "models": "statistics/weights.py",
}  # fmt: skip


# ---- the plan: rounds of a campaign


@dataclass(frozen=True)
class Round:
    """Some trials that share runs.

    Attributes:
        campaign: "runs", "jobs", "damages", "inputs" or "disks".
        subject: the edit, or the level of what is damaged.
        number: which of the rounds with these.
        trials: how many are wanted.
    """

    campaign: str
    subject: str
    number: int
    trials: int

    @property
    def name(self) -> str:
        return f"{self.campaign}/{self.subject}/{self.number}"


FIRST = "first run"
PLAN = [
    ("runs", FIRST, 12, 10), ("runs", EVERYTHING, 4, 10), ("runs", "module of a statistic", 1, 10), ("runs", EPSILON, 1, 10),
    ("jobs", FIRST, 2, 12), ("jobs", EVERYTHING, 2, 12), ("jobs", "module of a statistic", 1, 8), ("jobs", EPSILON, 1, 8),
    ("damages", "claims and figures", 3, 16), ("damages", "statistics", 4, 15), ("damages", "records", 3, 20), ("damages", "logs", 1, 20),
    ("damages", "interventions", 2, 6), ("damages", "activations", 2, 6), ("damages", "pretraining", 2, 6),
    ("damages", "prompts and tokens", 2, 4), ("damages", "models", 1, 4), ("inputs", "inputs", 5, 2), ("disks", EVERYTHING, 8, 1),
]  # fmt: skip


def rounds() -> list[Round]:
    """All rounds, those of different kinds after each other, so that a part of the campaign has some of every kind."""
    found = [
        Round(campaign, subject, number, trials) for campaign, subject, count, trials in PLAN for number in range(count)
    ]
    return sorted(found, key=lambda one: one.number)


# ---- one campaign


class Campaign:
    """The folder of a campaign: the studies that its trials copy, and what it has found."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.seed = folder.absolute(), seed
        self.work = self.folder / "work"
        self.trials = self.folder / "trials.jsonl"

    def done(self) -> set[str]:
        """Names of the rounds that are over."""
        rows = map(json.loads, self.trials.read_text().splitlines()) if self.trials.is_file() else ()
        return {row["round"] for row in rows if row["seed"] == self.seed and "seconds" in row}

    def record(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows; a round is over with its last one, which has its seconds."""
        with self.trials.open("a") as file:
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    # -- studies to copy

    def fresh(self) -> Project:
        """The study before its first run."""

        def make(folder: Path) -> None:
            project = checkout(folder)
            write_text(folder / "text")
            write_model(folder / "tiny_model", folder / "text")
            config = copy.deepcopy(TINY)
            config["models"] = [config["models"][0] | {"control": False, "prompts": ["random_tokens"]}]
            config["pretraining"]["runs"] = config["pretraining"]["runs"][::2]
            project.write_config(config)

        return self._made("fresh", make)

    def finished(self) -> Project:
        """The study after its run."""

        def make(folder: Path) -> None:
            copied(self.fresh(), folder)
            undisturbed(Project(folder))

        return self._made("finished", make)

    def expected(self, edit: str | None = None) -> dict[str, str]:
        """Products of an undisturbed study, after an edit that changes them if one is named."""
        name = edit if edit in CHANGING else "unedited"
        file = self.work / f"products of {name}.json"
        self.work.mkdir(parents=True, exist_ok=True)
        with FileLock(self.work / f"{name}.lock"):  # several processes may share a folder
            if not file.is_file():
                found = fault_trials.products(self._undisturbed(edit) if edit in CHANGING else self.finished())
                assert edit not in CHANGING or found != self.expected(), f"{edit} changes nothing"
                partial = file.with_suffix(".partial")
                partial.write_text(json.dumps(found, indent=1))
                partial.rename(file)
        return json.loads(file.read_text())

    def _undisturbed(self, edit: str) -> Project:
        project = copied(self.finished(), self.work / "undisturbed")
        EDITS[edit](project)
        undisturbed(project)
        return project

    def _made(self, name: str, make: Callable[[Path], None]) -> Project:
        folder = self.work / name
        if not folder.exists():
            partial = self.work / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            self.work.mkdir(parents=True, exist_ok=True)
            make(partial)
            partial.rename(folder)
        return Project(folder)

    def copy(self, edit: str) -> Project:
        """The study in which a round happens: unfinished for one of a first run, else finished and edited."""
        project = copied(self.fresh() if edit == FIRST else self.finished(), self.work / f"project-{os.getpid()}")
        if edit in EDITS:
            EDITS[edit](project)
        return project

    # -- rounds

    def run(self, one: Round) -> None:
        """Run a round, record its trials, and tell of it."""
        began, spent = time.monotonic(), _processor_seconds()
        rows = self.play(one)
        took = {
            "seconds": round(time.monotonic() - began, 1),
            "processor_seconds": round(_processor_seconds() - spent, 1),
        }
        about = {"seed": self.seed, "round": one.name}
        self.record([*(about | {"campaign": one.campaign} | row for row in rows), about | took])
        print(f"{one.name}: {dict(Counter(row['outcome'] for row in rows))}, {took['seconds']:.0f} s", flush=True)

    def play(self, one: Round) -> list[dict[str, Any]]:
        """The trials of a round, as rows."""
        rng = random.Random(f"{self.seed}/{one.name}")
        return getattr(self, f"_{one.campaign}")(one, rng)

    def _targets(self, one: Round, rng: random.Random) -> list[str]:
        """What a run of everything is asked for: some tables, and what they are made of. The whole study after other edits."""
        if one.subject not in (FIRST, EVERYTHING):
            return []
        expected = self.expected()
        tables = [file for file in expected if file.startswith(f"{STUDY}/statistics/tiny/random_tokens/")]
        return [*rng.sample(tables, 2), rng.choice([f"{STUDY}/pretraining/softmax/seed=0/history.parquet", f"{STUDY}/pretraining/backcopy/seed=0/history.parquet"])]  # fmt: skip

    def _ends(self, project: Project, one: Round, targets: Sequence[str], program: Sequence[str]) -> tuple[str, str]:
        """Outcome of a study after kills, and what there is to say of it: it is finished and compared."""
        try:
            recovery = fault_trials.finish(project, *targets, program=program)
        except fault_trials.Lost as error:
            return fault_trials.LOST, str(error)
        expected = self.expected(one.subject)
        made = fault_trials.products(project)
        other = [file for file in (expected if one.subject != FIRST else made) if made.get(file) != expected.get(file)]
        if other:
            return fault_trials.OTHER, f"{len(other)} products differ: {other[:5]}"
        notes = ["with --unlock"] if recovery.unlocked else []
        notes += [f"deleted {file}" for file in recovery.deleted]
        notes += ["a traceback was shown"] if any("Traceback (most recent" in said for said in recovery.said) else []
        return "survived", "; ".join(notes)

    def _runs(self, one: Round, rng: random.Random) -> list[dict[str, Any]]:
        project, targets = self.copy(one.subject), self._targets(one, rng)
        before, after = self.expected(), self.expected(one.subject)
        program = rng.choice([fault_trials.REPRODUCE, fault_trials.SNAKEMAKE])
        rows = []
        for _ in range(one.trials):
            kill = fault_trials.draw_kill(rng)
            if not fault_trials.killed(project, kill, *targets, program=program):
                break  # it was done before
            row = asdict(kill) | {"edit": one.subject, "outcome": "survived", "note": ""}
            rows.append(row)
            if rng.random() < 0.3:  # else the next run begins at once
                if not fault_trials.orphans_end(project):
                    row |= {"outcome": fault_trials.LOST, "note": "a process of the killed run goes on"}
                elif left := fault_trials.half_written(project, before, after):
                    row |= {"outcome": "half-written", "note": f"{left}"}
            if program is fault_trials.SNAKEMAKE and kill.signal == "SIGKILL":
                fault_trials.run(project, "--unlock", program=program)
        outcome, note = self._ends(project, one, targets, program)
        for row in rows:
            if row["outcome"] == "survived":
                row |= {"outcome": outcome, "note": note}
        return rows

    def _jobs(self, one: Round, rng: random.Random) -> list[dict[str, Any]]:
        project, targets = self.copy(one.subject), self._targets(one, rng)
        rows: list[dict[str, Any]] = []
        while len(rows) < one.trials:
            killed = fault_trials.run_with_killed_jobs(project, rng, *targets, most=min(10, one.trials - len(rows)))
            rows += [
                {"signal": "SIGKILL", "after": after, "script": script, "edit": one.subject} for after, script in killed
            ]
            if not killed:
                break
        outcome, note = self._ends(project, one, targets, fault_trials.REPRODUCE)
        return [row | {"outcome": outcome, "note": note} for row in rows]

    def _damages(self, one: Round, rng: random.Random) -> list[dict[str, Any]]:
        project, expected = self.copy("no edit"), self.expected()
        files = fault_trials.files_by_level(project)[one.subject]
        damages = fault_trials.draw_damages(project, rng, files, one.trials)
        edit = None
        if one.subject == "records":  # which say what a result was made with, and are read after an edit
            edit, expected = EPSILON, self.expected(EPSILON)
            EDITS[EPSILON](project)
        elif one.subject in READERS and one.number % 2:
            edit = READERS[one.subject]
            module(edit)(project)
        found = fault_trials.outcomes(project, damages, expected)
        return [asdict(damage) | {"edit": edit, "outcome": outcome, "note": note} for damage, outcome, note in found]

    def _inputs(self, one: Round, rng: random.Random) -> list[dict[str, Any]]:
        """Damage one file of the user's model and one of the user's text, and fetch both again."""
        project, expected = self.copy("no edit"), self.expected()
        files = fault_trials.files_by_level(project)["inputs"]
        rows = []
        for place, made in (
            ("tiny_model", "results/models/tiny/manifest.json"),
            ("text", f"{STUDY}/corpus/documents.parquet"),
        ):
            original = project.folder / f"{place} before"
            subprocess.run(["cp", "-a", project.folder / place, original], check=True)
            [damage] = fault_trials.draw_damages(project, rng, [file for file in files if file.startswith(place)], 1)
            status, said = fault_trials.run(project, made)
            told = " ".join(said.split())
            if status:
                sentence = told[told.rfind("sinkorigin: ") :]
                fit = "sinkorigin: " in told and (Path(damage.file).name in sentence or place in sentence)
                outcome, note = (fault_trials.REFUSED, sentence) if fit else (fault_trials.LOST, told[-1500:])
            elif fault_trials.differences(project, {made: expected[made]}):
                outcome, note = fault_trials.AS_EDIT, ""
            else:
                outcome, note = (
                    fault_trials.HARMLESS,
                    "not read again: its time is as before" if damage.kept_time else "its text is the same",
                )
            shutil.rmtree(project.folder / place)
            original.rename(project.folder / place)
            for path in (project.folder / place).iterdir():
                path.touch()
            try:
                fault_trials.finish(project, made)
                if fault_trials.differences(project, {made: expected[made]}):
                    outcome, note = fault_trials.OTHER, "the original does not come back"
            except fault_trials.Lost as error:
                outcome, note = fault_trials.LOST, str(error)
            rows.append(asdict(damage) | {"edit": None, "outcome": outcome, "note": note})
        return rows

    def _disks(self, one: Round, rng: random.Random) -> list[dict[str, Any]]:
        room, after = rng.choice([0, 16, 64, 256]), rng.choice([0, *(round(rng.uniform(2, 12), 1) for _ in range(3))])
        with small_disk(self.work / f"disk-{os.getpid()}", 100) as disk:
            project = copied(self.finished(), disk / "project")
            EDITS[EVERYTHING](project)
            expected = self.expected()
            tables = [file for file in expected if file.startswith(f"{STUDY}/statistics/tiny/random_tokens/")]
            targets = [rng.choice(tables), f"{STUDY}/pretraining/backcopy/seed=0/history.parquet"]
            status, said = fault_trials.run_on_full_disk(project, disk, room, after, *targets)
            told = " ".join(said.split())
            left = fault_trials.half_written(project, expected)
            row = {"room": room, "after": after, "edit": one.subject, "note": told[told.rfind("sinkorigin: ") :][:400]}
            if status == 0:
                return [row | {"outcome": "it was enough"}]
            if left:
                return [row | {"outcome": "half-written", "note": f"{left}"}]
            if not fault_trials.ends_with_a_sentence(said):
                return [row | {"outcome": "without a sentence", "note": said[-3000:]}]
            return [row | dict(zip(("outcome", "note"), self._ended_disk(project, targets, row["note"]), strict=True))]

    def _ended_disk(self, project: Project, targets: Sequence[str], note: str) -> tuple[str, str]:
        try:
            fault_trials.finish(project, *targets)
        except fault_trials.Lost as error:
            return fault_trials.LOST, str(error)
        other = fault_trials.differences(project, self.expected())
        return (fault_trials.OTHER, f"{other[:5]} differ") if other else ("survived", note)


def copied(project: Project, folder: Path) -> Project:
    """A copy in place of what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "--reflink=auto", project.folder, folder], check=True)
    return Project(folder)


def undisturbed(project: Project) -> None:
    """Run a study to its end."""
    status, said = fault_trials.run(project)
    if status:
        raise SystemExit(f"the undisturbed study ends with {status}:\n{said}")


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of so many megabytes, in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="begin no round that may not end within so many"
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "faults")
    parser.add_argument("--only", default="", help="rounds whose name begins so")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts this in the background ignores it
    campaign = Campaign(arguments.folder, arguments.seed)
    end = time.monotonic() + 60 * arguments.minutes
    campaign.expected()
    longest = 0.0
    for one in rounds():
        began = time.monotonic()
        if began + longest > end:
            break
        if one.name.startswith(arguments.only):
            with suppress(Timeout), FileLock(campaign.work / f"{one.name.replace('/', ' ')}.lock", timeout=0):
                if one.name not in campaign.done():
                    campaign.run(one)
        longest = max(longest, time.monotonic() - began)
    left = [one for one in rounds() if one.name not in campaign.done()]
    print(
        f"{len(left)} rounds are left; the same command goes on" if left else f"all rounds are done: {campaign.trials}"
    )


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
