"""What the logs of a study record: when, where and with which code its jobs ran."""

import re

from harness.job import beginning
from harness.run_record import read_run_record

RECORD = "{} s; at most {} MB of memory and 0 MB of a GPU\n"


def write_log(path, version, began, seconds, memory):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"code in workflow_scripts, version {version}", began, RECORD.format(seconds, memory)]
    path.write_text("\n".join(filter(None, lines)))


def test_times_machines_and_needs_of_all_finished_jobs_are_added_up(tmp_path):
    write_log(tmp_path / "fetch.log", "aa", "began 2026-01-02 10:00:05 UTC on Linux x86_64, 2 × CPU, 8 GB", 60.0, 100)
    write_log(
        tmp_path / "sinks/m/p.log", "bb", "began 2026-01-02 10:09:59 UTC on Linux x86_64, 2 × CPU, 8 GB", 340.0, 2048
    )
    (tmp_path / "sinks/m/q.log").write_text("code in workflow_scripts, version bb\nsinkorigin: it failed\n")
    (tmp_path / "another.log").write_text(RECORD.format(1000.0, 5000))
    logs = {"sinks": [(tmp_path / f"sinks/m/{name}.log", "bb") for name in ("p", "q", "not_there")]}
    record = read_run_record({"fetch": [(str(tmp_path / "fetch.log"), "aa")], **logs})
    assert (record.jobs, record.seconds, record.memory) == (2, 400.0, 2048.0), (
        "failed jobs, and those of no study, are left out"
    )
    assert record.period == "2026-01-02 10:00 to 10:09 UTC" and record.hardware == "Linux x86_64, 2 × CPU, 8 GB"
    assert record.effort == "2 jobs, 7 minutes one after the other; at most 2.0 GB of memory"
    assert not record.other_code


def test_jobs_that_ran_other_code_are_counted_by_rule(tmp_path):
    for name, version in (("p", "old"), ("q", "old"), ("r", "new")):
        write_log(tmp_path / f"sinks/{name}.log", version, "", 1.0, 1)
    (tmp_path / "plain.log").write_text(RECORD.format(1.0, 1))
    sinks = [(tmp_path / f"sinks/{name}.log", "new") for name in ("p", "q", "r")]
    record = read_run_record({"sinks": sinks, "plain": [(tmp_path / "plain.log", "x")]})
    assert record.other_code == {"sinks": 2}
    assert record.period == record.hardware == "not recorded"


def test_a_study_without_logs_has_an_empty_record(tmp_path):
    record = read_run_record({"sinks": [(tmp_path / "none.log", "new")]})
    assert record.jobs == 0 and record.effort == "not recorded"


def test_a_log_says_when_and_on_what_its_job_began_and_not_where(monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "a-host")
    line = beginning()
    assert re.fullmatch(r"began \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC on \w+ \S+, \d+ × .+", line) and "a-host" not in line


def test_a_damaged_log_tells_what_is_whole_of_it(tmp_path):
    write_log(tmp_path / "whole.log", "new", "", 1.0, 1)
    (tmp_path / "damaged.log").write_bytes(b"\xff\xfe" + (tmp_path / "whole.log").read_bytes())
    (tmp_path / "no_number.log").write_text(RECORD.format("1.2.3", 1))
    logs = [(tmp_path / f"{name}.log", "new") for name in ("whole", "damaged", "no_number")]
    assert read_run_record({"sinks": logs}).jobs == 2
