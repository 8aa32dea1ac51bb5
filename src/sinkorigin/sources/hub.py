"""The Hugging Face hub: files taken through its shared cache, compared with its hashes, and sentences for what can go wrong."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sinkorigin import tables
from sinkorigin.errors import FULL_DISK, SinkoriginError

_HASH = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")  # sha256 of a large file, git's sha1 of any other


@contextmanager
def hub_errors(repository: str, revision: str, what: str) -> Iterator[None]:
    """Raise what goes wrong with a repository of the hub in this block as one sentence.

    Raises:
        SinkoriginError: the repository is gated, private or not there, or the hub cannot be reached.
        OSError: the disk is full.
    """
    from huggingface_hub import constants, errors

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
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        why = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else "it cannot be reached"
        raise SinkoriginError(
            f"{what}: {repository} at revision {revision} is not whole in the cache of the hub ({constants.HF_HUB_CACHE}), and "
            f"the hub is not asked because {why}; check the network, bring that cache from another machine (HF_HOME), or "
            "download the repository elsewhere and use a path: source"
        ) from error
    except Exception as error:  # the hub's errors, and the connection errors of its HTTP client
        if getattr(error, "errno", None) in FULL_DISK:
            raise
        raise SinkoriginError(
            f"{what}: {repository} cannot be downloaded from the hub ({type(error).__name__}); check the network, "
            "or download it elsewhere and use a path: source"
        ) from error


def take_files(repository: str, revision: str, patterns: Sequence[str], what: str) -> Path:
    """Download the files of a repository that match ``patterns``; the folder of its commit, whose name is the commit.

    They go through the hub's cache (``HF_HOME``), which other programs share; a connection that breaks is taken up where it
    ended, and files that are there are not downloaded again. Where the hub cannot be reached, a cache that holds them all serves.

    Raises:
        SinkoriginError: the repository is gated, private or not there, or the hub cannot be reached and the cache is not whole.
    """
    import huggingface_hub

    with hub_errors(repository, revision, what):
        return Path(huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))


def hub_hashes(repository: str, folder: Path, what: str) -> dict[str, str]:
    """File of a repository → its hash by the hub: sha256 of a large file, git's sha1 of any other.

    Where the hub cannot be reached these are the files in the cache, and the hashes that it gave when they were downloaded, by
    which the cache names their content.

    Args:
        folder: of a commit in the hub's cache, as :func:`take_files` gives it.
    """
    import huggingface_hub
    from huggingface_hub import errors

    try:
        facts = huggingface_hub.HfApi().model_info(repository, revision=folder.name, files_metadata=True)
    except errors.HfHubHTTPError as error:
        with hub_errors(repository, folder.name, what):
            raise error
    except Exception as error:  # of the connection
        print(f"{what}: the hub cannot be reached ({type(error).__name__}), {repository} is taken from {folder}")
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        if not any(name.endswith(".gguf") for name in names):
            take_files(repository, folder.name, ["*.safetensors"], what)  # the cache knows what it lacks
        # the cache keeps copies in place of links where the file system has none; these have no recorded hash
        return {name: found if _HASH.fullmatch(found := (folder / name).resolve().name) else "" for name in names}
    return {
        sibling.rfilename: str(sibling.lfs.sha256 if sibling.lfs else sibling.blob_id or "")
        for sibling in facts.siblings or []
    }


def check_hub_hashes(folder: Path, names: Sequence[str], hashes: Mapping[str, str], what: str) -> None:
    """Compare files with the hashes that the hub gives.

    Raises:
        SinkoriginError: one differs.
    """
    for name in names:
        expected, path = hashes.get(name, ""), folder / name
        if not expected:
            continue
        found = tables.file_hash(path) if len(expected) == 64 else _git_hash(path)
        if found != expected:
            raise SinkoriginError(
                f"{what}: its {name} has the hash {found}, but the hub gives {expected}; delete {path.resolve()} and run the "
                "same command again"
            )


def _git_hash(path: Path) -> str:
    """The sha1 that git gives the content of a file."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    digest.update(path.read_bytes())  # git itself holds only small files of a repository
    return digest.hexdigest()
