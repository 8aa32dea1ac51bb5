"""Sharing expensive outputs with other checkouts and users, by Snakemake's cache between workflows: docs/sharing.md."""

import os
from pathlib import Path
from typing import Any

from harness import snakemake_internals as internals
from harness.code_version import Code
from harness.pins import check_installed
from harness.shared_outputs import SharedOutputs
from sinkorigin.errors import SinkoriginError


def share(workflow: Any, code: Code) -> None:
    """Let the rules that ``--cache`` names, or all that can, take their outputs from the cache and put them there.

    A rule can if its wildcards are one of its parameters: Snakemake leaves them out of the key of a job.

    Raises:
        SinkoriginError: there is no cache, a rule cannot be shared, or packages have other versions than the lock.
    """
    place = os.environ.get("SNAKEMAKE_OUTPUT_CACHE")
    if not place:
        raise SinkoriginError("--cache: SNAKEMAKE_OUTPUT_CACHE is not set; set it to the directory of the cache")
    if not Path(place).expanduser().is_dir():
        raise SinkoriginError(f"SNAKEMAKE_OUTPUT_CACHE: there is no directory {place}; make it, see docs/sharing.md")
    can = [rule.name for rule in workflow.rules if hasattr(rule.params, "wildcards")]
    names = list(workflow.workflow_settings.cache) or can
    for name in sorted(set(names) - set(can)):
        raise SinkoriginError(f"--cache: {name} is not shared; choose from {', '.join(can)}")
    scripts = {Path(rule.script).name for rule in workflow.rules if rule.script}
    try:
        check_installed({package: pin for script in scripts for package, pin in code.packages(script).items()})
    except SinkoriginError as error:
        raise SinkoriginError(f"--cache: {error}") from error
    internals.use_output_cache(workflow, names, SharedOutputs)
