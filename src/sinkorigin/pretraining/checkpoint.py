"""What a training writes: the resumable state, and models as Hugging Face directories."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel
from transformers.utils import logging

from sinkorigin.errors import SinkoriginError
from sinkorigin.pretraining.optimizers import moments, restore
from sinkorigin.tables import atomic_directory, checked_directory


@dataclass
class Progress:
    """Everything besides weights and moments that a resumed run needs."""

    step: int = 0  # optimizer steps done
    since: int = 0  # steps since the last row of the history; loss, norm and seconds are sums over them
    loss: float = 0.0
    norm: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)  # rows of the two tables until now
    timing: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Origin:
    """What must be equal in a run that goes on from a state, see :func:`check_origin`, and the precision that it keeps."""

    settings: dict[str, Any]
    seed: int
    vocabulary: int
    tokenizer_sha256: str
    dtype: str


def step_of(path: Path) -> int:
    """Step of a directory ``step={step}``."""
    return int(path.name.split("=")[1])


def newest_state(state_directory: Path) -> Path | None:
    """State of the latest step, or None where there is none."""
    return max(state_directory.glob("step=*"), key=step_of, default=None)


def save_state(
    state_directory: Path,
    model: torch.nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    progress: Progress,
    origin: Origin,
) -> None:
    """Save weights, optimizer moments, progress and the origin that a resumed run must share.

    At every moment at least one whole state is on the disk. The data need no position and the model no random state:
    batches are a function of seed and step, and nothing is drawn while a model trains.

    Raises:
        SinkoriginError: the disk is full; the previous state is still there.
    """
    tensors = {}
    for name, parameter in model.named_parameters():
        tensors[f"parameter.{name}"] = parameter.detach()
        for moment, tensor in moments(optimizers, parameter):
            tensors[f"{moment}.{name}"] = tensor
    path = state_directory / f"step={progress.step}"
    with atomic_directory(path) as directory:
        save_file(tensors, directory / "state.safetensors")
        # Python's floats survive JSON to the bit
        (directory / "progress.json").write_text(json.dumps(asdict(progress)))
        (directory / "origin.json").write_text(json.dumps(asdict(origin)))
    for older in state_directory.glob("step=*"):
        if older != path:
            shutil.rmtree(older)


def read_origin(path: Path, kept: Sequence[int] = ()) -> Origin:
    """Origin that a state was saved with.

    Args:
        path: the state.
        kept: steps of the models that were kept until now, which a run that goes on from it does not make again.

    Raises:
        SinkoriginError: the state or one of these models is incomplete or damaged.
    """
    try:
        for step in kept:
            checked_directory(path.parent / "checkpoints" / f"step={step}")
        return Origin(**json.loads((checked_directory(path) / "origin.json").read_text()))
    except SinkoriginError as error:
        damage = str(error).partition("; ")[0]
        raise SinkoriginError(
            f"what was trained so far cannot be used: {damage}; delete {path.parent} and run the same command again"
        ) from error


def check_origin(where: str, path: Path, found: Origin, expected: Origin) -> None:
    """Check that a run may go on from the state in ``path``.

    Raises:
        SinkoriginError: the state was written by another configuration, or for a model of another vocabulary.
    """
    if found.vocabulary != expected.vocabulary:
        raise SinkoriginError(
            f"{where}: the state in {path} has a vocabulary of {found.vocabulary} tokens, but the tokenizer has "
            f"{expected.vocabulary}; give the run another state directory, or the tokenizer that the state was trained with"
        )
    old, new = ({**origin.settings, "seed": origin.seed} for origin in (found, expected))
    differences = [
        f"{key} {old.get(key)!r} instead of {new.get(key)!r}"
        for key in sorted(set(old) | set(new))
        if old.get(key) != new.get(key)
    ]
    if found.tokenizer_sha256 != expected.tokenizer_sha256:
        differences.append("another tokenizer")
    if differences:
        raise SinkoriginError(
            f"{where}: the state in {path} was written by another configuration, with {', '.join(differences)}; give the "
            "run another state directory, or the settings of that state"
        )


@torch.no_grad()
def load_state(path: Path, model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> Progress:
    """Fill model and optimizers from a saved state, and return its progress."""
    tensors: dict[str, dict[str, torch.Tensor]] = {}  # parameter's name → kind → tensor
    for key, tensor in load_file(checked_directory(path) / "state.safetensors").items():
        kind, _, name = key.partition(".")
        tensors.setdefault(name, {})[kind] = tensor
    progress = Progress(**json.loads((path / "progress.json").read_text()))
    for name, parameter in model.named_parameters():
        parameter.copy_(tensors[name].pop("parameter"))
        restore(optimizers, parameter, tensors[name], progress.step)
    return progress


def export_model(
    destination: Path, model: PreTrainedModel, tokenizer_directory: Path, provenance: Mapping[str, Any]
) -> None:
    """Write a Hugging Face directory with tokenizer and provenance, whole or not at all."""
    logging.disable_progress_bar()
    with atomic_directory(destination) as directory:
        model.save_pretrained(directory)
        for file in sorted(tokenizer_directory.glob("*token*.json")):
            shutil.copyfile(file, directory / file.name)
        (directory / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")


def publish_kept(kept: Path, destination: Path, steps: Sequence[int]) -> None:
    """Put the kept models of all ``steps`` under one manifest in ``destination``.

    They are linked, not moved: a run that is killed here finds them again when it is started again.
    """
    with atomic_directory(destination) as directory:
        for step in steps:
            model = checked_directory(kept / f"step={step}")
            shutil.copytree(model, directory / model.name, copy_function=_link)


def _link(source: str, destination: str) -> None:
    """Give a file a second name, or copy it where the file system has no hard links."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)
