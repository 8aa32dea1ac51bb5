"""Loading a model directory that was fetched or trained by this project into PyTorch."""

from collections.abc import Sequence
from pathlib import Path

from sinkorigin.errors import SinkoriginError
from sinkorigin.models.files import read_config
from sinkorigin.models.shapes import stated, text_config
from sinkorigin.models.weights import load_weights
from sinkorigin.tables import checked_directory


def check_model_layers(directory: str | Path, layers: Sequence[int], key: str) -> None:
    """Check layer numbers against a model's config.json, without loading the model.

    Args:
        key: key of the config that names the layers, for messages.

    Raises:
        SinkoriginError: the model has no such layer.
    """
    directory = checked_directory(directory)
    config = read_config(directory, f"model {directory.name}")
    count = stated(text_config(config), "layers")
    if count is not None and max(layers) >= count:
        raise SinkoriginError(
            f"{key} has layer {max(layers)}, but model {directory.name} has {count} layers, 0 to {count - 1}; "
            "choose layers in that range"
        )


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
        directory: a directory with config.json, safetensors weights and a manifest.
        device: "cpu", "cuda", or "mps", the GPU of a Mac.
        dtype: "float32", "bfloat16" or "float16".
        threads: CPU threads of PyTorch; None leaves its choice.
        gpus: number of GPUs that the job has; accelerate spreads the layers over several.

    Raises:
        SinkoriginError: the directory is incomplete, the GPU is not there, the class cannot be loaded, or the weights in the
            directory are not those of the class.
    """
    directory = checked_directory(directory)
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
