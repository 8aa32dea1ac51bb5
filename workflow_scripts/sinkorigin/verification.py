"""Comparing what a job reads, and what a whole study holds, with the hashes that it was written with."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from sinkorigin.errors import SinkoriginError
from sinkorigin.tables import file_hash, record_inputs, remedy, verify

_SEALED = (".parquet", ".json")  # these carry their hash; that of a figure or page is in the log of its job


def verify_inputs(paths: Iterable[str], foreign: Iterable[str], threads: int) -> None:
    """Check every file of the study that a job reads, see :func:`sinkorigin.tables.verify`; its outputs will name them.

    Args:
        paths: of the job's inputs. A directory is covered by its manifest, which is an input too.
        foreign: inputs that are the user's own files.
        threads: that compute hashes.

    Raises:
        SinkoriginError: a file is missing, damaged, another one than its name says, or made from other inputs.
    """
    own = [path for path in dict.fromkeys(paths) if path not in set(foreign) and not Path(path).is_dir()]
    for path in own:
        verify(path, threads)
    record_inputs(own)


def record_outputs(paths: Iterable[str]) -> str:
    """A line for each output that does not carry its hash itself, for the log of its job."""
    files = [path for path in map(Path, paths) if path.is_file() and path.suffix not in _SEALED]
    return "".join(f"made {path}, sha256 {file_hash(path)}\n" for path in files)


def _recorded(path: Path, log: str | None) -> str | None:
    """The hash of an output in the log of its job, or None."""
    if log is None or not Path(log).is_file():
        return None
    found = re.findall(rf"^made {re.escape(str(path))}, sha256 (\w+)$", Path(log).read_text(errors="replace"), re.M)
    return found[-1] if found else None


def verify_study(files: Mapping[str, str | None], threads: int) -> list[str]:
    """What is wrong with the files of a study, a sentence each.

    Args:
        files: path → log of the job that makes it.
        threads: that compute hashes.
    """
    wrong = []
    for path, log in files.items():
        try:
            if not Path(path).is_file():
                raise SinkoriginError(f"{path} is missing; run the study again")
            if Path(path).suffix in _SEALED:
                verify(path, threads)
            elif file_hash(path) != _recorded(Path(path), log):
                raise SinkoriginError(
                    f"{path} does not have the sha256 that the log of its job records, in {log}; {remedy(Path(path))}"
                )
        except SinkoriginError as error:
            wrong.append(str(error))
    return wrong
