"""Directives that all rules with a script share: log, benchmark, environment and resources.

Snakemake has no way to say them once in its language (a rule's log must name the wildcards of its output, and ``use rule``
copies a log as it is), so they are set on the rules after all have been read. What a rule or the command line says by itself
stays.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from math import ceil
from pathlib import Path
from typing import Any

from snakemake.resources import Resources

from harness.resources import Estimates

# environment of a script that needs less than all packages; any other runs models
_ENVIRONMENTS = {
    "compute.py": "statistics",
    "judge_claims.py": "statistics",
    "label_model.py": "statistics",
    "check_resources.py": "statistics",
    "verify.py": "statistics",
    "plot.py": "figures",
}
_NUMBERS = {"seed", "learning_rate"}  # wildcards that a path names, because their values do not speak for themselves


def job_path(output: str) -> str:
    """Path of a job's log without folder and suffix, from the pattern of an output: ``{model}/{prompts}``, ``{run}/seed={seed}``."""
    names = dict.fromkeys(re.findall(r"{(\w+)", output))
    return "/".join(f"{name}={{{name}}}" if name in _NUMBERS else f"{{{name}}}" for name in names)


def share_directives(workflow: Any, study: str, estimates: Estimates) -> None:
    """Set what the rules share, on every rule that has a script.

    Args:
        workflow: Snakemake's, after all rules were read.
        study: folder of the study's results.
        estimates: what each job needs.
    """
    for rule in workflow.rules:
        if rule.script is None:
            continue
        first = next(stated_outputs(rule.ruleinfo.output), study)
        folder, place = study if first.startswith(study) else str(Path(first).parents[-2]), job_path(first)
        rule.log_modifier = rule.benchmark_modifier = workflow.modifier.path_modifier
        if not rule.log:
            rule.set_log(f"{folder}/logs/{rule.name}{place and '/'}{place}.log")
        if rule.benchmark is None and rule.output:
            rule.benchmark = f"{folder}/benchmarks/{rule.name}{place and '/'}{place}.tsv"
        if rule.conda_env is None:
            rule.conda_env = f"../envs/{_ENVIRONMENTS.get(Path(rule.script).name, 'models')}.yaml"
        stated = rule.ruleinfo.resources[1] if rule.ruleinfo.resources else {}
        stated = {**stated, **workflow.resource_settings._parsed_overwrite_resources.get(rule.name, {})}
        if "mem_mb" in stated:
            continue
        shared = job_resources(rule.name, estimates, runs_model="device" in stated)
        rule.resources.update(Resources.from_mapping({k: v for k, v in shared.items() if k not in stated}))


def stated_outputs(stated: Any) -> Iterator[str]:
    """The output patterns of a rule as it states them, whatever storage they are brought to."""
    for item in () if stated is None else (*stated.paths, *stated.kwpaths.values()):
        yield from [item] if isinstance(item, str) else item


def job_resources(rule: str, estimates: Estimates, *, runs_model: bool) -> Mapping[str, int | Callable[..., int]]:
    """Resources of the jobs of a rule: memory and disk, MB; runtime, minutes; GPUs. All but the GPUs rise with each retry."""

    def needs(quantity: str) -> Callable[..., int]:
        return lambda wildcards: getattr(estimates.of(rule, dict(wildcards.items())), quantity)

    def rising(quantity: str) -> Callable[..., int]:
        needed = needs(quantity)
        return lambda wildcards, attempt: attempt * ceil(needed(wildcards))

    on_gpu = runs_model and estimates.device == "cuda"
    resources = {
        "mem_mb": rising("memory"),
        "runtime": rising("runtime"),
        "disk_mb": rising("disk"),
        "gpu": needs("gpus") if on_gpu else 0,
    }
    if runs_model:
        resources["gpu_mem_mb"] = rising("gpu_memory") if on_gpu else 0
    return resources
