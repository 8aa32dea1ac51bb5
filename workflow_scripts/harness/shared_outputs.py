"""Sharing expensive outputs with other checkouts and users, by Snakemake's cache between workflows: docs/sharing.md."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness.code_version import Code
from harness.pins import check_installed
from harness.snakemake_internals import AbstractOutputFileCache, logger, named_outputs, use_output_cache
from sinkorigin.errors import SinkoriginError
from sinkorigin.tables import MANIFEST, SEALED, verify


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
    use_output_cache(workflow, names, SharedOutputs)


class SharedOutputs(AbstractOutputFileCache):
    """A cache in which all outputs of a job are one folder, named by Snakemake's key of the job.

    Snakemake's local cache keeps every output by itself: of two runs that store a directory at the same time, the second puts
    its directory inside that of the first; a run may find some outputs of a job and not yet the others; and everybody may
    change what lies there. Here a folder takes its name when it is whole, the first one stays, its files are read-only, and
    each run verifies what it takes: its content, and that it was made from the inputs that the run has.
    """

    def __init__(self):
        super().__init__()
        self.path = Path(self.cache_location).expanduser().resolve()

    async def entry(self, job) -> Path:
        return self.path / await self.provenance_hash_map.get_provenance_hash(job)

    def outputs(self, job) -> Iterator[tuple[Path, str]]:
        """Each output with its name in the job's folder; what lies in a directory that is an output comes with it."""
        directories = {Path(file) for file in job.output if file.is_directory}
        for name, file in named_outputs(job):
            if directories.isdisjoint(Path(file).parents):
                suffix = "" if file.is_directory else Path(file).suffix
                yield Path(file), f"{name or 'output'}{suffix}"

    async def exists(self, job) -> bool:
        entry = await self.entry(job)
        return all((entry / name).exists() for _, name in self.outputs(job))

    async def fetch(self, job) -> None:
        """Make the job's outputs from the cache: directories, with links to the files of the cache."""
        entry = await self.entry(job)
        if not await self.exists(job) or not self._sound(entry, job):
            self.raise_cache_miss_exception(job)
        self._link(entry, job)

    async def store(self, job) -> None:
        """Put the job's outputs into the cache, and links in their place. What it cannot take stays where it is."""
        entry = await self.entry(job)
        try:
            with TemporaryDirectory(dir=self.path, prefix=".storing-", ignore_cleanup_errors=True) as folder:
                for file, name in self.outputs(job):
                    _take(file, Path(folder, name))
                _protect(Path(folder))
                _rename_unless_there(Path(folder), entry)
        except OSError as error:
            # copying a directory gathers what went wrong: [(source, destination, reason), …]
            reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror
            logger.warning(f"{self.path} did not take {job}: {reason}; its results stay in this directory.")
            return
        if await self.exists(job) and self._sound(entry, job):
            for file, _ in self.outputs(job):
                shutil.rmtree(file) if file.is_dir() else file.unlink()
            self._link(entry, job)

    def _sound(self, entry: Path, job) -> bool:
        """Whether what the cache has is undamaged, and made from the inputs that lie here; what is not is removed."""
        try:
            for file, name in self.outputs(job):
                if (entry / name).is_dir():
                    verify(entry / name / MANIFEST, at=file / MANIFEST)
                elif file.suffix in SEALED:
                    verify(entry / name, at=file)
        except SinkoriginError as error:
            logger.warning(f"{str(error).partition('; delete ')[0]}; the cache's results are not used.")
            with suppress(OSError):  # a cache that is read-only, or an entry of another user, who alone may remove it
                with TemporaryDirectory(dir=self.path, prefix=".refused-", ignore_cleanup_errors=True) as folder:
                    os.rename(entry, Path(folder, entry.name))
            return False
        return True

    def _link(self, entry: Path, job) -> None:
        logger.info(f"Linking to {entry}.")
        for file, name in self.outputs(job):
            if (entry / name).is_dir():
                shutil.copytree(entry / name, file, copy_function=os.symlink, dirs_exist_ok=True)
            else:
                os.symlink(entry / name, file)


def _take(source: Path, destination: Path) -> None:
    """Put a hard link into the cache, or a copy where it is on another file system."""

    def take(file: str, copy: str) -> None:
        try:
            os.link(file, copy)
        except OSError:
            shutil.copyfile(file, copy)

    if source.is_dir():
        shutil.copytree(source, destination, copy_function=take)
    else:
        take(str(source), str(destination))


def _protect(folder: Path) -> None:
    """Let everybody read, and nobody change what others read; the owner may delete."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o444)


def _rename_unless_there(folder: Path, entry: Path) -> None:
    try:
        os.rename(folder, entry)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another run came first
            raise
