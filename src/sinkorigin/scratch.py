"""A job's own folders beside its results: emptied of what a killed job left, and gone when the job is done."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_folder(path: str | Path) -> Iterator[Path]:
    """An empty folder for the block. Its name is the job's own and always the same, so that the next try finds and empties it."""
    path = Path(path)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def remove_states(folder: Path, seed: int) -> None:
    """Remove the saved states of a training that is done, those of settings that were given up before their end too."""
    for state in folder.glob(f".state-seed={seed}-*"):
        shutil.rmtree(state)
