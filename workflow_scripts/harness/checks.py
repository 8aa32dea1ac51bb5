"""Checks around a run, before Snakemake starts its first job and after its last, that give one sentence each."""

import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from sinkorigin.errors import SinkoriginError

LOCKED = (
    "sinkorigin: another run is going on in this directory; wait for it or stop it, or if there is none, because it was killed, "
    "add --unlock to this command once"
)

FULL = (
    "sinkorigin: the disk is full, and Snakemake could not write its records in .snakemake; free some space and run the same command "
    "again"
)


@contextmanager
def ending_with_a_sentence() -> Iterator[None]:
    """End the process with the sentences of a :class:`SinkoriginError`, where Snakemake would show a traceback."""
    try:
        yield
    except SinkoriginError as error:
        sys.exit("\n".join(f"sinkorigin: {line}" for line in str(error).splitlines()))


def check_folders(files: Iterable[str]) -> None:
    """Raise a :class:`SinkoriginError` if a file stands where a folder of these files is to be."""
    for folder in sorted({folder for file in files for folder in Path(file).parents}):
        if os.path.lexists(folder) and not folder.is_dir():
            raise SinkoriginError(
                f"{folder} is not a directory, but results are to lie in it; move it away and run the same command again"
            )


def check_writable(folder: str) -> None:
    """Make the folder of the results; raise a :class:`SinkoriginError` if nothing can be written there."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SinkoriginError(
            f"{folder} cannot be written ({error.strerror}); give yourself the right to write there, or run in another "
            "directory"
        ) from error


def check_finished(waiting: Sequence[str], study: str) -> None:
    """Raise a :class:`SinkoriginError` if a study that is to be published has jobs that are still to run.

    Args:
        waiting: rule of each such job.
    """
    if waiting:
        rules = list(dict.fromkeys(waiting))
        which = ", ".join(rules[:3]) + (", …" if len(rules) > 3 else "")
        raise SinkoriginError(
            f"study {study} is not finished, or its code or config was changed since: {len(waiting)} of its jobs are to run ({which}); run it "
            "(snakemake --cores all, with the same config) and publish it then"
        )


def check_model_names(fetching: Mapping[str, Mapping[str, Any]], study: str, config_files: str) -> None:
    """Check that no model is fetched over that of another study, which has the same name and other settings.

    Args:
        fetching: name of each model that is to be fetched → the settings that decide what it is.
        study, config_files: names of the study and of its config files.

    Raises:
        SinkoriginError: naming the model, the setting and the other study.
    """
    from sinkorigin.tables import read_json  # imports pyarrow, which a dry run need not wait for

    for name, new in fetching.items():
        others = sorted({folder.parts[1] for folder in Path("results").glob(f"*/prompts/{name}/")} - {study})
        try:
            there = read_json(f"results/models/{name}.provenance.json")["config"]
        except (SinkoriginError, KeyError):
            continue
        different = [key for key in new if key in there and there[key] != new[key]]
        if others and different:
            key = different[0]
            raise SinkoriginError(
                f"{config_files}: model {name} has {key} {new[key]}, but results/models/{name} was fetched with "
                f"{there[key]} and study {others[0]} uses it; give the model another name in one of the studies, or "
                f"delete results/{others[0]} if it is no longer needed"
            )


def gpu_visible() -> bool:
    """Whether this machine shows a GPU that PyTorch may use: NVIDIA's, also under WSL, or AMD's."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return False
    return any(Path("/dev").glob("nvidia[0-9]*")) or any(Path("/dev", name).exists() for name in ("dxg", "kfd"))


def resolve_device(device: str) -> str:
    """``auto`` → "cuda" where a GPU is visible on this machine, else "cpu"; other values, mps among them, as they are."""
    if device != "auto":
        return device
    return "cuda" if gpu_visible() else "cpu"


def check_gpu(config_files: str, device: str = "cuda") -> None:
    """Raise a :class:`SinkoriginError` if this machine shows no GPU, on which its jobs are to run."""
    if device == "mps":
        if (platform.system(), platform.machine()) != ("Darwin", "arm64"):
            raise SinkoriginError(
                f"{config_files}: device is mps, the GPU of a Mac with Apple silicon, but this machine is none; set device: cpu"
            )
    elif not gpu_visible():
        raise SinkoriginError(
            f"{config_files}: device is cuda, but this machine shows no GPU; set device: cpu, or give the jobs to a cluster"
        )


class ConfigFiles:
    """The config files of a run as they were when it began; a run on a cluster gives its jobs another one later."""

    def __init__(self, files: Sequence[str | Path]):
        self._contents = {file: _content(file) for file in map(Path, files)}

    def changes(self) -> list[str]:
        """A sentence for each file that was edited since."""
        return [
            f"sinkorigin: {file} was changed while this run went on, and what it made is of the settings before; run the same "
            "command again to bring it up to date"
            for file, content in self._contents.items()
            if _content(file) != content
        ]


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None
