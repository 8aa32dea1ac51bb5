"""The folders of the interventions of one model and prompt set, of which only those that are missing are made.

An intervention has a folder with a subfolder of tables for each strength. A subfolder appears whole, as soon as it is made.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions.kind import Edit

_MADE_FROM = "made_from.json"

Making = Callable[[Path], AbstractContextManager[Path]]


def key_of(edits: Sequence[Edit], *facts: object) -> str:
    """A hash of some edits and of all other facts (names, numbers, lists) that their tables depend on."""
    return hashlib.sha256(json.dumps([[edit.facts() for edit in edits], *facts], sort_keys=True).encode()).hexdigest()


def _made_from(folder: Path) -> str | None:
    """The key that a folder was made from, or None where it is not whole or damaged."""
    try:
        return json.loads((tables.checked_directory(folder) / _MADE_FROM).read_text())["key"]
    except (SinkoriginError, OSError, ValueError, KeyError):
        return None


def fill(
    directory: str | Path,
    keys: Mapping[str, Mapping[str, str]],
    run: Callable[[list[Path], Making], None],
    *,
    made_elsewhere: str | Path | None = None,
) -> list[str]:
    """Bring ``directory`` to hold just these folders.

    A subfolder that is whole and was made from its key stays as it is, so one more strength costs that strength, and
    what was made before an interruption is not made again.

    Args:
        directory: gets ``{intervention}/{subfolder}/``.
        keys: intervention → subfolder → hash of everything that its tables depend on, see :func:`key_of`.
        run: gets the subfolders to be made, and a context in which to make each: ``with making(path) as folder: …``. It is
            not called when nothing is missing.
        made_elsewhere: another such directory, whose subfolders of the same key are taken, as links, instead of made.

    Returns:
        The subfolders that were made, as ``intervention/subfolder``.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    _keep_only(directory, keys)
    missing: dict[Path, str] = {}
    for name, groups in keys.items():
        (directory / name).mkdir(exist_ok=True)
        _keep_only(directory / name, groups)
        folders = {directory / name / group: key for group, key in groups.items()}
        missing |= {folder: key for folder, key in folders.items() if _made_from(folder) != key}
    if made_elsewhere is not None:
        missing = {
            folder: key for folder, key in missing.items() if not _taken(folder, key, directory, Path(made_elsewhere))
        }

    @contextmanager
    def making(folder: Path) -> Iterator[Path]:
        with tables.atomic_directory(folder) as partial:
            yield partial
            (partial / _MADE_FROM).write_text(json.dumps({"key": missing[folder]}) + "\n")

    if missing:
        run(list(missing), making)
    return [folder.relative_to(directory).as_posix() for folder in missing]


def _taken(folder: Path, key: str, directory: Path, other: Path) -> bool:
    """Whether the other directory had this subfolder of ``directory``, whole and of this key; then it is here too."""
    there = other / folder.relative_to(directory)
    if not there.is_dir() or _made_from(there) != key:
        return False
    with tables.atomic_directory(folder) as partial:
        for file in there.iterdir():
            if file.name != tables.MANIFEST:  # the copy gets another one
                os.link(file, partial / file.name)
    return True


def _keep_only(directory: Path, names: Collection[str]) -> None:
    for old in directory.iterdir():
        if old.name not in names:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
