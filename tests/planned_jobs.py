"""What Snakemake plans for a study, asked in forks of a process that has imported it already."""

import logging
import multiprocessing
import os
import sys
from pathlib import Path

# a process that imports what costs seconds and nothing of this project; each question is put to a fork of it
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["snakemake.cli", "snakemake.dag", "pydantic", "pyarrow.parquet", "packaging.requirements"]
)


def job(rule: str, /, **wildcards) -> str:
    """What a job is called here: ``compute_sinks(model=tiny, prompts=random_tokens)``."""
    return f"{rule}({', '.join(f'{name}={value}' for name, value in sorted(wildcards.items()))})"


def planned_jobs(folder: Path, command: list[str], **environment: str) -> set[str]:
    """Every job but ``all`` that ``snakemake`` with these arguments would run in ``folder``."""
    return set(_ask(_list_jobs, folder, command, environment))


def undemanded_outputs(folder: Path, command: list[str]) -> dict[str, list[str]]:
    """Job → those of its outputs that no target demands, of every job of the study whether it would run or not.

    A directory whose manifest is demanded counts as demanded.
    """
    return _ask(_list_undemanded, folder, command, {})


def cache_keys(folder: Path, command: list[str], cache: Path) -> dict[str, str]:
    """Job → its key in Snakemake's cache between workflows, for every job that takes its outputs from there."""
    return _ask(_list_keys, folder, [*command, "--forceall", "--cache"], {"SNAKEMAKE_OUTPUT_CACHE": str(cache)})


def requested_resources(folder: Path, command: list[str]) -> dict[str, dict[str, int | str]]:
    """Job → the resources that it requests, of every job of the study whether it would run or not."""
    return _ask(_list_resources, folder, command, {})


def _ask(question, folder: Path, command: list[str], environment: dict[str, str]):
    receiver, sender = _FORKS.Pipe(duplex=False)
    fork = _FORKS.Process(target=_dry_run, args=(question, folder, [*command, "--dry-run"], environment, sender))
    fork.start()
    sender.close()
    try:
        status, answer = receiver.recv()
    except EOFError:
        status, answer = "no answer", None
    fork.join()
    assert status == 0, f"the dry run ended with {status}:\n{(folder / 'dry_run.log').read_text()}"
    return answer


def _dry_run(question, folder: Path, command: list[str], environment: dict[str, str], sender) -> None:
    log = os.open(folder / "dry_run.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(folder)
    os.environ.update(environment)
    # the checkout's own library, not the one under test
    sys.path = [path for path in sys.path if not path.endswith(("src", "workflow_scripts"))]
    import snakemake.cli

    answer = question()
    try:
        snakemake.cli.main(command)
        status = 0
    except SystemExit as end:
        status = end.code or 0
    sender.send((status, answer))


def _list_jobs() -> list[str]:
    import snakemake.logging

    jobs = []

    def note(record: logging.LogRecord) -> bool:
        if getattr(record, "event", None) == "job_info" and record.rule_name != "all":
            jobs.append(job(record.rule_name, **dict(record.wildcards)))
        return True

    snakemake.logging.logger.addFilter(note)  # a handler would be removed by Snakemake's own
    return jobs


def _list_keys() -> dict[str, str]:
    from snakemake.workflow import Workflow

    keys = {}
    execute = Workflow.execute

    def execute_and_note(workflow, *arguments, **named):
        execute(workflow, *arguments, **named)
        hashes = workflow.output_file_cache.provenance_hash_map
        for planned in workflow.dag.jobs:
            if planned.rule.cache.output:
                name = job(planned.rule.name, **planned.wildcards_dict)
                keys[name] = workflow.async_run(hashes.get_provenance_hash(planned))

    Workflow.execute = execute_and_note
    return keys


def _list_resources() -> dict[str, dict[str, int | str]]:
    from snakemake.workflow import Workflow

    found = {}
    execute = Workflow.execute

    def execute_and_note(workflow, *arguments, **named):
        execute(workflow, *arguments, **named)
        for planned in workflow.dag.jobs:
            found[job(planned.rule.name, **planned.wildcards_dict)] = dict(planned.resources.items())

    Workflow.execute = execute_and_note
    return found


def _list_undemanded() -> dict[str, list[str]]:
    from snakemake.workflow import Workflow

    found = {}
    execute = Workflow.execute

    def execute_and_note(workflow, *arguments, **named):
        execute(workflow, *arguments, **named)
        targets = [planned for planned in workflow.dag.jobs if not planned.output]
        demanded = {str(file) for target in targets for file in target.input}
        for planned in workflow.dag.jobs:
            files = [str(file) for file in planned.output if not file.is_directory]
            name = job(planned.rule.name, **planned.wildcards_dict)
            found[name] = [file for file in files if file not in demanded]

    Workflow.execute = execute_and_note
    return found


def scripts_of_jobs(folder: Path, command: list[str]) -> dict[str, dict]:
    """Job → what its script would get of Snakemake, of every job of the study that has a script, whether it would run or not.

    Beside the attributes of Snakemake's object: ``script``, the script's name, and ``closure``, the library files that the
    version of its code covers.
    """
    return _ask(_list_scripts, folder, [*command, "--forceall"], {})


def _list_scripts() -> dict[str, dict]:
    from snakemake.workflow import Workflow

    found = {}
    execute = Workflow.execute

    def execute_and_note(workflow, *arguments, **named):
        execute(workflow, *arguments, **named)
        for planned in workflow.dag.jobs:
            if planned.rule.script is None:
                continue
            found[job(planned.rule.name, **planned.wildcards_dict)] = {
                "rule": planned.rule.name,
                "script": Path(planned.rule.script).name,
                "closure": covered.get(planned.params.get("code"), []),
                "input": planned.input._plainstrings(),
                "output": planned.output._plainstrings(),
                "params": planned.params,
                "wildcards": planned.wildcards,
                "log": planned.log._plainstrings(),
                "threads": planned.threads,
                "resources": {"device": "cpu", "gpu": 0},
            }

    Workflow.execute = execute_and_note
    covered = {}
    sys.path.insert(0, str(Path("workflow_scripts").absolute()))
    sys.path.insert(0, str(Path("src").absolute()))
    from harness.code_version import Code

    version = Code.version

    def version_and_note(code, script, *modules):
        made = version(code, script, *modules)
        covered[made] = [str(path) for path in code.closure(script, *modules)]
        return made

    Code.version = version_and_note
    return found
