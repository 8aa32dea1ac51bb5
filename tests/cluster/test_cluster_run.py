"""The tiny study on a Slurm, with everything that goes wrong on a cluster in one run.

While it runs, both config files are overwritten, the node is lost and comes back, a job is cancelled and another runs out of its
time. What comes out is what a run on this machine gives.
"""

import ast
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import polars as pl
import pytest
import yaml
from snakemake.cli import parse_args

from local_slurm import LocalSlurm, fill_in, snakemake
from sinkorigin.pretraining.loop import train
from sinkorigin.pretraining.settings import TrainingSettings
from tiny_study import ROOT, TINY, Project, digests

FOLDER = "results/tiny/statistics/tiny/random_tokens"
TARGETS = [
    f"{FOLDER}/interventions.parquet",
    *(f"results/tiny/learning_rates/backcopy/learning_rate={rate}/seed=100/history.parquet" for rate in (0.004, 0.008)),
]


@dataclass
class Run:
    project: Project
    slurm: LocalSlurm
    said: str
    records: list[dict[str, str]]

    def of(self, rule: str) -> list[dict[str, str]]:
        """Records of a rule's jobs, or of a group's, in the order of their submission."""
        own = [record for record in self.records if re.match(rf"rule_{rule}_(wildcards|compute)", record["Comment"])]
        return sorted(own, key=lambda record: int(record["JobId"]))


class Events(threading.Thread):
    """What happens to the cluster while the study runs."""

    def __init__(self, slurm: LocalSlurm, project: Project):
        super().__init__(daemon=True)
        self.slurm, self.project, self.happened = slurm, project, []

    def running(self, rule: str) -> list[str]:
        """Wait until jobs of this rule run."""
        while True:
            found = [
                record.get("ArrayJobId", record["JobId"])
                + "_" * ("ArrayTaskId" in record)
                + record.get("ArrayTaskId", "")
                for record in self.slurm.jobs()
                if record["JobState"] == "RUNNING" and record["Comment"].startswith(f"rule_{rule}_wildcards")
            ]
            if found:
                return found
            time.sleep(0.2)

    def run(self) -> None:
        self.running("make_bigram_backcopy")  # which the trainings below wait for
        for name in ("tiny.yaml", "config.yaml"):
            (self.project.folder / name).write_text("study: [edited, and not yet whole")
        self.slurm.lose_node()
        self.slurm.start_node()
        self.happened.append("node lost")
        while len(jobs := self.running("pretrain_learning_rate")) < 2:
            time.sleep(0.2)
        self.slurm.do("scancel", jobs[0])
        self.happened.append("cancelled")
        # stopped, so that it is still there when Slurm looks whose time is over
        self.slurm.do("scancel", "--full", "--signal=STOP", jobs[1])
        self.slurm.do("scontrol", "update", f"jobid={jobs[1]}", "EndTime=now")
        self.happened.append("out of time")


@pytest.fixture(scope="module")
def ran(slurm, fresh, tmp_path_factory) -> Run:
    project = fresh.copy(tmp_path_factory.mktemp("cluster") / "project")
    fill_in(project.folder)
    events = Events(slurm, project)
    events.start()
    done = subprocess.run(
        snakemake("--benchmark-extended", *TARGETS),
        cwd=project.folder,
        env=slurm.environment(),
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert events.happened == ["node lost", "cancelled", "out of time"], said
    return Run(project, slurm, said, slurm.jobs())


def test_the_tables_are_those_of_a_run_on_this_machine(ran, finished, tmp_path):
    expected, found = digests(finished.results), digests(ran.project.results)
    compared = [name for name in found if "learning_rates" not in name]
    assert len(compared) > 20
    assert [name for name in compared if found[name] != expected[name]] == []
    # a training of the sweep was cancelled or ran out of time, and ends as one that was not
    swept = pl.read_parquet(
        ran.project.results / "learning_rates/backcopy/learning_rate=0.004/seed=100/history.parquet"
    )
    run = next(run for run in TINY["pretraining"]["runs"] if run["name"] == "backcopy")
    settings = {name: value for name, value in run.items() if name not in ("data", "seeds")}
    data = finished.results / "pretraining/data/backcopy"
    train(
        TrainingSettings(**settings, weight_decay=0.1, clip=1.0), seed=100, tokens_directory=data / "tokens",
        tokenizer_directory=data / "tokenizer", run_directory=tmp_path / "run", state_directory=tmp_path / "state",
    )  # fmt: skip
    trained = pl.read_parquet(tmp_path / "run" / "history.parquet")
    columns = [name for name in trained.columns if name in swept.columns]
    assert {"step", "train_loss", "validation_loss"} <= set(columns)
    assert swept.select(columns).equals(trained.select(columns))


def declared(project: Project) -> dict[str, dict]:
    """Rule → what its job found as its resources and threads, from the benchmarks that the jobs wrote on the node."""
    found = {}
    for path in project.results.rglob("benchmarks/**/*.tsv"):
        names, values = (line.split("\t") for line in path.read_text().splitlines())
        row = dict(zip(names, values, strict=True))
        found[row["rule_name"]] = {**ast.literal_eval(row["resources"]), "threads": int(row["threads"])}
    return found


def test_requests_arrive_at_slurm_as_declared(ran):
    resources = declared(ran.project)
    submitted = {rule for rule in resources if ran.of(rule)}
    assert {
        "extract_activations",
        "intervene",
        "pretrain_learning_rate",
        "make_bigram_backcopy",
    } <= submitted
    for rule in submitted:
        wanted, job = resources[rule], ran.of(rule)[-1]
        assert in_mb(job["MinMemoryNode"]) == wanted["mem_mb"], rule
        assert in_minutes(job["TimeLimit"]) == wanted["runtime"], rule
        assert int(job["CPUs/Task"]) == wanted["threads"], rule
        # the profile asks for a GPU for these
        assert job.get("TresPerJob") == ("gres:gpu:toy:1" if rule in ON_GPU else None), rule
        assert (job["Partition"], job["Account"], job["NumNodes"]) == ("batch", "project", "1"), rule


GROUPS = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())["groups"]
ON_GPU = {"extract_activations", "measure_baseline", "intervene", "pretrain_learning_rate"}


def in_mb(memory: str) -> float:
    return float(memory[:-1]) * {"M": 1, "G": 1024}[memory[-1]]


def in_minutes(limit: str) -> int:
    hours, minutes, _ = limit.split(":")
    return int(hours) * 60 + int(minutes)


def test_a_cancelled_job_and_one_out_of_time_are_retried_with_more(ran):
    first, second = ran.of("pretrain_learning_rate")[:2], ran.of("pretrain_learning_rate")[2:]
    assert {job["JobState"] for job in first} == {"CANCELLED", "TIMEOUT"}
    assert [job["JobState"] for job in second] == ["COMPLETED", "COMPLETED"]
    assert {in_mb(job["MinMemoryNode"]) for job in second} == {2 * in_mb(job["MinMemoryNode"]) for job in first}
    [cancelled] = [job for job in first if job["JobState"] == "CANCELLED"]
    assert {in_minutes(job["TimeLimit"]) for job in second} == {2 * in_minutes(cancelled["TimeLimit"])}


def test_a_job_whose_node_was_lost_runs_again(ran):
    [job] = ran.of("make_bigram_backcopy")
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1")


def test_like_jobs_are_one_array(ran):
    tasks = ran.of("pretrain_learning_rate")[:2]
    assert len({job["ArrayJobId"] for job in tasks}) == 1
    assert {job["ArrayTaskId"] for job in tasks} == {"1", "2"}


def test_the_statistics_of_a_model_on_a_prompt_set_are_one_job_of_slurm(ran):
    resources = declared(ran.project)
    [job] = ran.of("statistics_tiny_random_tokens")
    grouped = [resources[rule] for rule in resources if rule in GROUPS]
    assert len(grouped) >= 3 and not any(ran.of(rule) for rule in GROUPS)
    assert in_minutes(job["TimeLimit"]) == sum(wanted["runtime"] for wanted in grouped)
    assert in_mb(job["MinMemoryNode"]) == max(wanted["mem_mb"] for wanted in grouped)
    assert (job["JobState"], job["CPUs/Task"], job["NumNodes"]) == ("COMPLETED", "1", "1")


def test_every_statistic_of_a_model_on_a_prompt_set_is_in_a_group_and_what_waits_for_edits_is_not(fresh, tmp_path):
    jobs = fresh.copy(tmp_path / "project").planned_jobs()
    rules = {job.partition("(")[0] for job in jobs if re.match(r"compute_\w+\(model=.*, prompts=", job)}
    assert len(rules) > 10 and GROUPS.keys() == rules - {"compute_intervention_effects", "compute_mediation"}


def test_light_rules_are_no_jobs_of_slurm(ran):
    resources = declared(ran.project)
    for rule in ("fetch_corpus", "tokenize_prompts"):
        assert rule in resources and not any(rule in record["Comment"] for record in ran.records)


def test_no_limit_of_the_local_profile_is_in_force(monkeypatch):
    """profiles/default stays active beside this one, and its keys win."""
    monkeypatch.chdir(ROOT)
    _, arguments = parse_args(["--profile", "profiles/slurm"])
    assert arguments.executor == "slurm"
    assert arguments.jobs == sys.maxsize
    limits = ("cores", "resources", "set_resources", "set_threads", "max_threads", "scheduler_subsample")
    found = {name: getattr(arguments, name) for name in limits if getattr(arguments, name)}
    assert found.keys() == {"resources"} and set(found["resources"]) == {"grouped"}  # which is within a job
    assert "mem_mb" in arguments.default_resources
