"""What the logs of a study's jobs record: when and where they ran, what they took, and which code they were."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.job import Record
from sinkorigin.page.facts import RunRecord

_BEGAN = re.compile(r"^began (\d{4}-\d\d-\d\d \d\d:\d\d):\d\d UTC on (.+)$", re.MULTILINE)
_GPU = re.compile(r"^used GPU (.+)$", re.MULTILINE)
_CODE = re.compile(r"^code in .+, version (\w+)$", re.MULTILINE)


def read_run_record(logs: Mapping[str, Iterable[tuple[str | Path, str]]]) -> RunRecord:
    """What the logs of jobs say of them.

    The page of a study tells it. A log is no input of that job: it is there where the job ran on this machine or a shared
    file system, and nothing of a result depends on it.

    Args:
        logs: rule → log of each of its jobs, and the version of the code that the job has now.
    """
    records: list[Record] = []
    times: list[str] = []
    machines: set[str] = set()
    other: dict[str, int] = {}
    for rule, jobs in sorted(logs.items()):
        for log, now in jobs:
            record = Record.read(Path(log)) if Path(log).is_file() else None
            if record is None:  # of a job that failed, runs now, or ran elsewhere
                continue
            records.append(record)
            text = Path(log).read_text(encoding="utf-8", errors="replace")
            if began := _BEGAN.search(text):
                times.append(f"{began[1]} UTC")
                gpu = _GPU.search(text)
                machines.add(began[2] + (f", {gpu[1]}" if gpu else ""))
            version = _CODE.search(text)
            if version is not None and version[1] != now:
                other[rule] = other.get(rule, 0) + 1
    return RunRecord(
        jobs=len(records),
        seconds=sum(record.seconds for record in records),
        memory=max((record.memory for record in records), default=0.0),
        gpu_memory=max((record.gpu_memory for record in records), default=0.0),
        began=min(times, default=None),
        ended=max(times, default=None),
        machines=sorted(machines),
        other_code=other,
    )
