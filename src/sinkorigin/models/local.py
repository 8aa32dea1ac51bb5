"""What a model on this machine is, by its config.json or its GGUF header, without loading it or importing PyTorch."""

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sinkorigin.errors import SinkoriginError, listed
from sinkorigin.models.decoders import check_decoder
from sinkorigin.models.files import read_config
from sinkorigin.models.gguf_header import check_gguf, read_gguf_header
from sinkorigin.models.shapes import check_numbers

# files of a model directory that are taken; weights in any other form are left behind
MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.py")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def pickled_weights(names: list[str]) -> str | None:
    """First of these files that holds weights as pickle, which can run code when it is read; None without any."""
    return next((name for name in sorted(names) if name.endswith(_PICKLED)), None)


def check_no_adapter(folder: Path, what: str) -> None:
    """Raise a :class:`SinkoriginError` if a folder holds an adapter in place of a whole model."""
    if (folder / "adapter_config.json").is_file():
        raise SinkoriginError(
            f"{what}: its source holds an adapter (adapter_config.json); merge it into its model (merge_and_unload), save that "
            "with save_pretrained, and use a path: source"
        )


def find_model(place: str | Path, what: str) -> Path:
    """Directory of safetensors, or GGUF file, that a place on this machine names.

    A directory without safetensors and with one GGUF file stands for that file.

    Args:
        place: what follows ``path:`` in a model's source.
        what: what messages call the model.

    Raises:
        SinkoriginError: there is nothing, or neither of these; with what is there.
    """
    origin = Path(place).expanduser()
    if not origin.exists():
        raise SinkoriginError(f"{what}: there is no {origin}; correct its source in the config")
    if not origin.is_dir():
        if origin.suffix != ".gguf":
            raise SinkoriginError(f"{what}: {origin} is neither a directory nor a .gguf file; correct its source")
        return origin
    check_no_adapter(origin, what)
    names = os.listdir(origin)
    for name in sorted(names):
        taken = any(fnmatchcase(name, pattern) for pattern in (*MODEL_FILES, "*.gguf"))
        if taken and (origin / name).is_symlink() and not (origin / name).exists():
            raise SinkoriginError(
                f"{what}: {name} in {origin} is a link to {os.readlink(origin / name)}, which is not there; download the model "
                "again, or copy it with `cp -L`"
            )
    if not any(name.endswith(".safetensors") for name in names):
        files = sorted(name for name in names if name.endswith(".gguf"))
        if len(files) == 1:
            return origin / files[0]
        if files:
            raise SinkoriginError(
                f"{what}: {origin} has {len(files)} GGUF files ({listed(files)}); name the one that you mean in the source"
            )
        pickled = pickled_weights(names)
        found = f"only {pickled}, which is pickle" if pickled else "none"
        raise SinkoriginError(
            f"{what}: {origin} has no safetensors weights ({found}); save the model with save_pretrained first"
        )
    if not (origin / "config.json").is_file():
        raise SinkoriginError(f"{what}: {origin} has no config.json; name a Hugging Face model directory")
    return origin


def read_local_config(place: str | Path, what: str) -> dict[str, Any]:
    """The config.json of a decoder on this machine; of a GGUF file, its shape under the same names.

    Args:
        place, what: as in :func:`find_model`.

    Raises:
        SinkoriginError: there is no model, it is damaged, its weights are pickle or quantised in a way that is not read, or it
            is no decoder.
    """
    origin = find_model(place, what)
    if origin.is_dir():
        config = read_config(origin, what)
        check_decoder(config, what)
        return config
    header = read_gguf_header(origin, what)
    check_gguf(header, origin.name, what)
    config = header.config()
    check_numbers(config, what, origin.name)
    return config
