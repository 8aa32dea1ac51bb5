"""The files of a study: which its jobs make, and in which log each has its hash."""

from collections.abc import Iterable, Mapping
from typing import Any

from sinkorigin.errors import SinkoriginError

Jobs = Mapping[str, Iterable[Mapping[str, str]]]  # rule → the wildcards of each of its jobs


def output_files(workflow: Any, jobs: Jobs) -> list[str]:
    """Every output file of these jobs; the manifest of a directory stands for it."""
    return [
        str(file.apply_wildcards(wildcards))
        for name, each in jobs.items()
        for file in workflow.get_rule(name).output
        if not file.is_directory
        for wildcards in each
    ]


def files_with_logs(workflow: Any, jobs: Jobs, demanded: Iterable[str]) -> dict[str, str | None]:
    """File → log of the job that makes it, for every demanded file; None for a file that none of these jobs makes.

    A :class:`SinkoriginError` says if the files lie in a storage, not on this machine.
    """
    if workflow.storage_settings.default_storage_provider:
        raise SinkoriginError(
            "verify compares the files in results/ on this machine, but the results of this run lie in a storage; "
            "copy results/ from it and run verify without --default-storage-provider"
        )
    logs = {
        file: str(workflow.get_rule(name).log[0].apply_wildcards(wildcards))
        for name, each in jobs.items()
        for wildcards in each
        for file in output_files(workflow, {name: [wildcards]})
    }
    return {file: logs.get(file) for file in sorted(map(str, demanded))}
