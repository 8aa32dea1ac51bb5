"""Checks before any job that Slurm can run what a study requests."""

import re
import shlex
import subprocess
from collections.abc import Mapping

from sinkorigin.errors import SinkoriginError


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
