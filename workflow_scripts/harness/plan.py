"""The plan of a study: a table of what each job is expected to need and what it needed, and its sums by rule."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from harness.job import Record
from harness.progress import duration
from harness.resources import Needs
from sinkorigin import tables

SCHEMA = tables.schema(
    target=(pa.string(), "what needs the job: all, or the sweep learning_rates"),
    rule=(pa.string(), "rule of the workflow"),
    wildcards=(pa.string(), "which of its jobs"),
    threads=(pa.int32(), "CPU threads"),
    gpus=(pa.int32(), "GPUs"),
    memory=(pa.float64(), "memory that it requests, MB"),
    gpu_memory=(pa.float64(), "memory of each GPU that it requests, MB"),
    hours=(pa.float64(), "expected time, h"),
    runtime=(pa.float64(), "time after which it may be stopped, min"),
    disk=(pa.float64(), "what it leaves, MB"),
    measured_memory=(pa.float64(), "its measured peak, MB; null where it has not run"),
    measured_gpu_memory=(pa.float64(), "measured peak on one GPU, MB; null where it has not run"),
    measured_hours=(pa.float64(), "measured time, h; null where it has not run"),
)

_ROUNDING = 1e-9
WITHIN = 1.5  # a prediction is at most so many times the measured peak, and never below it


def job_row(
    needs: Needs, *, target: str, rule: str, wildcards: Mapping[str, str], threads: int, log: str, benchmark: str
) -> dict:
    """A row of ``SCHEMA``.

    Args:
        log, benchmark: files that the job leaves. Snakemake looks at a job's memory twice a second at first and later twice
            a minute, so the peak that the job itself wrote into its log may be higher.
    """
    row: dict = {
        "target": target,
        "rule": rule,
        "wildcards": ", ".join(f"{name} {value}" for name, value in wildcards.items()),
        "threads": threads,
        "gpus": needs.gpus,
        "memory": needs.memory,
        "gpu_memory": needs.gpu_memory,
        "hours": needs.seconds / 3600,
        "runtime": needs.runtime,
        "disk": needs.disk,
        **dict.fromkeys(("measured_memory", "measured_gpu_memory", "measured_hours")),
    }
    record, seen = Record.read(log), read_benchmark(benchmark)
    if record is not None and seen is not None:
        row["measured_memory"] = max(record.memory, seen["max_rss"])
        row["measured_gpu_memory"] = record.gpu_memory
        row["measured_hours"] = seen["s"] / 3600
    return row


def read_benchmark(path: str | Path) -> dict[str, float] | None:
    """Numbers of a benchmark file of Snakemake; 0 where it could measure nothing. None where there is no file."""
    if not Path(path).is_file():
        return None
    names, values = (line.split("\t") for line in Path(path).read_text().splitlines()[:2])
    row = dict(zip(names, values, strict=True))
    return {name: 0.0 if row[name] in ("-", "NA") else float(row[name]) for name in ("s", "max_rss")}


def _grouped(rows: Iterable[Mapping]) -> dict[str, list[Mapping]]:
    """Rule → its rows; figures are one."""
    groups: dict[str, list[Mapping]] = {}
    for row in rows:
        groups.setdefault("plot_…" if row["rule"].startswith("plot_") else row["rule"], []).append(row)
    return groups


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up; numbers to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in [header, *rows]]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [lines[0], rule, *lines[1:]])


def _number(value: float) -> str:
    """A number to three digits; 0 as a dash."""
    if value == 0:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def plan_text(rows: Sequence[Mapping], assumptions: Sequence[str], study: str) -> str:
    """The plan of a study for people: a table of rules, totals, and what was assumed."""
    header = ["rule", "jobs", "GPUs", "GB a GPU", "GB", "longest job", "all jobs", "GPU hours", "disk GB"]

    def line(name: str, jobs: Sequence[Mapping]) -> list[str]:
        return [
            name,
            str(len(jobs)),
            _number(max(row["gpus"] for row in jobs)),
            _number(max(row["gpu_memory"] for row in jobs) / 1000),
            _number(max(row["memory"] for row in jobs) / 1000),
            duration(3600 * max(row["hours"] for row in jobs)),
            duration(3600 * sum(row["hours"] for row in jobs)),
            _number(sum(row["hours"] * row["gpus"] for row in jobs)),
            _number(sum(row["disk"] for row in jobs) / 1000),
        ]

    parts = []
    for target, title in (("all", f"study {study}"), ("learning_rates", "the sweep `snakemake learning_rates`, apart")):
        needed = [row for row in rows if row["target"] == target]
        if needed:
            lines = [line(rule, jobs) for rule, jobs in _grouped(needed).items()]
            parts.append(_table([title, *header[1:]], [*lines, line("in all", needed)]))
    notes = (
        "GPUs and memory are those of the largest job of a rule. Time of all jobs is one after the other; jobs that do not "
        "wait for one another run side by side."
    )
    assumed = ["\n- ".join(["Assumed:", *assumptions])] if assumptions else []
    return "\n\n".join([*parts, notes, *assumed]) + "\n"


def comparison(rows: Sequence[Mapping]) -> tuple[str, list[str]]:
    """Predicted memory beside measured peaks, by rule; and a sentence for every rule outside 1 … ``WITHIN``."""
    lines, wrong = [], []
    for kind, title in (("memory", "memory"), ("gpu_memory", "GPU memory")):
        run = [row for row in rows if row[f"measured_{kind}"]]
        for rule, jobs in _grouped(run).items():
            ratios = [(row[kind] / row[f"measured_{kind}"], row) for row in jobs]
            (least, low), (most, _) = min(ratios, key=lambda r: r[0]), max(ratios, key=lambda r: r[0])
            columns = ([row[key] for row in jobs] for key in (kind, f"measured_{kind}"))
            ranges = [f"{min(column):,.0f} … {max(column):,.0f}" for column in columns]
            lines.append([f"{rule}, {title}", str(len(jobs)), *ranges, f"{least:.2f}", f"{most:.2f}"])
            if least < 1 - _ROUNDING or most > WITHIN:
                wrong.append(
                    f"{rule} requests {least:.2f} to {most:.2f} times its peak {title} (least: {low['wildcards']})"
                )
    header = ["rule", "jobs", "predicted, MB", "measured, MB", "least ratio", "largest ratio"]
    return _table(header, lines) + "\n", wrong
