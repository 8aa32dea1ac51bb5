"""The folder of one intervention: a subfolder of tables a strength, of which only those that are missing are made."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions.points import Point

_MADE_FROM = "made_from.json"


def key_of(points: Sequence[Point], *facts: object) -> str:
    """A hash of some points and of all other facts (names, numbers, lists) that their tables depend on."""
    return hashlib.sha256(json.dumps([[point.digest for point in points], *facts]).encode()).hexdigest()


def file_hash(path: str | Path) -> str:
    """sha256 of a file."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _made_from(folder: Path) -> str | None:
    """The key that a whole folder was made from, or None."""
    try:
        return json.loads((tables.checked_directory(folder) / _MADE_FROM).read_text())["key"]
    except (SinkoriginError, OSError, ValueError, KeyError):
        return None


def fill(
    directory: str | Path,
    groups: Mapping[str, Sequence[Point]],
    keys: Mapping[str, str],
    run: Callable[[dict[Path, Sequence[Point]]], None],
) -> list[str]:
    """Bring ``directory`` to hold just the folders of ``groups``, with a manifest of all their files.

    A folder that is whole and was made from the same key stays as it is, so one more strength costs that strength.

    Args:
        groups: name of a subfolder → its points.
        keys: name → hash of everything that its tables depend on, see :func:`key_of`.
        run: makes the tables of the points in temporary folders; it is not called when nothing is missing.

    Returns:
        The names of the folders that were made.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / tables.MANIFEST).unlink(missing_ok=True)
    for old in directory.iterdir():
        if old.name not in groups:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    missing = [name for name in groups if _made_from(directory / name) != keys[name]]
    if missing:
        with ExitStack() as stack:
            folders = {name: stack.enter_context(tables.atomic_directory(directory / name)) for name in missing}
            run({folders[name]: groups[name] for name in missing})
            for name, folder in folders.items():
                (folder / _MADE_FROM).write_text(json.dumps({"key": keys[name]}) + "\n")
    tables.write_manifest(directory)
    return missing
