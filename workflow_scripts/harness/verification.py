"""Comparison of what a job reads, and of a whole study, with the hashes with which it was written."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from sinkorigin.errors import SinkoriginError
from sinkorigin.tables import SEALED, file_hash, hashes_by_place, place_of, record_inputs, remedy, verify

_WITHOUT_SEAL = (".svg", ".png", ".pdf")  # figures, whose hashes are in the logs of their jobs


def verify_inputs(
    paths: Iterable[str], foreign: Iterable[str] = (), *, threads: int = 1, unread: str | None = None
) -> None:
    """Check every file of the study that a job reads, see :func:`sinkorigin.tables.verify`; its outputs will name them.

    Args:
        paths: of the job's inputs. A directory is covered by its manifest, which is an input too.
        foreign: inputs that are files of the user.
        threads: that compute hashes.
        unread: pattern of the files in these directories that the job does not read.

    Raises:
        SinkoriginError: a file is missing, damaged, another one than its name says, or made from other inputs.
    """
    of_user = set(foreign)
    files = [path for path in dict.fromkeys(paths) if path not in of_user and not Path(path).is_dir()]
    files = [path for path in files if Path(path).suffix not in _WITHOUT_SEAL]
    for path in files:
        verify(path, threads, unread=unread)
    record_inputs(hashes_by_place(files))


def record_outputs(paths: Iterable[str]) -> str:
    """A line for each output that does not carry its hash itself, for the log of its job."""
    files = [path for path in map(Path, paths) if path.is_file() and path.suffix not in SEALED]
    return "".join(f"made {place_of(path)}, sha256 {file_hash(path)}\n" for path in files)


def _recorded(path: Path, log: str | None) -> str | None:
    """The hash of an output in the log of its job, or None."""
    if log is None or not Path(log).is_file():
        return None
    text = Path(log).read_text(encoding="utf-8", errors="replace")
    found = re.findall(rf"^made {re.escape(place_of(path))}, sha256 (\w+)$", text, re.MULTILINE)
    return found[-1] if found else None


def verify_figures(paths: Iterable[str], logs: Mapping[str, str]) -> None:
    """Check figures that a job shows, as far as the logs of their jobs are there: those of a cluster may lie on another machine.

    Args:
        logs: rule → log of its job.

    Raises:
        SinkoriginError: a figure is not as it was drawn.
    """
    recorded = {path: _recorded(Path(path), logs.get(f"plot_{Path(path).stem}")) for path in paths}
    wrong = [path for path, sha256 in recorded.items() if sha256 is not None and file_hash(path) != sha256]
    if wrong:
        more = f" (and {len(wrong) - 1} more, which `snakemake verify` names)" if len(wrong) > 1 else ""
        raise SinkoriginError(_changed(Path(wrong[0]), logs[f"plot_{Path(wrong[0]).stem}"], more))


def _changed(path: Path, log: str, more: str = "") -> str:
    """Sentence on a file that does not have the hash in the log of its job."""
    return (
        f"{path} is damaged or was changed{more}: its sha256 is not that in the log of its job, {log}; {remedy(path)}"
    )


def verify_study(files: Mapping[str, str | None], threads: int) -> list[str]:
    """A sentence for each file of a study, path → log of the job that makes it, that is not as it was written."""
    wrong = []
    for path, log in files.items():
        try:
            if not Path(path).is_file():
                raise SinkoriginError(f"{path} is missing; run the study again")
            if Path(path).suffix in SEALED:
                verify(path, threads)
            elif (recorded := _recorded(Path(path), log)) is None:
                raise SinkoriginError(
                    f"{path} cannot be compared, since the log of its job, {log}, does not have its sha256; {remedy(Path(path))}"
                )
            elif file_hash(path) != recorded:
                raise SinkoriginError(_changed(Path(path), str(log)))
        except SinkoriginError as error:
            wrong.append(str(error))
    return wrong
