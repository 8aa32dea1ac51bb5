# A run on a cluster: what stays on this machine, the config that jobs read, and what Slurm is asked before any job.

import hashlib
import json
import os

from snakemake.settings.types import SharedFSUsage

from harness.slurm import check_requests, check_slurm

# Fetching needs the network, which nodes seldom have; the others take seconds.
LIGHT = ("fetch_", "take_", "tokenize_prompts", "draw_", "plot_", "compare_", "summarize_", "judge_")
workflow.localrules(*[rule.name for rule in workflow.rules if rule.name.startswith(LIGHT)])


def keep_config():
    """Give jobs elsewhere the config of this moment: they parse the Snakefile again, and the files may have changed."""
    if SharedFSUsage.SOURCES not in workflow.storage_settings.shared_fs_usage:
        return  # they get copies of all sources
    text = json.dumps({"snapshot": True, **config, "device": DEVICE})
    snapshot = Path(".snakemake/config", f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json").absolute()
    snapshot.parent.mkdir(parents=True, exist_ok=True)
    snapshot.write_text(text)
    workflow.config_settings.configfiles = [snapshot]
    workflow.config_settings.config_args = ""


def ask_slurm():
    """End with one sentence where Slurm could not run this study."""
    if STUDY_CONFIG.device == "auto":
        raise SinkoriginError(
            f"{CONFIG_FILES}: device is auto, which this machine would decide for the nodes; "
            "set it to cuda or cpu, in the profile or with --config device=cuda"
        )
    executor = workflow.scheduler._executor
    check_slurm(executor.get_status_command())
    requests = {job: slurm_request(executor, job) for job in workflow.dag.needrun_jobs() if not job.is_local}
    check_requests({request: job.rule.name for job, request in requests.items() if "TBD" not in request})
    wanted = executor.array_jobs
    executor.array_jobs = {rule for rule in alike(requests) if wanted & {"all", rule}}


def slurm_request(executor, job):
    """The sbatch command of a job, but for what it runs."""
    from snakemake_executor_plugin_slurm.submit_string import get_submit_command
    from snakemake_executor_plugin_slurm.utils import set_gres_string

    params = {
        "run_uuid": "sinkorigin",
        "slurm_logfile": os.devnull,
        "comment_str": "",
        "account": next(executor.get_account_arg(job)),
        "partition": executor.get_partition_arg(job),
        "workdir": None,
    }
    return get_submit_command(job, params, settings=workflow.executor_settings) + set_gres_string(job)


def alike(requests):
    """Rules that may become arrays: the plugin submits an array with what its first job asks for.

    None where anything limits how many jobs start at a time: it loses a job that arrives before the others of its array.
    """
    scheduler = workflow.scheduler
    limited = any(limit != sys.maxsize for limit in scheduler.global_resources.values())
    if limited or scheduler.subsample or scheduler.job_rate_limiter:
        return set()
    found = {}
    for job, request in requests.items():
        found.setdefault(job.rule.name, set()).add(request)
    return {rule for rule, different in found.items() if len(different) == 1}


def prepare_run():
    """What a run elsewhere needs before its first job."""
    if not workflow.local_exec:
        keep_config()
    if workflow.executor_plugin.name == "slurm":
        try:
            ask_slurm()
        except SinkoriginError as error:
            sys.exit(f"sinkorigin: {error}")
