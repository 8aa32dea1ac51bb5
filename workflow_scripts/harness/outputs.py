"""The files of a study: which its jobs make, and in which log each has its hash."""

from collections.abc import Iterable, Mapping
from typing import Any

from snakemake.io import apply_wildcards, is_flagged

from harness import snakemake_internals as internals
from sinkorigin.errors import SinkoriginError

Rules = Mapping[str, Any]  # name in this workflow's files → Snakemake's rule
Jobs = Mapping[str, Iterable[Mapping[str, str]]]  # rule → the wildcards of each of its jobs


def output_files(rules: Rules, jobs: Jobs) -> list[str]:
    """Every output file of these jobs, as its rule states it; the manifest of a directory stands for it."""
    return [
        apply_wildcards(pattern, wildcards)
        for name, each in jobs.items()
        if name in rules
        for pattern in internals.output_patterns(rules[name])
        if not is_flagged(pattern, "directory")
        for wildcards in each
    ]


def files_with_logs(
    workflow: Any, rules: Rules, jobs: Jobs, demanded: Iterable[str], reader: str
) -> dict[str, str | None]:
    """File → log of the job that makes it, for every demanded file; None for a file that none of these jobs makes.

    A :class:`SinkoriginError` says if the files lie in a storage, not on this machine, where the rule ``reader`` reads them.
    """
    if workflow.storage_settings.default_storage_provider:
        raise SinkoriginError(
            f"{reader} reads the files in results/ on this machine, but the results of this run lie in a storage; "
            f"copy results/ from it and run {reader} without --default-storage-provider"
        )
    logs = {
        str(file.apply_wildcards(wildcards)): str(rules[name].log[0].apply_wildcards(wildcards))
        for name, each in jobs.items()
        if name in rules
        for file in rules[name].output
        for wildcards in each
    }
    return {file: logs.get(file) for file in sorted(map(str, demanded))}
