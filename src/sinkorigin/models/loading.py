"""Loading a model directory into PyTorch: one that this project fetched or trained, or any other of Hugging Face's form."""

import json
from pathlib import Path

from sinkorigin.errors import SinkoriginError
from sinkorigin.models.weights import load_weights
from sinkorigin.tables import MANIFEST, checked_directory, place_of


def load_model(
    directory: str | Path,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    threads: int | None = None,
    trust_remote_code: bool = False,
    gpus: int = 1,
):
    """Load the causal language model in ``directory``, in evaluation mode, on ``device``.

    Args:
        directory: a directory with config.json and safetensors weights. Where it has the manifest that this project writes, its
            files are held against that.
        device: "cpu", "cuda", or "mps", the GPU of a Mac.
        dtype: "float32", "bfloat16" or "float16".
        threads: CPU threads of PyTorch; None leaves its choice.
        gpus: number of GPUs that the job has; accelerate spreads the layers over several.

    Raises:
        SinkoriginError: there is no such directory, or it is incomplete, the GPU is not there, the class cannot be loaded, or the weights in the
            directory are not those of the class.
    """
    directory = _intact(Path(directory))
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise SinkoriginError(
            f"{directory.name}: device is cuda but PyTorch sees no GPU on this node; set device: cpu in the config"
        )
    if device == "mps" and not torch.backends.mps.is_available():
        raise SinkoriginError(
            f"{directory.name}: device is mps but PyTorch finds no GPU of Apple here (torch.backends.mps); set device: cpu in the "
            "config"
        )
    spread = device == "cuda" and gpus > 1
    model = load_weights(
        directory,
        f"model {directory}",
        trust_remote_code=trust_remote_code,
        device_map="auto" if spread else None,
        dtype=getattr(torch, dtype),
    )
    if not spread:
        torch.nn.Module.to(model, device)
    return model.eval()


def _intact(directory: Path) -> Path:
    """The directory, if it is there and has the files of its manifest, where it has one of this project.

    Raises:
        SinkoriginError: it does not.
    """
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "is not there"
        raise SinkoriginError(
            f"{directory} {what}; load_model takes a directory with config.json and safetensors weights, anything else is loaded "
            "with transformers' from_pretrained"
        )
    if not _has_manifest(directory):
        return directory
    try:
        return checked_directory(directory)
    except SinkoriginError as error:
        if place_of(directory / MANIFEST):  # in a study, which makes it again
            raise
        reason = str(error).rpartition("; ")[0]
        raise SinkoriginError(
            f"{reason}; take an intact copy, or remove {MANIFEST} from {directory} to load what is there"
        ) from error


def _has_manifest(directory: Path) -> bool:
    """Whether the directory has a manifest of this project, damaged or not: other programs write files of that name too."""
    try:
        return "seal" in json.loads((directory / MANIFEST).read_bytes())
    except FileNotFoundError:
        return False
    except (OSError, ValueError, TypeError, RecursionError):
        return True
