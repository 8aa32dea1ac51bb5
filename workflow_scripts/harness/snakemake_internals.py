"""Every use of Snakemake, and of its plugin for Slurm, that goes beyond what their documentation promises.

Each function says why it is needed, and which file of which version it leans on. ``harness.installation`` refuses any version
that this module was not tried with, because such a use may fail without a word.
"""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from snakemake.api import SnakemakeApi
from snakemake.caching import AbstractOutputFileCache as AbstractOutputFileCache
from snakemake.common.configfile import load_configfile
from snakemake.io import apply_wildcards
from snakemake.logging import LogEvent
from snakemake.logging import logger as logger
from snakemake.persistence import ParamsChange
from snakemake.persistence.file import FilePersistence
from snakemake.resources import Resources
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    Quietness,
    ResourceSettings,
    SharedFSUsage,
)

from harness.config.merging import Layer
from harness.progress import Progress, Step
from sinkorigin.errors import FULL_DISK

if TYPE_CHECKING:  # it imports the registries, which are checked first (rules/common.smk)
    from harness.resources import Needs

# ---- what a run is about to do


def pending_jobs(workflow: Any) -> list[Any]:
    """Jobs that a run will start. Hooks get no list of them; the report of ``--dry-run`` uses this one (dag.py)."""
    return list(workflow.dag.needrun_jobs())


def is_asked_for(workflow: Any, rule: str) -> bool:
    """Whether a run makes, or finds made, what a rule gives. Hooks do not see the targets (dag.py, 9.27.1)."""
    return any(job.rule.name == rule for job in workflow.dag.jobs)


@contextmanager
def planned_jobs(
    snakefile: Path, targets: Sequence[str], *, configfiles: Sequence[Path] = (), config: Mapping[str, Any]
) -> Iterator[tuple[list[tuple[str, Any]], Mapping[str, Any]]]:
    """Plan these targets in a workflow apart, which runs nothing.

    The documented ``snakemake.api`` prints a graph but hands out no job: the two calls of private methods are what its
    ``printdag`` makes before it prints (workflow.py, 9.27.1).

    Returns:
        Every job, whether it would run or not, in the order of the rules, each with the first target that needs it; and the
        variables of the Snakefile.
    """
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        settings = ConfigSettings(configfiles=list(configfiles), config=dict(config))
        opened = api.workflow(ResourceSettings(cores=1), settings, snakefile=snakefile)
        opened.dag(DAGSettings(targets=set(targets)))
        workflow = opened._workflow
        workflow._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=True)
        workflow._build_dag()
        dag, order = workflow.dag, {rule: place for place, rule in enumerate(workflow.rules)}
        first: dict[Any, str] = {}
        for target in targets:
            for job in dag.bfs(dag.dependencies, *(job for job in dag.jobs if job.rule.name == target)):
                first.setdefault(job, target)
        jobs = [job for job in sorted(dag.jobs, key=lambda job: order[job.rule]) if job.rule.name not in targets]
        yield [(first[job], job) for job in jobs], workflow.globals


# ---- while a run goes on
#
# Hooks are called at the two ends of a run, and only those of the main Snakefile: a module's are not (workflow.py, 9.27.1). So what
# happens in between is taken from Snakemake's log, which has an event for the start and the end of each job of all workflows
# (scheduling/job_scheduler.py). A plugin for the log would have to be installed as a package of its own.


class _FirstJob(logging.Handler):
    """Calls a function once, before the first job of a run starts."""

    def __init__(self, workflow: Any, function: Callable[[], None]):
        super().__init__()
        self._workflow, self._function, self._called = workflow, function, False

    def emit(self, record: logging.LogRecord) -> None:
        """Errors of the function end the run, unlike those of other handlers."""
        if getattr(record, "event", None) == LogEvent.JOB_STARTED and not self._called:
            self._called = True
            if not self._workflow.touch:
                self._function()


def before_first_job(workflow: Any, function: Callable[[], None]) -> None:
    """Call a function before the first job of a run starts: of no run that only lists or touches files, or has nothing to do."""
    if workflow.is_main_process:
        logger.addHandler(_FirstJob(workflow, function))


class _FinishedJobs(logging.Handler):
    """Tells of each job that finished, and of the time that the others take: in a line, or above the progress bars where there are some.

    Attributes:
        needs: rule → function of the wildcards of one of its jobs that says what the job is expected to need.
    """

    def __init__(self, workflow: Any):
        super().__init__()
        self.needs: dict[str, Callable[[Mapping[str, str]], Needs]] = {}
        self._workflow = workflow
        self._progress = Progress()
        self._panels = _panels_of_bars(workflow)

    def emit(self, record: logging.LogRecord) -> None:
        """An error here is told once, as those of all handlers are, and ends no run."""
        event = getattr(record, "event", None)
        if event not in (LogEvent.JOB_STARTED, LogEvent.JOB_FINISHED) or self._workflow.touch:
            return
        try:
            keys = record.jobs if event == LogEvent.JOB_STARTED else [record.job_id]  # type: ignore[attr-defined]
            if not self._progress.knows(
                keys
            ):  # at the first start; or of a group of jobs, or after another workflow's checkpoint
                self._progress.plan(self._steps())
            if event == LogEvent.JOB_STARTED:
                self._progress.start(keys, record.created)
            elif self._progress.knows(keys):
                self._finish(keys[0], record.created)
        except Exception:
            self.setLevel(sys.maxsize)  # no more records
            self.handleError(record)

    def _finish(self, key: Any, now: float) -> None:
        dag, failed = self._workflow.dag, self._workflow.scheduler.failed
        self._progress.give_up(dag.jobid(one) for job in failed for one in jobs_in(job))
        self._progress.finish(key, now)
        for panel in self._panels:
            panel.title = self._progress.state(now)
        if not self._panels:
            output = sys.stdout if self._workflow.output_settings.stdout else sys.stderr
            print(self._progress.line(key, now), file=output, flush=True)

    def _steps(self) -> dict[Any, Step]:
        """Number of each job of the run → what is known of it.

        Reading ``job.resources`` here would keep values that may change until the job is ready (jobs.py, 9.27.1), so that the
        threads are taken from its rule and all else from the estimates.
        """
        from harness.resources import Needs  # see above

        dag, limits = self._workflow.dag, self._workflow.scheduler.global_resources
        jobs = set(dag.needrun_jobs(exclude_finished=False))
        found = {}
        for job in jobs:
            rule, estimate = job.rule, self.needs.get(job.rule.name)
            needs = Needs(0, 0) if job.is_norun or estimate is None else estimate(job.wildcards_dict)
            others = set(rule.resources) - {"_cores"}
            threads = rule.expand_resources(job.wildcards_dict, job.input, attempt=1, skip_evaluation=others)._cores
            takes = {"_cores": threads, "_nodes": 1, "gpu": needs.gpus, "mem_mb": needs.memory}
            found[dag.jobid(job)] = Step(
                rule.name,
                dict(job.wildcards_dict),
                None if estimate is None and not job.is_norun else needs.seconds,
                frozenset(dag.jobid(other) for other in dag.dependencies[job] if other in jobs),
                {
                    name: amount / limits[name]
                    for name, amount in takes.items()
                    if 0 < limits.get(name, 0) < sys.maxsize
                },
            )
        return found


def tell_finished_jobs(workflow: Any, needs: Mapping[str, Callable[[Mapping[str, str]], "Needs"]]) -> None:
    """Tell of each finished job of a run, unless the user wants no progress told. Several modules of one workflow share the lines.

    Args:
        needs: rule → function of the wildcards of one of its jobs that says what the job is expected to need.
    """
    quiet = set(workflow.output_settings.quiet or ())
    if not workflow.is_main_process or quiet & {Quietness.ALL, Quietness.PROGRESS}:
        return
    told = [handler for handler in logger.handlers if isinstance(handler, _FinishedJobs)]
    if not told:
        told = [_FinishedJobs(workflow)]
        logger.addHandler(told[0])
    told[0].needs.update(needs)


def _panels_of_bars(workflow: Any) -> list[Any]:
    """Panels with progress bars that are drawn on a terminal: those of Snakemake's plugin for rich, which draws them on no other output
    (handler.py of snakemake_logger_plugin_rich, 0.5.1).
    """
    drawing = [handler for handler in workflow.logger_manager.plugin_handlers if hasattr(handler, "live_display")]
    consoles = [(handler.live_display, handler.console) for handler in drawing]
    return [live.get_renderable() for live, console in consoles if console.is_terminal and not console.is_dumb_terminal]


def remove_outputs(workflow: Any, files: Collection[str]) -> list[str]:
    """Remove those of these files that a run is about to make; which of them were there.

    Snakemake removes the outputs of a job only when that job starts, and so does it: from a storage too (io/__init__.py, 9.27.1).
    """
    made = [file for job in pending_jobs(workflow) for file in job.output if str(file) in files]
    there = [file for file in made if workflow.async_run(file.exists())]
    for file in there:
        workflow.async_run(file.remove())
    return list(map(str, there))


# ---- after a run that failed


def ended_by_itself(workflow: Any) -> bool:
    """Whether a run that failed did all that it could, or was stopped: by a signal, an executor, or without ``--keep-going``.

    The hook ``onerror`` is the same for all of these. A run that was stopped leaves jobs that run or could run
    (scheduling/job_scheduler.py, 9.27.1).
    """
    scheduler = workflow.scheduler
    stopped = scheduler._user_kill or scheduler._executor_error or scheduler.touch
    return not (stopped or scheduler.running or workflow.dag.ready_jobs)


def jobs_in(job: Any) -> list[Any]:
    """The jobs of a group that is submitted as one, in the order in which they run; of any other job, itself (jobs.py, 9.27.1)."""
    return list(job) if job.is_group() else [job]


def unfinished_jobs(workflow: Any, ended_well: Callable[[Any], bool]) -> dict[Any, Any]:
    """Job that a failed run did not finish → the failed job that it waits for; a job that failed waits for itself.

    ``onerror`` gets a log only (scheduling/job_scheduler.py and dag.py, 9.27.1). Where a group failed, Snakemake removes what all of its
    jobs made: those that ended well wait for the first of it that did not. And where a job of a group waits, all of them do.

    Args:
        ended_well: whether the script of a job came to its end.
    """
    dag = workflow.dag
    found: dict[Any, Any] = {}
    for job in workflow.scheduler.failed:
        jobs = jobs_in(job)
        failed = [one for one in jobs if not ended_well(one)] or jobs
        found |= {one: one if one in failed else failed[0] for one in jobs}
    found = dict(sorted(found.items(), key=lambda item: (item[0].rule.name, *item[0].wildcards)))
    left = list(found)
    for job in left:  # which becomes longer: a group does not run where one of its jobs waits
        group = dag.get_job_group(job)
        for waiting in [*dag.bfs(dag.depending, job), *(group or ())]:
            if waiting not in found:
                found[waiting] = found[job]
                left.append(waiting)
    return found


def stated_files(job: Any) -> list[str]:
    """Outputs of a job as its rule states them, see :func:`output_patterns`."""
    return [apply_wildcards(pattern, job.wildcards) for pattern in output_patterns(job.rule)]


def run_apart(workflow: Any, script: Path, targets: Sequence[str], rules: Sequence[str], **environment: str) -> bool:
    """Run this command line again for other targets, on this machine and with these rules only, while this run waits.

    Nothing but a new process can: a workflow is executed once, with the targets that it began with.

    Args:
        script: calls :func:`run_again`.
        environment: variables for it.

    Returns:
        Whether it made them all.
    """
    again = {
        "targets": list(targets),
        "rules": list(rules),
        "snakefile": workflow.main_snakefile,
        "configfiles": list(map(str, workflow.overwrite_configfiles)),
    }
    command = [sys.executable, str(script), json.dumps(again), *sys.argv[1:]]
    with subprocess.Popen(command, env={**os.environ, **environment}) as process:
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            return process.wait() == 0
        except KeyboardInterrupt:  # the other process has it too
            return process.wait() == 0
        finally:
            signal.signal(signal.SIGTERM, before)


def run_again(again: Mapping[str, Any], arguments: Sequence[str]) -> bool:
    """What :func:`run_apart` starts.

    The settings that this process began with are read from its command line and its profiles by the functions that ``main``
    of Snakemake calls, between which it has no place to change them (cli.py, 9.27.1). The folder is the one of the first run,
    which holds the lock on it.
    """
    from snakemake.cli import args_to_api, parse_args

    parser, settings = parse_args([*arguments, "--snakefile", again["snakefile"], "--directory", "."])
    if settings.executor not in (None, "local"):  # cores and jobs are numbers for a cluster
        settings.cores = settings.jobs = settings.local_cores
    settings.configfile = list(map(Path, again["configfiles"]))
    settings.targets, settings.allowed_rules = set(again["targets"]), set(again["rules"])
    settings.force = settings.forceall = False
    settings.forcerun = settings.until = settings.omit_from = set()
    settings.batch = settings.cache = None
    settings.executor, settings.keep_going = "local", True
    settings.nolock = settings.no_hooks = True
    return args_to_api(settings, parser)


# ---- the config


def own_config(workflow: Any, config: Mapping[str, Any], root: Path) -> Layer | None:
    """The config file of this workflow; None where it does not count: with ``--replace-workflow-config``, and for jobs that
    are given the config with which their run began, whatever became of the file.
    """
    if workflow.config_settings.replace_workflow_config or config.get("snapshot"):
        return None
    file = _shown(root / "config.yaml")
    return Layer(file, load_configfile(file))


def _shown(file: Path) -> str:
    """A file as messages call it: below the working directory by its relative path."""
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)


def config_overlays(workflow: Any, config: Mapping[str, Any], root: Path) -> list[Layer]:
    """What the user lays over the workflow's own config file; later ones count more.

    Snakemake hands a workflow its ``config`` with all of this merged, where it cannot be told any more which settings belong
    together. The parts are those of its ``ConfigSettings`` (settings/types.py, 9.27.1); and the dictionary with which another
    workflow imports this one as a module, which replaces them (modules.py, 9.27.1).

    Args:
        config: the variable of that name in the Snakefile.
        root: folder of this workflow. A config.yaml in the working directory counts where that is another one.
    """
    if workflow.modifier.skip_configfile:
        return [Layer(f"config of module {workflow.modifier.namespace}", config, is_file=False)]
    if config.get("snapshot"):
        return [Layer("config of the run", config, is_file=False)]
    given, beside = workflow.config_settings, Path.cwd() / "config.yaml"
    counts = not is_module(workflow) and not Path.cwd().samefile(root)
    found = [beside] if counts and beside.is_file() else []
    names = map(_shown, [*found, *given.configfiles])
    layers = [Layer(name, load_configfile(name)) for name in names]
    return [*layers, Layer.of_options("--config", given.config)] if given.config else layers


# ---- this workflow as a module of another one


def own_rules(workflow: Any) -> dict[str, Any]:
    """Name in this workflow's files → rule, while these are read: another workflow may import them under other names.

    ``workflow.rules`` has the rules of that one too; the proxies behind ``rules`` are those of the module (modules.py, 9.27.1).
    """
    return {name: proxy.rule for name, proxy in workflow.modifier.rule_proxies._rules.items()}


def is_module(workflow: Any) -> bool:
    """Whether another workflow is importing this one."""
    return not workflow.modifier.is_main_snakefile()


def placed(workflow: Any) -> Callable[[str], str]:
    """Path in this workflow's files → where it lies: a module may have a prefix (path_modifier.py, 9.27.1)."""
    replace = workflow.modifier.path_modifier.replace_prefix
    return lambda path: str(replace(path))


# ---- directives of rules


def output_patterns(rule: Any) -> Iterator[str]:
    """The output patterns of a rule as it states them. ``rule.output`` has them with the prefix of a storage already."""
    stated = rule.ruleinfo.output
    for item in () if stated is None else (*stated.paths, *stated.kwpaths.values()):
        yield from [item] if isinstance(item, str) else item


def stated_resources(rule: Any) -> dict[str, Any]:
    """Resources that a rule states. ``rule.resources`` has the defaults too."""
    return dict(rule.ruleinfo.resources[1]) if rule.ruleinfo.resources else {}


def requested_resources(workflow: Any, rule: Any) -> dict[str, Any]:
    """Resources that the command line or a profile sets for a rule, before what it states."""
    return dict(workflow.resource_settings._parsed_overwrite_resources.get(rule.name, {}))


def add_directives(workflow: Any, rule: Any, *, log: str, benchmark: str | None, environment: str) -> None:
    """Give a rule the log, benchmark and conda environment that it does not state.

    As ``Workflow.rule`` does while it reads a rule (workflow.py, 9.27.1): the modifiers move a path into a storage, if there
    is one.
    """
    rule.log_modifier = rule.benchmark_modifier = workflow.modifier.path_modifier
    if not rule.log:
        rule.set_log(log)
    if benchmark and rule.benchmark is None and rule.output:
        rule.benchmark = benchmark
    if rule.conda_env is None:
        rule.conda_env = environment


def add_description(rule: Any, text: str) -> None:
    """Give a rule the description that ``--list-rules`` shows: its docstring, which has to be written out in the rules' language
    and so is one for all rules of a loop (parser.py and workflow.py, 9.27.1).
    """
    rule.docstring = text


def add_resources(rule: Any, resources: Mapping[str, int | Callable[..., int]]) -> None:
    """Give a rule more resources. Its mapping takes only values that ``Resources`` has wrapped (resources.py, 9.27.1)."""
    rule.resources.update(Resources.from_mapping(resources))


# ---- the lock on a directory


def lock_files(workflow: Any) -> list[Path]:
    """Files of the lock that this run took; none with ``--nolock``, or where Snakemake keeps its lock in a database.

    They name nobody and outlive a SIGKILL (persistence/file.py, 9.27.1).
    """
    return [Path(file) for file in getattr(workflow.persistence, "_lockfile", {}).values()]


def replace_lock_message(sentence: str) -> None:
    """Have Snakemake say one sentence instead of its five lines about a lock that it finds.

    The exception is raised after all rules were read, where no code of a workflow could catch it, and carries its text only;
    the log record names its class (exceptions.py, 9.27.1).
    """

    def replace(record: logging.LogRecord) -> bool:
        if getattr(record, "exception", None) == "LockException":
            record.msg = sentence
        return True

    logger.addFilter(replace)


def replace_full_disk_message(sentence: str) -> None:
    """Have Snakemake say one sentence instead of the traceback with which it ends where it cannot write a lock, a record or a script.

    As for a lock. Its handler for the log file would add a traceback for each line that it cannot write (logging.py, 9.27.1).
    """
    full = tuple(f"[Errno {code}]" for code in FULL_DISK)

    def replace(record: logging.LogRecord) -> bool:
        if getattr(record, "exception", None) == "OSError" and any(code in str(record.msg) for code in full):
            record.msg = sentence
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handleError = lambda record: None  # type: ignore[method-assign]
        return True

    logger.addFilter(replace)


# ---- records of what was made


class _Records(FilePersistence):
    """Snakemake's records of jobs, where a job without one counts as one with other parameters, unless it is known to have these.

    Attributes:
        ran_so: rule → function of one of its jobs that says whether that was given what it is given now.
    """

    ran_so: ClassVar[dict[str, Callable[[Any], bool]]] = {}

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self._unknown: set[Any] = set()

    def _read_record(self, key: str) -> Any:
        try:
            return super()._read_record(key)
        except ValueError:  # damaged: no text, or without the form of a record
            return None

    def has_metadata(self, job: Any) -> bool:
        if super().has_metadata(job):
            return True
        ran_so = self.ran_so.get(job.rule.name)
        if ran_so is None or ran_so(job):
            return False
        self._unknown.add(job)
        return True

    def params_changed(self, job: Any, file: Any = None) -> Any:
        if job in self._unknown:
            return ParamsChange(
                only_new={"all of them, since the record of what it was made with is lost"}, files=set(job.output)
            )
        return super().params_changed(job, file)


def rerun_without_record(rules: Iterable[Any], ran_so: Callable[[Any], bool]) -> None:
    """Run a job of these rules again whose record is lost or damaged, unless it is known to have been given what it is given now.

    Snakemake leaves such a job as it is, whatever becomes of its parameters, and says so in a line of its log (update_needrun of dag.py); a
    record that is no text, or lacks its form, ends it with a traceback (persistence/file.py, 9.27.1). It makes its records by this name of
    its module.
    """
    import snakemake.workflow

    _Records.ran_so.update(dict.fromkeys((rule.name for rule in rules if rule.script is not None), ran_so))
    snakemake.workflow.FilePersistence = _Records


# ---- the scheduler


def lift_rate_limit(workflow: Any) -> None:
    """Start as many jobs a second as there are, unless the user has set a limit.

    With the default of 100 a second the scheduler plans another look at all waiting jobs a second after each look, and a look
    after each job too, so that looks become more with every job (https://github.com/snakemake/snakemake/pull/3744, open in
    9.27.1): a quarter of a core for a few hundred jobs. No option turns the limit off.
    """
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limit and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


def limits_starts(workflow: Any) -> bool:
    """Whether anything limits how many jobs start at a time: a resource of the whole run, a sample or a rate."""
    scheduler, scopes = workflow.scheduler, workflow.resource_scopes
    # what is local limits the jobs within a group
    limited = any(
        limit != sys.maxsize for name, limit in scheduler.global_resources.items() if not scopes.is_local(name)
    )
    return bool(limited or scheduler.subsample or scheduler.job_rate_limiter)


# ---- jobs on other machines


def stores_elsewhere(workflow: Any) -> bool:
    """Whether results lie in a storage, so that what was fetched is not below this directory (settings/types.py, 9.27.1)."""
    return workflow.storage_settings.default_storage_provider is not None


def shares_sources(workflow: Any) -> bool:
    """Whether jobs elsewhere read this directory's sources; else they get copies."""
    return SharedFSUsage.SOURCES in workflow.storage_settings.shared_fs_usage


def give_config(workflow: Any, file: Path) -> None:
    """Have jobs elsewhere read this config instead of the files and options of the command line.

    They are started with a command line that is made from these settings (spawn_jobs.py, 9.27.1), and would read files that
    may have changed by then.
    """
    workflow.config_settings.configfiles = [file]
    workflow.config_settings.config_args = ""


# ---- Slurm


def slurm_status_command(workflow: Any) -> str:
    """The command with which the plugin watches its jobs."""
    return workflow.scheduler._executor.get_status_command()


def slurm_request(workflow: Any, job: Any) -> str:
    """The sbatch command of a job, but for what it runs: as ``run_job`` of the plugin composes it (__init__.py, 2.8.0).

    The plugin shows it only in the act of submitting it.
    """
    from snakemake_executor_plugin_slurm.submit_string import get_submit_command
    from snakemake_executor_plugin_slurm.utils import set_gres_string

    executor = workflow.scheduler._executor
    params = {
        "run_uuid": "sinkorigin",
        "slurm_logfile": os.devnull,
        "comment_str": "",
        "account": next(executor.get_account_arg(job)),
        "partition": executor.get_partition_arg(job),
        "workdir": None,
    }
    return get_submit_command(job, params, settings=workflow.executor_settings) + set_gres_string(job)


def keep_watching_jobs(workflow: Any) -> None:
    """Keep an eye on jobs whose state Slurm did not tell.

    The plugin forgets all jobs in a round in which Slurm does not answer, as a busy controller may, and the run would wait for them for
    ever (check_active_jobs, 2.8.0). A round has to yield each job that it does not report as done or failed.
    """
    executor = workflow.scheduler._executor
    check, reported = executor.check_active_jobs, set()

    def noted(report: Callable[..., None]) -> Callable[..., None]:
        def report_and_note(job: Any, *arguments: Any, **named: Any) -> None:
            reported.add(id(job))
            report(job, *arguments, **named)

        return report_and_note

    async def check_active_jobs(jobs: Sequence[Any]) -> AsyncIterator[Any]:
        reported.clear()
        async for _ in check(jobs):
            pass
        for job in jobs:
            if id(job) not in reported:
                yield job

    executor.report_job_success = noted(executor.report_job_success)
    executor.report_job_error = noted(executor.report_job_error)
    executor.check_active_jobs = check_active_jobs


def restrict_slurm_arrays(workflow: Any, rules: set[str]) -> None:
    """Let no other rules than these become job arrays, of those for which the profile asks for arrays.

    The plugin submits an array with what its first job asks for (run_array_jobs, 2.8.0), and loses a job that arrives before
    the others of its array (https://github.com/snakemake/snakemake-executor-plugin-slurm/issues/473, open in 2.8.0).
    """
    executor = workflow.scheduler._executor
    wanted = executor.array_jobs
    executor.array_jobs = {rule for rule in rules if wanted & {"all", rule}}


# ---- the cache between workflows


def use_output_cache(workflow: Any, rules: list[str], cache: type[AbstractOutputFileCache]) -> None:
    """Let these rules take their outputs from a cache of this class and put them there.

    Snakemake has no plugins for caches on a file system and makes its own by this name of its module (workflow.py, 9.27.1).
    It refuses a rule with a benchmark, which a job that takes its outputs from a cache could not write
    (https://github.com/snakemake/snakemake/issues/2238), and the setter of ``benchmark`` takes no None.
    """
    import snakemake.workflow  # cannot be imported before snakemake.api

    for name in rules:
        workflow.get_rule(name)._benchmark = None
    # jobs on other machines get the names, and would not get the empty list that stands for all
    workflow.workflow_settings.cache = rules
    snakemake.workflow.LocalOutputFileCache = cache


def named_outputs(job: Any) -> Iterator[tuple[str | None, Any]]:
    """Name and file of each output of a job. Only this method of the list of outputs gives both (iocontainers.py, 9.27.1)."""
    return job.output._allitems()
