"""Snakemake's internals are touched in one module, and what it changes of a run is what it says."""

import asyncio
import logging
import re
import sys
from functools import partial
from types import SimpleNamespace

import pytest

from harness import snakemake_internals as internals
from harness.cluster import alike, light_rules
from tiny_study import ROOT

# an import of Snakemake, but for functions of its language, or a private attribute of one of its objects
TOUCH = re.compile(
    r"^\s*(from|import) snakemake(?!\.(io|utils) import)|\b(workflow|scheduler|executor|rule|job|dag|persistence|output)\._[a-z]"
)


def test_no_other_file_touches_them():
    files = [
        ROOT / "Snakefile",
        ROOT / "workflow/Snakefile",
        *ROOT.glob("rules/*.smk"),
        *ROOT.glob("workflow_scripts/**/*.py"),
        *ROOT.glob("src/**/*.py"),
    ]
    touches = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in files
        for line in file.read_text().splitlines()
        if TOUCH.search(line) and file.name != "snakemake_internals.py"
    ]
    assert touches == []


def run(*, limit=(100, 1), resources=(sys.maxsize,), subsample=None, limiter="a limiter", arrays=("all",)):
    """What a workflow has of a run: its scheduler, and the executor for Slurm."""
    jobs_per_second = limit and SimpleNamespace(max_jobs=limit[0], timespan=limit[1])
    scheduler = SimpleNamespace(
        job_rate_limiter=limiter, subsample=subsample, global_resources=dict(zip(["gpu", "of a group"], resources, strict=False)),
        _executor=SimpleNamespace(array_jobs=set(arrays)),
    )  # fmt: skip
    settings = SimpleNamespace(max_jobs_per_timespan=jobs_per_second)
    scopes = SimpleNamespace(is_local=lambda resource: resource == "of a group")
    return SimpleNamespace(scheduler=scheduler, scheduling_settings=settings, resource_scopes=scopes)


def test_snakemakes_own_limit_on_starts_is_lifted_and_a_users_stays():
    default, set_by_user = run(), run(limit=(5, 60))
    internals.lift_rate_limit(default)
    internals.lift_rate_limit(set_by_user)
    assert default.scheduler.job_rate_limiter is None and set_by_user.scheduler.job_rate_limiter == "a limiter"


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, False),
        ({"resources": [sys.maxsize, 1]}, False),
        ({"resources": [1, sys.maxsize]}, True),
        ({"subsample": 10}, True),
        ({"limiter": "a limiter"}, True),
    ],
)
def test_whatever_limits_starts_is_seen(limits, expected):
    assert internals.limits_starts(run(**{"limiter": None, **limits})) == expected


@pytest.mark.parametrize(
    ("wanted", "left"), [({"all"}, {"intervene", "pretrain"}), ({"pretrain", "plot"}, {"pretrain"}), (set(), set())]
)
def test_only_rules_that_may_and_are_wanted_become_arrays(wanted, left):
    workflow = run(arrays=wanted)
    internals.restrict_slurm_arrays(workflow, {"intervene", "pretrain"})
    assert workflow.scheduler._executor.array_jobs == left


@pytest.mark.parametrize(
    ("quiet", "main", "lines"),
    [(None, True, 1), ({"rules"}, True, 1), ({"progress"}, True, 0), ({"all"}, True, 0), (None, False, 0)],
    ids=["by default", "--quiet rules", "--quiet progress", "--quiet all", "process of a job"],
)
def test_finished_jobs_are_told_once_by_the_main_process_to_who_wants_progress(monkeypatch, quiet, main, lines):
    monkeypatch.setattr(internals.logger, "handlers", [])
    workflow = SimpleNamespace(
        is_main_process=main,
        output_settings=SimpleNamespace(quiet=quiet and {internals.Quietness[name.upper()] for name in quiet}),
        logger_manager=SimpleNamespace(plugin_handlers=[]),
    )
    for module in ("one", "another"):  # of the same workflow
        internals.tell_finished_jobs(workflow, {module: len})
    assert len(internals.logger.handlers) == lines
    assert not lines or internals.logger.handlers[0].needs.keys() == {"one", "another"}


def test_every_module_acts_before_the_first_job_and_none_on_files_that_are_only_touched(monkeypatch):
    monkeypatch.setattr(internals.logger, "handlers", [])
    started = internals.logger.makeRecord("", 20, "", 0, "", (), None, extra={"event": "job_started", "jobs": [1]})
    for touch, expected in ((False, ["one", "another"]), (True, [])):
        called: list[str] = []
        internals.logger.handlers.clear()
        for module in ("one", "another"):
            workflow = SimpleNamespace(is_main_process=True, touch=touch)
            internals.before_first_job(workflow, partial(called.append, module))
        for _ in range(2):
            internals.logger.handle(started)
        assert called == expected


def test_an_error_while_progress_is_told_is_told_once_and_ends_nothing(monkeypatch, capsys):
    monkeypatch.setattr(internals.logger, "handlers", [])
    workflow = SimpleNamespace(
        is_main_process=True, touch=False, output_settings=SimpleNamespace(quiet=None), scheduler=None, dag=None,
        logger_manager=SimpleNamespace(plugin_handlers=[]),
    )  # fmt: skip
    internals.tell_finished_jobs(workflow, {})
    for _ in range(2):
        internals.logger.handle(
            internals.logger.makeRecord("", 20, "", 0, "", (), None, extra={"event": "job_finished", "job_id": 1})
        )
    assert capsys.readouterr().err.count("AttributeError") == 1


class Job:
    def __init__(self, rule):
        self.rule = SimpleNamespace(name=rule)


def test_rules_whose_jobs_have_one_request_are_alike():
    requests = {Job("pretrain"): "--mem 100", Job("pretrain"): "--mem 100", Job("intervene"): "--mem 300"}
    assert alike(requests) == {"pretrain", "intervene"}
    assert alike(requests | {Job("pretrain"): "--mem 200"}) == {"intervene"}


def test_light_rules_stay_on_this_machine():
    assert light_rules(["fetch_model", "pretrain", "plot_sinks", "compute_sinks"]) == ["fetch_model", "plot_sinks"]


def test_a_lock_is_told_in_the_sentence_and_other_messages_are_left(monkeypatch):
    added = []
    monkeypatch.setattr(internals.logger, "addFilter", added.append)
    internals.replace_lock_message("one sentence")
    locked, other = SimpleNamespace(exception="LockException", msg="five lines"), SimpleNamespace(msg="a message")
    assert [added[0](record) for record in (locked, other)] == [True, True]
    assert (locked.msg, other.msg) == ("one sentence", "a message")


@pytest.fixture
def log_filters():
    """Snakemake's filters of log records, as they were afterwards."""
    before = list(internals.logger.filters)
    yield
    internals.logger.filters[:] = before


def test_a_full_disk_is_told_in_a_sentence_instead_of_a_traceback(log_filters, capsys):
    full = logging.FileHandler("/dev/full")
    internals.replace_full_disk_message("sinkorigin: the disk is full")
    internals.logger.addHandler(full)
    try:
        for code, said in (
            (28, "sinkorigin: the disk is full"),
            (122, "sinkorigin: the disk is full"),
            (13, "OSError: [Errno 13] why"),
        ):
            record = internals.logger.makeRecord(
                "", logging.ERROR, "", 0, f"OSError: [Errno {code}] why", (), None, extra={"exception": "OSError"}
            )
            internals.logger.handle(record)
            assert record.getMessage() == said
    finally:
        internals.logger.removeHandler(full)
        full.stream = None
    assert "Logging error" not in capsys.readouterr().err


class _Executor:
    """What the plugin's executor does with its jobs in a round: nothing, where Slurm does not answer."""

    def report_job_success(self, job):
        pass

    def report_job_error(self, job, msg=None):
        pass

    async def check_active_jobs(self, jobs):
        for job in jobs:
            if job == "done":
                self.report_job_success(job)
            elif job == "failed":
                self.report_job_error(job, msg="it failed")
            elif job == "running":
                yield job


def test_jobs_whose_state_slurm_did_not_tell_are_looked_after_again():
    executor = _Executor()
    internals.keep_watching_jobs(SimpleNamespace(scheduler=SimpleNamespace(_executor=executor)))

    async def left(*jobs):
        return [job async for job in executor.check_active_jobs(jobs)]

    assert asyncio.run(left("done", "running", "silent", "failed")) == ["running", "silent"]
    assert asyncio.run(left("silent")) == ["silent"]
