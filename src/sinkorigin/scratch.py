"""Folders for a job's work beside its results: emptied of what a killed job left, and removed when the job is done."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_folder(path: str | Path) -> Iterator[Path]:
    """Make an empty folder for the block and remove it afterwards.

    Args:
        path: the same for every try of a job, and of no other job, so that the next try finds and empties what was left.
    """
    path = Path(path)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def remove_states(folder: Path, seed: int) -> None:
    """Remove the saved states of a training that is done, and of those with other settings that were given up before their end."""
    for state in folder.glob(f".state-seed={seed}-*"):
        shutil.rmtree(state)
