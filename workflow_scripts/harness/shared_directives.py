"""Directives that all rules with a script share: log, benchmark, environment and resources.

Snakemake has no way to say them once in its language (a rule's log must name the wildcards of its output, and ``use rule``
copies a log as it is), so they are set on the rules after all have been read. What a rule or the command line says by itself
stays.
"""

import re
from collections.abc import Callable, Mapping
from math import ceil
from pathlib import Path
from typing import Any

from harness import snakemake_internals as internals
from harness.resources import Estimates

# environment of a script that needs less than all packages; any other runs models
_ENVIRONMENTS = {
    "compute.py": "statistics",
    "judge_claims.py": "statistics",
    "resolve_interventions.py": "statistics",
    "label_model.py": "statistics",
    "check_resources.py": "statistics",
    "verify.py": "statistics",
    "plot.py": "figures",
    "publish.py": "publish",
    "make_page.py": "page",
}
_NUMBERS = {"seed", "learning_rate"}  # wildcards that a path names, because their values do not speak for themselves


def job_path(output: str) -> str:
    """Path of a job's log without folder and suffix, from the pattern of an output: ``{model}/{prompts}``, ``{run}/seed={seed}``."""
    names = dict.fromkeys(re.findall(r"{(\w+)", output))
    return "/".join(f"{name}={{{name}}}" if name in _NUMBERS else f"{{{name}}}" for name in names)


def share_directives(workflow: Any, rules: Mapping[str, Any], study: str, estimates: Estimates) -> None:
    """Set what the rules share on every rule that has a script, after all were read.

    Args:
        rules: name in this workflow's files → rule.
        study: folder of the study's results.
    """
    for name, rule in rules.items():
        if rule.script is None:
            continue
        first = next(internals.output_patterns(rule), study)
        folder, place = study if first.startswith(study) else str(Path(first).parents[-2]), job_path(first)
        file = f"{name}{place and '/'}{place}"
        stated = internals.stated_resources(rule)
        estimated = "mem_mb" not in stated  # the others are no jobs of the study, and nobody compares what they take
        internals.add_directives(
            workflow,
            rule,
            log=f"{folder}/logs/{file}.log",
            benchmark=f"{folder}/benchmarks/{file}.tsv" if estimated else None,
            environment=f"../envs/{_ENVIRONMENTS.get(Path(rule.script).name, 'models')}.yaml",
        )
        if estimated:
            resources = job_resources(name, estimates, runs_model="device" in stated)
            kept = stated | internals.requested_resources(workflow, rule)
            internals.add_resources(rule, {name: value for name, value in resources.items() if name not in kept})


def job_resources(rule: str, estimates: Estimates, *, runs_model: bool) -> Mapping[str, int | Callable[..., int]]:
    """Resources of the jobs of a rule: memory and disk, MB; runtime, minutes; GPUs. All but the GPUs rise with each retry."""

    def needed(quantity: str, wildcards: Any) -> Any:
        return getattr(estimates.of(rule, dict(wildcards.items())), quantity)

    def rising(quantity: str) -> Callable[..., int]:
        return lambda wildcards, attempt: attempt * ceil(needed(quantity, wildcards))

    on_gpu = runs_model and estimates.device == "cuda"
    resources = {
        "mem_mb": rising("memory"),
        "runtime": rising("runtime"),
        "disk_mb": rising("disk"),
        "gpu": (lambda wildcards: needed("gpus", wildcards)) if on_gpu else 0,
    }
    if runs_model:
        resources["gpu_mem_mb"] = rising("gpu_memory") if on_gpu else 0
    return resources
