"""What a run on a cluster needs before its first job: a config that stays as it is, and a Slurm that can run its requests."""

import hashlib
import json
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import snakemake_internals as internals
from harness.installation import wrong_version
from sinkorigin.errors import SinkoriginError

# rules that fetch need the network, which nodes seldom have; the others take seconds
_LIGHT = (
    "fetch_",
    "take_",
    "tokenize_prompts",
    "draw_",
    "plot_",
    "compare_",
    "summarize_",
    "judge_",
    "make_page",
    "resolve_",
)


def light_rules(names: list[str]) -> list[str]:
    """Those of these rules whose jobs run where Snakemake runs."""
    return [name for name in names if name.startswith(_LIGHT)]


def keep_config(workflow: Any, config: Mapping[str, Any]) -> None:
    """Give jobs elsewhere the config of this moment: they read the Snakefile again, and the files may have changed by then."""
    if not internals.shares_sources(workflow):
        return  # they get copies of all sources
    text = json.dumps({"snapshot": True, **config}, default=str)  # a date is told as text, as everywhere
    snapshot = Path(".snakemake/config", f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json").absolute()
    snapshot.parent.mkdir(parents=True, exist_ok=True)
    snapshot.write_text(text)
    internals.give_config(workflow, snapshot)


def prepare_slurm(workflow: Any, device: str, config_files: str) -> None:
    """Check that Slurm can run this study, and let only those rules become job arrays whose jobs ask for the same.

    Args:
        device, config_files: the config's device, and names of its files.

    Raises:
        SinkoriginError: the plugin was not tried, the device is left to this machine, Slurm does not answer, or it refuses a request.
    """
    if device == "auto":
        raise SinkoriginError(
            f"{config_files}: device is auto, which this machine would decide for the nodes; set it to cuda or cpu, in the "
            "profile or with --config device=cuda"
        )
    if sentence := wrong_version("snakemake-executor-plugin-slurm"):
        raise SinkoriginError(sentence)
    check_slurm(internals.slurm_status_command(workflow))
    internals.keep_watching_jobs(workflow)
    requests = {
        job: internals.slurm_request(workflow, job) for job in internals.pending_jobs(workflow) if not job.is_local
    }
    # "TBD" stands for a resource that depends on inputs that are not there yet
    check_requests({request: job.rule.name for job, request in requests.items() if "TBD" not in request})
    internals.restrict_slurm_arrays(workflow, set() if internals.limits_starts(workflow) else alike(requests))


def alike(requests: Mapping[Any, str]) -> set[str]:
    """Rules all of whose jobs have the same request: job → request."""
    found: dict[str, set[str]] = {}
    for job, request in requests.items():
        found.setdefault(job.rule.name, set()).add(request)
    return {rule for rule, different in found.items() if len(different) == 1}


def _says(command: list[str]) -> tuple[bool, str]:
    """Run a command of Slurm: whether it succeeds, and its messages without their prefixes."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        raise SinkoriginError(
            f"{command[0]}: this machine has no such command; run snakemake where Slurm is, "
            "or without the profile: snakemake --cores all"
        ) from None
    except subprocess.TimeoutExpired:
        return False, "no answer for two minutes"
    lines = [re.sub(r"^(\w+: )?(error|allocation failure|fatal): ", "", line) for line in done.stderr.splitlines()]
    return done.returncode == 0, "; ".join(lines)


def check_slurm(status_command: str) -> None:
    """Check that Slurm answers, and its accounting too where jobs are watched through it."""
    answers, words = _says(["sinfo", "--noheader"])
    if not answers:
        raise SinkoriginError(f"sinfo: Slurm does not answer ({words}); try again when sinfo does")
    if status_command == "sacct":
        answers, words = _says(["sacct", "--noheader", "--allocations"])
        if not answers:
            raise SinkoriginError(
                f"sacct: Slurm's accounting does not answer ({words}), so no job would be seen to end; "
                "set slurm-status-command of the profile to squeue"
            )


def check_requests(requests: Mapping[str, str]) -> None:
    """Check that Slurm could run every request: ``sbatch`` command → rule that makes it. Nothing is submitted."""
    for request, rule in requests.items():
        accepted, words = _test(request)
        if not accepted:
            raise SinkoriginError(f"rule {rule}: Slurm refuses its request: {_reason(request, words)}")


def _test(request: str) -> tuple[bool, str]:
    return _says([*shlex.split(request), "--test-only", "--wrap=true"])


def _reason(request: str, words: str) -> str:
    """Slurm's message, and what to correct in the profile."""
    if re.search("account", words, re.IGNORECASE):
        return f"{words}; set slurm_account in default-resources of the profile to one that you may use"
    if re.search("partition", words, re.IGNORECASE):
        return f"{words}; set slurm_partition in the profile to one that sinfo lists"
    gpus = re.search(r" --gpus=(\S+)", request)
    if gpus and _test(request.replace(gpus[0], ""))[0]:
        return (
            f"no node has the {gpus[1]} GPU that it asks for; set gpu_model or slurm_partition of this rule in the "
            "profile (sinfo -o '%P %G' lists what there is), or device to cpu"
        )
    return f"{words} ({request}); correct the resources of this rule in the profile"
