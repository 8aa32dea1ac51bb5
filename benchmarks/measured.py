"""Timing of things that are compared, and what a benchmark measured as JSON: ``--json PATH`` of each of them.

The file has a line for every number: its name, what was measured (``numerator``), what that is held against (``denominator``),
the ``ratio`` of the two, the ``unit`` of both, in how many ``rounds``, and the ``bar`` that the ratio is to stay under.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A number of a benchmark.

    Attributes:
        name: what was measured, and against what.
        numerator: the measured one, in ``unit``; the median of the rounds where there are several.
        denominator: what it is held against; None where it is held against nothing.
        ratio: median over rounds of the ratio of the two; None without a denominator.
        unit: of numerator and denominator.
        rounds: how often both were measured, in turns.
        bar: largest ratio that is good enough; None where none was set.
    """

    name: str
    numerator: float
    denominator: float | None = None
    ratio: float | None = None
    unit: str = "s"
    rounds: int = 1
    bar: float | None = None


def compared(
    name: str, numerators: Sequence[float], denominators: Sequence[float], *, unit: str = "s", bar: float | None = None
) -> Measured:
    """Rounds of two things that took turns: the ratio is the median over the rounds of that of neighbours in time."""
    return Measured(
        name=name,
        numerator=statistics.median(numerators),
        denominator=statistics.median(denominators),
        ratio=statistics.median(a / b for a, b in zip(numerators, denominators, strict=True)),
        unit=unit,
        rounds=len(numerators),
        bar=bar,
    )


def timed(task: Callable[[Path], object]) -> float:
    """Seconds of a task that may write into a folder; emptying that is not its work."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        task(Path(folder))
        return time.perf_counter() - start


def alternating(tasks: Mapping[str, Callable[[Path], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each task in every round; the tasks take turns, after one round that is not counted."""
    for task in tasks.values():  # first runs pay for memory and lazy imports
        timed(task)
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            seconds[name].append(timed(task))
    return seconds


@dataclass(frozen=True)
class Cost:
    """What a whole command took, with the processes that it started and waited for.

    Attributes:
        seconds: wall time.
        processor_seconds: of all its processes, user and system time.
        megabytes: largest peak memory of one of its processes, MiB.
    """

    seconds: float
    processor_seconds: float
    megabytes: float


def cost_of(command: Sequence[str], folder: Path) -> Cost:
    """Run a command in a folder; a failure ends this process with what the command said."""
    with tempfile.TemporaryFile("w+") as said:
        began = time.perf_counter()
        started = subprocess.Popen(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(started.pid, 0)
        seconds = time.perf_counter() - began
        started.returncode = os.waitstatus_to_exitcode(status)
        if status:
            said.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{said.read()}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def peak_gibibytes() -> float:
    """Largest resident memory of this process since it began, from Linux."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 2**20


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Give a benchmark the option ``--json``."""
    parser.add_argument("--json", type=Path, metavar="PATH", help="file that gets a line of JSON for every number")


def write_json(path: Path | None, measured: Sequence[Measured]) -> None:
    """Write a line of JSON for every number, if a file is wanted."""
    if path is not None:
        path.write_text("".join(json.dumps(asdict(one)) + "\n" for one in measured), encoding="utf-8")
