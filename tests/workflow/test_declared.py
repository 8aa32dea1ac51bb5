"""What a job reads is what its rule declares, and what it imports is what the version of its code covers."""

import json
import multiprocessing
import os
import runpy
import shutil
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

import forks
from planned_jobs import scripts_of_jobs

# a process with the heavy imports of all scripts, and nothing of this project, whose forks run one job each
_SPAWNED = multiprocessing.get_context("spawn")
ENDS_ORPHANS = "src/sinkorigin/parent_processes.py"  # every job imports it, and no result depends on it


class Named(dict):
    """Resources, as Snakemake gives them to a script."""

    __getattr__ = dict.__getitem__


@pytest.fixture(scope="module")
def jobs(finished):
    """One job of each rule of the finished study, of the figures' rules only some."""
    found = scripts_of_jobs(finished.folder, finished.arguments)
    # in this order the last job of a rule is the tiny model's, not the random one's
    one_each = {facts["rule"]: facts for _, facts in sorted(found.items(), reverse=True)}
    assert len(one_each) > 45
    # one script draws all figures from what it is given: one figure of each source of tables stands for the others
    drawn = {
        "plot_variance_by_position",
        "plot_sink_by_intervention",
        "plot_training_dynamics",
        "plot_pretraining_comparison",
    }
    return {rule: facts for rule, facts in one_each.items() if not rule.startswith("plot_") or rule in drawn}


def run_each_alone(folder: Path, project: Path, jobs: dict[str, dict]) -> dict[str, tuple[str, list[str]]]:
    """Run each rule's script in its folder below ``folder``: what it says of an error, and the library files it imported."""
    receiver, sender = _SPAWNED.Pipe(duplex=False)
    process = _SPAWNED.Process(target=_fork_each, args=(folder, project, jobs, sender))
    process.start()
    sender.close()
    answers = {rule: receiver.recv() for rule in jobs}
    process.join()
    return answers


def _fork_each(folder: Path, project: Path, jobs: dict[str, dict], sender) -> None:
    for module in forks.MODULES:
        import_module(module)
    forked = multiprocessing.get_context("fork")
    for rule, facts in jobs.items():
        process = forked.Process(target=_run, args=(folder / rule, project, facts, sender))
        process.start()
        process.join()
        if process.exitcode:
            sender.send((f"its process ended with {process.exitcode}", []))


def _run(folder: Path, project: Path, facts: dict, sender) -> None:
    os.chdir(folder)
    terminal = os.open("terminal", os.O_WRONLY | os.O_CREAT)
    os.dup2(terminal, 1)
    os.dup2(terminal, 2)
    import torch

    torch.set_num_threads(facts["threads"])  # Snakemake sets OMP_NUM_THREADS, too late for a process that has PyTorch
    scripts = project / "workflow_scripts"
    sys.path[:] = [str(project / "src"), str(scripts)] + [
        p for p in sys.path if not p.endswith(("src", "workflow_scripts"))
    ]
    facts = {**facts, "resources": Named(facts["resources"]), "scriptdir": str(scripts)}
    with suppress(BaseException):  # what it says is on its terminal
        runpy.run_path(str(scripts / facts["script"]), {"snakemake": SimpleNamespace(**facts)})
    imported = [
        module.__file__
        for name, module in sys.modules.items()
        if name.split(".")[0] == "sinkorigin" and module.__file__
    ]
    sender.send((Path("terminal").read_text(errors="replace"), imported))


def bring(paths: list[str], project: Path, folder: Path) -> None:
    """Links to a job's inputs, and nothing else."""
    for path in map(Path, paths):
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if (project / path).is_dir():
            shutil.copytree(project / path, place, copy_function=os.link, dirs_exist_ok=True)
        elif not place.exists():
            os.link(project / path, place)


def test_every_job_runs_on_its_declared_inputs_and_imports_what_its_code_version_covers(finished, jobs, tmp_path):
    for rule, facts in jobs.items():
        folder = tmp_path / rule
        folder.mkdir()
        bring(list(facts["input"]), finished.folder, folder)
        for path in facts["output"]:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)  # as Snakemake does
    failed, uncovered = {}, {}
    for rule, (said, imported) in run_each_alone(tmp_path, finished.folder, jobs).items():
        folder, facts = tmp_path / rule, jobs[rule]
        missing = [path for path in facts["output"] if not (folder / path).exists()]
        if missing:
            failed[rule] = said[-1500:]
        elif not facts["closure"]:
            continue  # nothing of the study depends on it
        covered = {*facts["closure"], str(finished.folder / ENDS_ORPHANS)}
        if extra := sorted(set(imported) - covered):
            uncovered[rule] = [Path(path).relative_to(finished.folder).as_posix() for path in extra]
        for path in facts["output"]:
            if path.endswith(".parquet") and not missing and "timing" not in path:
                assert pq.read_table(folder / path).equals(pq.read_table(finished.folder / path)), (rule, path)
    assert (failed, uncovered) == ({}, {}), json.dumps([failed, uncovered], indent=1)
