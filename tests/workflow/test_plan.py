"""What the study's jobs need: planned before they run, held against what they took, and requested again on a retry."""

import json
import re
import shutil
import subprocess
import sys

import polars as pl

from planned_jobs import requested_resources, scripts_of_jobs

# every rule's requests on the second attempt, as Snakemake evaluates them
REQUESTS = """
import json
import sys
from pathlib import Path
sys.path[:0] = ["src", "workflow_scripts"]
from harness.snakemake_internals import planned_jobs
with planned_jobs(Path("Snakefile"), ["all"], configfiles=[Path("tiny.yaml")], config={"device": "cuda"}) as (jobs, _):
    found = {}
    for _, job in jobs:
        first = dict(job.resources.items())
        job.attempt = 2
        job.reset_params_and_resources()
        found[job.rule.name] = [first, dict(job.resources.items())]
    print(json.dumps(found))
"""


def benchmarks(study) -> list:
    return [*study.results.glob("benchmarks/**/*.tsv"), *study.folder.glob("results/benchmarks/**/*.tsv")]


def test_the_plan_has_every_job_and_its_memory_holds(study):
    jobs = scripts_of_jobs(study.folder, study.arguments).values()
    assert len(jobs) == len(benchmarks(study))
    for file in benchmarks(study):  # of forks, which have more in memory
        file.unlink()
    for folder in study.results.glob("interventions/*/*/.edited"):  # an edit that is there already is not made again
        shutil.rmtree(folder)
    # a job of every rule again, one figure for all, as a user's run starts it
    by_rule = {facts["rule"]: facts["output"] for facts in reversed(jobs)}
    last = {"judge_claims", "plot_evidence", "make_page"}  # for which everything else would be made
    first = [rule for rule in by_rule if rule not in last and not rule.startswith("plot_")]
    for rules, only in ((first, []), (last, ["--allowed-rules", *last])):
        study.run_by_command(*only, "--force", "--", *(path for rule in rules for path in by_rule[rule]))
    assert len(benchmarks(study)) >= len(first) + len(last)

    said = study.run("check_resources").stdout
    plan = pl.read_parquet(study.results / "plan.parquet")
    ran = plan.filter(target="all")
    assert len(ran) == len(jobs) and ran["measured_memory"].count() == len(benchmarks(study))
    assert set(plan.filter(target="learning_rates")["measured_memory"]) == {None}
    assert f"| in all | {len(ran)} |" in re.sub(" +", " ", study.results.joinpath("plan.md").read_text())
    assert "| extract_activations, memory |" in re.sub(" +", " ", said)


def test_a_retry_asks_for_twice_as_much_and_only_jobs_that_run_models_ask_for_a_gpu(fresh, tmp_path):
    study = fresh.copy(tmp_path / "project")
    done = subprocess.run(
        [sys.executable, "-c", REQUESTS], cwd=study.folder, env=study.environment(), capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    requested = json.loads(done.stdout.splitlines()[-1])
    with_gpu = {rule for rule, (first, _) in requested.items() if first.get("gpu")}
    assert with_gpu == {
        "extract_activations", "measure_baseline", "intervene", "follow_edits", "measure_training", "pretrain", "pretrain_with_checkpoints",
    }  # fmt: skip
    for rule in requested:
        for quantity in ("mem_mb", "runtime", *(["gpu_mem_mb"] if rule in with_gpu else [])):
            first, second = (requests[quantity] for requests in requested[rule])
            assert first > 0 and 2 * first - 2 <= second <= 2 * first, (rule, quantity)
        assert requested[rule][0].get("gpu", 0) == requested[rule][1].get("gpu", 0) == int(rule in with_gpu), rule


def test_a_resource_of_the_command_line_replaces_one_estimate_and_leaves_the_others(fresh, tmp_path):
    study = fresh.copy(tmp_path / "project")
    target = "results/tiny/corpus/documents.parquet"
    [before] = requested_resources(study.folder, [*study.arguments, target]).values()
    [after] = requested_resources(
        study.folder, [*study.arguments, target, "--set-resources", "fetch_corpus:mem_mb=77"]
    ).values()
    changed = {name for name in before if before[name] != after[name]}
    assert after["mem_mb"] == 77 and changed == {"mem_mb", "mem_mib", "mem"} & before.keys(), (before, after)
